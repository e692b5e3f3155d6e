"""The lines of a file of scores, whatever its layout: query, document, score, and the number of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from sdretrieval.corpus.read.report import Tally, Trouble
from sdretrieval.corpus.read.tables.columns import JUDGED_DOCUMENT_NAMES, JUDGED_QUERY_NAMES, as_text, named, required
from sdretrieval.corpus.read.tables.files import Format, format_of, text_lines
from sdretrieval.corpus.read.tables.records import read_records
from sdretrieval.errors import RequestError
from sdretrieval.progress import track

SCORE_NAMES = ("score", "scores", "logit", "logits", "similarity", "sim", "relevance")
EXPECTED = "expected query, document, score (or a TREC run: query Q0 document rank score tag)"
REMEDY = "Rename it in the file, or leave out the line of names: query, document, score parted by tabs."
TREC_FIELDS = 6
SHOWN = 3
"""Broken lines that a message names."""


class ScoredLine(NamedTuple):
    """One line, not judged yet: an id may be missing, the score be anything."""

    number: int
    query: str | None
    document: str | None
    score: Any


def broken_lines(path: Path, count: int, shown: Iterable[str]) -> RequestError:
    """The refusal of a file with `count` broken lines, the first of them `shown`."""
    listed = "; ".join(shown)
    more = f" (and {count - SHOWN:,} more)" if count > SHOWN else ""
    return RequestError(
        f"scores {path}: {count:,} broken line{'s' if count > 1 else ''}: {listed}{more}; {EXPECTED}. A file that "
        "teaches must be whole: mend it, or write it again"
    )


class _Strict(Tally):
    """A tally that takes no broken line."""

    def require_few_broken(self) -> None:
        found = self.report().troubles
        for trouble in (Trouble.BROKEN, Trouble.REPLACED):
            if trouble in found:
                shown = [*found[trouble].examples[:SHOWN]]
                raise broken_lines(Path(self.source), found[trouble].count, shown)


def scored_lines(path: Path, column: str | None) -> Iterator[ScoredLine]:
    """The lines of one file; `column` names that of the scores. Raises RequestError for lines that cannot be parted."""
    kind = format_of(path)
    if kind is Format.PARQUET:
        return _from_parquet(path, column)
    if kind in (Format.CSV, Format.JSONL) or (kind is Format.TSV and _has_names(path)):
        return _from_table(path, column)
    if column is not None:
        raise RequestError(f"scores {path}: column {column!r} is asked for, but the file has no line of names")
    return _from_fields(path)


def _has_names(path: Path) -> bool:
    """Whether the first line holds no score where one is expected."""
    first = next((line for _, line in text_lines(path, Tally(str(path), "")) if line.strip()), "")
    fields = _fields(first)
    return bool(fields) and not _is_number(fields[4 if len(fields) == TREC_FIELDS else -1])


def _fields(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t") if "\t" in line else line.split()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_fields(path: Path) -> Iterator[ScoredLine]:
    tally = _Strict(str(path), "pairs")
    for number, line in track(text_lines(path, tally), f"{path.name}: reading", "lines"):
        fields = _fields(line)
        if len(fields) == 3:
            yield ScoredLine(number, fields[0].strip(), fields[1].strip(), fields[2])
        elif len(fields) == TREC_FIELDS:  # whose ids are written percent-encoded where they hold a space
            yield ScoredLine(number, unquote(fields[0]), unquote(fields[2]), fields[4])
        elif line.strip():
            tally.note(Trouble.BROKEN, number, f"{len(fields)} fields, expected 3")
    tally.require_few_broken()


def _from_table(path: Path, column: str | None) -> Iterator[ScoredLine]:
    names: tuple[str, str, str] | None = None
    for line, values in read_records(path, _Strict(str(path), "pairs")):
        names = names or _columns(list(values), column, f"scores {path}")
        query, document, score = (values.get(name) for name in names)
        yield ScoredLine(line, _identifier(query), _identifier(document), score)


def _from_parquet(path: Path, column: str | None) -> Iterator[ScoredLine]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = _columns(file.schema_arrow.names, column, f"scores {path}")
            number = 0
            for batch in file.iter_batches(1 << 16, columns=list(names)):
                for query, document, score in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                    number += 1
                    yield ScoredLine(number, _identifier(query), _identifier(document), score)
    except (pa.ArrowException, OSError) as error:
        raise RequestError(f"scores {path}: no Parquet file or a damaged one: {error!s:.160}") from None


def _columns(names: Sequence[str], column: str | None, source: str) -> tuple[str, str, str]:
    query = required("query's id", JUDGED_QUERY_NAMES, names, source, REMEDY)
    document = required("document's id", JUDGED_DOCUMENT_NAMES, names, source, REMEDY)
    if column is not None:
        return query, document, named(column, names, source)
    remedy = "Name it in the config: teacher.column."
    return query, document, required("score", SCORE_NAMES, names, source, remedy)


def _identifier(value: Any) -> str | None:
    text = as_text(value)
    return text.strip() if text is not None else None
