"""What a parser makes of a text, short enough to compare."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from sdretrieval.corpus.read.documents.blocks import Kind, Parsed

H, P, L, C, T = Kind.HEADING, Kind.PARAGRAPH, Kind.LIST_ITEM, Kind.CODE, Kind.TABLE_ROW


def said(parse: Callable[[str], Parsed], text: str) -> list[tuple[Kind, str] | tuple[Kind, str, int]]:
    """Kind, text and, of a heading, level of each block that has a text."""
    blocks = parse(textwrap.dedent(text).strip("\n")).blocks
    return [(b.kind, b.text, b.level) if b.level else (b.kind, b.text) for b in blocks if b.text]
