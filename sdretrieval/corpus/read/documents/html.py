"""HTML to blocks, by Lexbor, a parser that follows the WHATWG standard: what is read is what a browser shows.

Left out: scripts, styles, what is around the text (`AROUND`) and the signs that link a heading to itself. The words
around the text are counted; a page that has no others is read whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, load_parser, one_line, table_row

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

UNSEEN = ["script", "style", "template"]
"""What no browser shows."""
AROUND = (
    "nav, footer, noscript, svg, iframe, object, select, header:not(article *, main *), "
    '[role="navigation" i], [role="banner" i], [role="contentinfo" i], [role="search" i]'
)
"""A header within an article or a main part holds its title and stays."""
LINKS_TO_ITSELF = "a.headerlink, a.anchor-link, a.anchorjs-link"
SIGNS_OF_LINKS = frozenset({"#", "¶", "§", "🔗", "\uf0c1"})
HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
BLOCKS = HEADINGS | frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption "
    "figure footer form header hgroup hr html legend li main menu nav ol optgroup option p search section select "
    "summary table tbody td textarea tfoot th thead title tr ul".split()
)
"""Elements that a word does not go on behind."""
APART = frozenset("audio br button canvas input meter progress video".split())
"""Elements within a line that a word does not go on behind."""
CODE = frozenset("listing plaintext pre xmp".split())
MORE_THAN_CELLS = ", ".join(["table", "ul", "ol", *sorted(CODE | HEADINGS)])
"""A row that holds one of these lays out a page: it is read block by block."""
DEEPEST = 20_000
"""Blocks within each other: the parser takes seconds for these, and four times as long for twice as many."""
DEEPENS = re.compile(
    r"<(/?)(?:article|aside|blockquote|center|details|div|dl|fieldset|figure|form|main|menu|ol|section|ul)\b"
)
PART_OF_TABLE = re.compile(r"\s*</?(?:caption|col|colgroup|tbody|td|tfoot|th|thead|tr)\b", re.IGNORECASE)
CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
MARKED_SECTION = re.compile(r"<!\[(?!if\b|else\b|endif\b)", re.IGNORECASE)
CLOSES_ITSELF = re.compile(r"<(title|script|style|textarea|iframe|xmp)\b([^<>]*)/>", re.IGNORECASE)
OPEN_TITLE = re.compile(r"<title\b[^>]*>[^<]*+(?!</title)", re.IGNORECASE)


def parse_html(text: str) -> Parsed:
    """Blocks without markup and boilerplate, and what the page's head calls it.

    Raises ValueError if elements are within each other to a depth that no page has.
    """
    root = _root(text)
    title = root.css_first("title:not(svg *)")
    around = root.css(AROUND)
    passed = {node.mem_id for node in (*around, *root.css(LINKS_TO_ITSELF))}
    blocks = list(_walk(root, passed))
    within = {node.mem_id for node in root.css(f":is({AROUND}) :is({AROUND})")}
    left_out = sum(len(node.text(separator=" ").split()) for node in around if node.mem_id not in within)
    if left_out and not blocks:
        blocks, left_out = list(_walk(root)), 0
    return Parsed(blocks, one_line(title.text()) if title else "", words_left_out=left_out)


def html_blocks(text: str) -> Iterator[Block]:
    """The blocks of a piece of HTML, of which nothing is boilerplate."""
    return _walk(_root(("<body><table>" if PART_OF_TABLE.match(text) else "<body>") + text))


def _root(text: str) -> LexborNode:
    """The root element. What would hide the rest of a page is mended first: a comment or a title that has no end,
    XHTML's `<script/>`, and `<![`, which to a browser opens a comment up to the next `>`.

    Raises ValueError for what would take hours.
    """
    lower = text.lower()
    steps = DEEPENS.findall(lower) if text.count("<") > DEEPEST else []
    if max(accumulate(-1 if end else 1 for end in steps), default=0) > DEEPEST:
        raise ValueError(f"elements within elements, deeper than {DEEPEST:,}")
    if lower.find("</title", max(0, lower.rfind("<title"))) < 0:
        text = OPEN_TITLE.sub(r"\g<0></title>", text)
    end = text.rfind("]]>") + 3
    text = CDATA.sub(lambda data: escape(data[1]), text[:end]) + text[end:]
    text = CLOSES_ITSELF.sub(r"<\1\2></\1>", MARKED_SECTION.sub("&lt;![", text))
    end = max(text.rfind("-->"), text.rfind("--!>"), 0)
    text = text[:end] + text[end:].replace("<!--", "")
    root: LexborNode = load_parser("selectolax.lexbor", ".html").LexborHTMLParser(text).root
    root.strip_tags(UNSEEN)
    return root


def _walk(root: LexborNode, passed: Collection[int] = ()) -> Iterator[Block]:
    """In reading order, without the nodes whose `mem_id` is in `passed`, with a stack of our own: pages nest deeper
    than Python calls itself."""
    parts, items = list[str](), 0  # the text since the last border of a block; how many list items we are in
    stack = [(root, True)]
    while stack:
        node, entering = stack.pop()
        name = node.tag or "-"
        if name == "-text":
            parts.append(node.text_content or "")
        if name[0] == "-" or (entering and (name == "head" or node.mem_id in passed or _is_sign(node, name))):
            continue
        if name in APART:
            parts.append(" ")
        if name in BLOCKS or name in CODE:
            text = one_line("".join(parts))
            parts.clear()
            if text and not entering and name in HEADINGS:
                yield Block(Kind.HEADING, text, int(name[1]))
            elif text:
                yield Block(Kind.LIST_ITEM if items else Kind.PARAGRAPH, text)
        if name == "li":
            items += 1 if entering else -1
        if entering and name in CODE:
            yield Block(Kind.CODE, node.text().strip("\n"))
        elif entering and name == "tr" and node.css_first(MORE_THAN_CELLS) is None:
            cells = [" ".join(block.text for block in _walk(cell, passed)) for cell in node.iter()]
            if any(cells):
                yield table_row(cells)
        elif entering:
            stack.append((node, False))
            child = node.last_child
            while child:
                stack.append((child, True))
                child = child.prev
    if text := one_line("".join(parts)):
        yield Block(Kind.PARAGRAPH, text)


def _is_sign(node: LexborNode, name: str) -> bool:
    """Whether a link shows nothing but a sign that it is one."""
    inner = node.first_child if name == "a" else None
    return inner is not None and inner.next is None and (inner.text_content or "").strip() in SIGNS_OF_LINKS
