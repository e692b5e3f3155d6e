"""Our readers of HTML and PDF beside others, on real files: words kept, headings, rows of tables, titles, seconds.

    python -m benchmarks.readers PDFTOTEXT FILE [FILE ...]

PDFTOTEXT is the command of poppler-utils; words of a PDF are counted against its text, those of a page against the
text of its <main> (or <body>) element. The others are used if they are installed, in an environment of their own:
pip install trafilatura 'markitdown[pdf]' docling-parse pypdfium2 pymupdf4llm (the last needs PyMuPDF, which is AGPL).
Prints a table.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed
from sdretrieval.corpus.read.documents.html import parse_html
from sdretrieval.corpus.read.documents.markdown import parse_markdown
from sdretrieval.corpus.read.documents.pdf import parse_pdf

Reader = Callable[[Path], Parsed]


def ours(path: Path) -> Parsed:
    """What the library itself reads."""
    if path.suffix != ".pdf":
        return parse_html(path.read_text("utf8", "replace"))
    parsed = parse_pdf(path.read_bytes())
    return parsed if isinstance(parsed, Parsed) else Parsed([])


def trafilatura(path: Path) -> Parsed:
    """HTML only; Markdown is its form that keeps headings and tables."""
    from trafilatura import extract

    page = path.read_text("utf8", "replace")
    return parse_markdown(extract(page, output_format="markdown", favor_recall=True, include_tables=True) or "")


def markitdown(path: Path) -> Parsed:
    """HTML by markdownify, PDF by pdfminer and pdfplumber."""
    from markitdown import MarkItDown

    return parse_markdown(MarkItDown().convert(str(path)).text_content)


def pymupdf4llm(path: Path) -> Parsed:
    """PDF only."""
    from pymupdf4llm import to_markdown

    return parse_markdown(to_markdown(str(path)))


def docling(path: Path) -> Parsed:
    """PDF only: the lines of docling's own parser, without docling's models of layout, which come from a hub."""
    from docling_core.types.doc.page import TextCellUnit
    from docling_parse.pdf_parser import DoclingPdfParser

    pages = DoclingPdfParser(loglevel="fatal").load(str(path)).iterate_pages()
    lines = [cell.text for _, page in pages for cell in page.iterate_cells(unit_type=TextCellUnit.LINE)]
    return Parsed([Block(Kind.PARAGRAPH, line) for line in lines])


def pypdfium2(path: Path) -> Parsed:
    """PDF only: the text of Chrome's reader, a paragraph a line."""
    import pypdfium2

    pages = (page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(path))
    # U+0002, formerly U+FFFE, is its sign for the hyphen of a broken word
    lines = [line for text in pages for line in re.sub("[\x02\ufffe]", "", text).splitlines()]
    return Parsed([Block(Kind.PARAGRAPH, line) for line in lines])


READERS: dict[str, dict[str, Reader]] = {
    ".html": {"ours": ours, "trafilatura": trafilatura, "markitdown": markitdown},
    ".pdf": {
        "ours": ours,
        "markitdown": markitdown,
        "docling": docling,
        "pymupdf4llm": pymupdf4llm,
        "pypdfium2": pypdfium2,
    },
}


def words(text: str) -> Counter[str]:
    """Words with their counts, in one case; hyphens at line ends are mended."""
    return Counter(re.findall(r"\w{2,}", re.sub(r"(\w)-\n(\w)", r"\1\2", text).casefold()))


def plain_text(path: Path, pdftotext: str) -> str:
    """The file's words without a reader's judgement."""
    if path.suffix == ".pdf":
        return subprocess.run([pdftotext, str(path), "-"], check=True, capture_output=True, text=True).stdout
    from selectolax.lexbor import LexborHTMLParser

    page = LexborHTMLParser(path.read_text("utf8", "replace"))
    page.strip_tags(["script", "style"])
    return (page.css_first("main, [role=main]") or page.body or page.root).text(separator=" ")


def main(pdftotext: str, *files: str) -> None:
    """One row a reader and kind of file: sums over the files."""
    print("| kind | reader | files | kept | extra | order | headings | table rows | titles | seconds | failed |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for suffix, readers in READERS.items():
        paths = [Path(file) for file in files if file.endswith(suffix)]
        plain = {path: plain_text(path, pdftotext) for path in paths}
        for name, read in readers.items():
            sums: Counter[str] = Counter()
            failed: list[str] = []
            start = time.perf_counter()
            for path in paths:
                try:
                    parsed = read(path)
                except ImportError as error:
                    failed.append(str(error))
                    break
                except Exception as error:  # a reader's fault is a result
                    failed.append(f"{path.name}: {type(error).__name__}")
                    continue
                text = "\n".join(block.text for block in parsed.blocks)
                found, wanted = words(text), words(plain[path])
                pairs, right = (set(pairwise(w)) for w in map(list_of_words, (text, plain[path])))
                sums += Counter(
                    kept=(found & wanted).total(), wanted=wanted.total(), extra=(found - wanted).total(),
                    pairs=len(pairs & right), all_pairs=len(right), titles=bool(parsed.title),
                    headings=sum(block.kind is Kind.HEADING for block in parsed.blocks),
                    rows=sum(block.kind is Kind.TABLE_ROW for block in parsed.blocks),
                )  # fmt: skip
            print(
                f"| {suffix} | {name} | {len(paths)} | {sums['kept'] / max(sums['wanted'], 1):.1%} | {sums['extra']} | "
                f"{sums['pairs'] / max(sums['all_pairs'], 1):.1%} | {sums['headings']} | {sums['rows']} | "
                f"{sums['titles']} | {time.perf_counter() - start:.1f} | {'; '.join(failed)[:80]} |",
                flush=True,
            )


def list_of_words(text: str) -> list[str]:
    """Words in their order: two columns that are mixed lose their pairs of neighbours."""
    return re.findall(r"\w{2,}", re.sub(r"(\w)-\n(\w)", r"\1\2", text).casefold())


if __name__ == "__main__":
    main(*sys.argv[1:])
