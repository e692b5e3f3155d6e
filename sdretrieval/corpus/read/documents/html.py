"""HTML to blocks, by Beautiful Soup over the standard library's parser: the same blocks on every machine.

Left out: scripts, styles, what is around the text (nav, header, footer, and the roles that name the same) and the
signs that link a heading to itself. A header within an article or a main part holds its title and stays.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, load_parser, one_line, table_row

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

DROPPED = frozenset("script style nav footer noscript template svg head title iframe object select".split())
DROPPED_ROLES = frozenset({"navigation", "banner", "contentinfo", "search"})
LINKS_TO_ITSELF = frozenset({"headerlink", "anchor-link", "anchorjs-link"})
SIGNS_OF_LINKS = frozenset({"#", "¶", "§", "🔗", "\uf0c1"})
HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure form "
    "hr html legend li main ol p pre section summary table tbody td tfoot th thead tr ul".split()
)
COUNTED = ("li", "article", "main")
"""Whether we are within one of these is asked again and again; to look upwards each time costs the depth."""
CELLS = ["td", "th"]
MORE_THAN_CELLS = ["table", "tr", "pre", "ul", "ol", *sorted(HEADINGS)]
"""A row that holds one of these lays out a page: it is read block by block."""


def parse_html(text: str) -> Parsed:
    """Blocks without markup and boilerplate, and what the page's head calls it."""
    soup = _soup(text)
    title = soup.find("title")
    return Parsed(list(_walk(soup)), one_line(title.get_text()) if title else "")


def html_blocks(text: str) -> Iterator[Block]:
    """The blocks of a piece of HTML."""
    return _walk(_soup(text))


def _soup(text: str) -> BeautifulSoup:
    bs4 = load_parser("bs4", ".html")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it looks like XML or like a file's name: the user said what it is
        try:
            soup: BeautifulSoup = bs4.BeautifulSoup(text, "html.parser")
        except bs4.exceptions.ParserRejectedMarkup:
            # All that it rejects is `<![` without a known name behind; to a browser that is text or a comment.
            soup = bs4.BeautifulSoup(text.replace("<![", "&lt;!["), "html.parser")
    return soup


def _walk(root: Tag) -> Iterator[Block]:
    """In reading order, with a stack of our own: pages nest deeper than Python calls itself."""
    from bs4 import Tag

    parts, within = list[str](), dict.fromkeys(COUNTED, 0)  # the text since the last border of a block
    stack: list[tuple[Any, bool]] = [(root, True)]
    while stack:
        node, entering = stack.pop()
        if not isinstance(node, Tag):
            if _is_text(node):
                parts.append(str(node))
            continue
        name = node.name.lower()
        if entering and _is_dropped(node, name, bool(within["article"] or within["main"])):
            continue
        if name == "br":
            parts.append(" ")
        if name in BLOCKS or name in HEADINGS:
            text = one_line("".join(parts))
            parts.clear()
            if text and not entering and name in HEADINGS:
                yield Block(Kind.HEADING, text, int(name[1]))
            elif text:
                yield Block(Kind.LIST_ITEM if within["li"] else Kind.PARAGRAPH, text)
        if name in COUNTED:
            within[name] += 1 if entering else -1
        if entering and (whole := _whole_block(node, name)):
            yield whole
        elif entering:
            stack.append((node, False))
            stack.extend((child, True) for child in reversed(node.contents))
    if text := one_line("".join(parts)):
        yield Block(Kind.PARAGRAPH, text)


def _whole_block(node: Tag, name: str) -> Block | None:
    """Code and rows of tables, which are taken in one piece; None for all else, and for an empty one."""
    if name == "pre":
        code = node.get_text().strip("\n")
        return Block(Kind.CODE, code) if code.strip() else None
    if name == "tr" and not node.find(MORE_THAN_CELLS):
        # Each string goes to the innermost cell around it: where end tags are left out, each cell holds the next.
        texts: dict[int, list[str]] = {}
        for text in node.strings:
            texts.setdefault(id(text.find_parent(CELLS)), []).append(text)
        cells = [one_line(" ".join(parts)) for parts in texts.values()]
        return table_row(cells) if any(cells) else None
    return None


def _is_text(node: Any) -> bool:
    from bs4.element import CData, NavigableString

    return type(node) in (NavigableString, CData)  # its subclasses are comments, doctypes, scripts


def _is_dropped(node: Tag, name: str, in_article: bool) -> bool:
    if name == "header":
        return not in_article
    if name in DROPPED or str(node.get("role", "")).lower() in DROPPED_ROLES:
        return True
    classes: Any = node.get("class") or []
    inner = node.contents
    # A link shows nothing but a sign that it is one; not by `get_text`, which reads all that is in it.
    sign = len(inner) == 1 and _is_text(inner[0]) and str(inner[0]).strip() in SIGNS_OF_LINKS
    to_itself = not LINKS_TO_ITSELF.isdisjoint([classes] if isinstance(classes, str) else classes)
    return name == "a" and (sign or to_itself)
