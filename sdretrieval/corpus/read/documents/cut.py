"""Blocks to passages: cut at headings, then paragraphs, then sentences; where it cuts depends on nearby text only.

A section too long for one passage is cut where the paragraph (or sentence) that follows has the smallest hash among
those that leave the passage reasonably full. Both sides of an edit choose the same places again, so that the ids of
far passages survive it; filling each passage to the brim would move every later border of the section.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from sdretrieval.corpus.read.documents.blocks import (
    UNSPACED_STOPS,
    Block,
    Kind,
    Parsed,
    as_written,
    one_line,
    runs_of_words,
    sentences,
    word_count,
)
from sdretrieval.corpus.text import text_digest

FULL_ENOUGH = 0.6
"""A passage of a longer section holds at least this share of what it may hold, where its paragraphs allow it.

Measured on the manual of man-db: an edit changes 3 passages in the 90th percentile, of 75 (0.9: 8 of 67)."""
SMALL_SHARE = 0.25
"""A section that holds, with all sections in it, at most this share of `max_words` is one passage."""
BETWEEN_HEADINGS = " > "


class Passage(NamedTuple):
    """A row of the corpus to be: `key` is the part of its id behind the file's path."""

    key: str
    title: str
    text: str


@dataclass
class Section:
    """What is between a heading and the next of its level: blocks first, then the sections below it."""

    heading: str
    level: int
    blocks: list[Block] = field(default_factory=list)
    children: list[Section] = field(default_factory=list)

    def is_bare(self) -> bool:
        """Whether there is nothing under the heading."""
        return not self.blocks and not self.children

    def flat(self) -> list[Block]:
        """All that is in the section, the headings below it among its paragraphs."""
        below = [[Block(Kind.PARAGRAPH, child.heading), *child.flat()] for child in self.children]
        return [*self.blocks, *(block for blocks in below for block in blocks)]


class Piece(NamedTuple):
    """What is never cut: a sentence, a line of code, a row of a table; of one too long for a passage, a part."""

    text: str
    words: int
    opens_block: bool
    gap: str
    """What comes before it within a passage."""


def cut(parsed: Parsed, name: str, max_words: int, overlap_words: int) -> Iterator[Passage]:
    """The passages of a file. Its title is its first heading, if that is alone on its level, else the metadata's,
    else `name`; it is no part of the keys, so that a new title changes none."""
    root = section_tree([block._replace(text=as_written(block.text)) for block in parsed.blocks])
    title = as_written(parsed.title) or name
    if len(root.children) == 1 and not root.children[0].is_bare():
        # The heading of the only section on the highest level no longer names that section.
        title, root.children[0].heading = root.children[0].heading or title, ""
    seen: Counter[str] = Counter()
    for path, text in _texts(root, (), max_words, overlap_words):
        key = hashlib.blake2b("\x1f".join([*path, text]).encode("utf8", "replace"), digest_size=5).hexdigest()
        seen[key] += 1
        yield Passage(f"{key}-{seen[key]}" if seen[key] > 1 else key, BETWEEN_HEADINGS.join([title, *path]), text)


def section_tree(blocks: Sequence[Block]) -> Section:
    """The sections of a file; the root is what comes before and above all headings. Empty blocks are left out."""
    root = Section("", 0)
    stack = [root]
    for block in blocks:
        if not block.text.strip():
            continue
        if block.kind is Kind.HEADING:
            while stack[-1].level >= block.level:
                stack.pop()
            stack.append(Section(one_line(block.text), block.level))
            stack[-2].children.append(stack[-1])
        else:
            stack[-1].blocks.append(block)
    return root


def _texts(section: Section, path: tuple[str, ...], most: int, overlap: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """Heading path and text of each passage, in reading order."""
    flat = section.flat()
    small = len(flat) <= most and sum(word_count(block.text) for block in flat) <= SMALL_SHARE * most
    # A heading with nothing under it names no passage: it is said by the section that it is in.
    bare = [Block(Kind.PARAGRAPH, child.heading) for child in section.children if child.is_bare()]
    own = flat if small else [*section.blocks, *bare]
    for text in cut_blocks(own, most, overlap):
        yield path, text
    if not small:
        for child in section.children:
            if not child.is_bare():
                yield from _texts(child, (*path, child.heading) if child.heading else path, most, overlap)


def cut_blocks(blocks: Sequence[Block], most: int, overlap: int) -> Iterator[str]:
    """The texts of the passages of one section: neighbours share whole sentences of up to `overlap` words."""
    pieces = []
    for block in blocks:
        gap, code = "\n", block.kind is Kind.CODE
        whole = [block.text] if block.kind is Kind.TABLE_ROW else sentences(block.text)
        for number, part in enumerate(block.text.split("\n") if code else whole):
            for run, text in enumerate(runs_of_words(part, most - overlap)):
                pieces.append(Piece(text, word_count(text), number == run == 0, "" if run else gap))
            gap = "\n" if code else "" if part.endswith(UNSPACED_STOPS) else " "
    if sum(piece.words for piece in pieces) <= most:
        borders = [0, len(pieces)]
    else:
        borders = _borders(pieces, most - overlap)
    for start, end in pairwise(borders):
        first, room = start, min(overlap, most - sum(piece.words for piece in pieces[start:end]))
        while first > 0 and pieces[first - 1].words <= room:
            first -= 1
            room -= pieces[first].words
        text = "".join(piece.gap + piece.text for piece in pieces[first:end]).strip()
        if text:
            yield text


def _borders(pieces: Sequence[Piece], budget: int) -> list[int]:
    """Where passages begin, and the end: each but the last takes `FULL_ENOUGH` to all of `budget` words."""
    left = sum(piece.words for piece in pieces)
    borders = [0]
    while left > budget:
        taken, fitting = 0, list[int]()
        end = borders[-1]
        while end < len(pieces) and (taken + pieces[end].words <= budget or end == borders[-1]):
            taken += pieces[end].words
            end += 1
            if taken >= FULL_ENOUGH * budget and end < len(pieces):
                fitting.append(end)
        border = min(fitting, key=lambda at: (not pieces[at].opens_block, text_digest(pieces[at].text)), default=end)
        left -= sum(piece.words for piece in pieces[borders[-1] : border])
        borders.append(border)
    return borders if borders[-1] == len(pieces) else [*borders, len(pieces)]
