"""Documents from a table: rows of (id, title, text)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sdretrieval.corpus.read.tables.columns import (
    ID_NAMES,
    TEXT_NAMES,
    TITLE_NAMES,
    Columns,
    cell,
    named,
    required,
    usual,
)
from sdretrieval.corpus.read.tables.records import read_records
from sdretrieval.corpus.read.tables.report import Tally, Trouble
from sdretrieval.corpus.read.tables.streams import clean
from sdretrieval.errors import CorpusError

REMEDY = "Name it with --text (--id and --title for the others) of `corpus convert`."


def read_documents(source: str | Path, columns: Columns, tally: Tally) -> Iterator[tuple[str, str, str]]:
    """Stream the documents of `source`. Beside the current row, each id and 8 bytes of each text's digest are held:
    about 200 bytes a document as Python keeps them.

    Left out are broken rows, rows without title and text, and rows whose id stood on an earlier one. A text that
    occurs under two ids stays; without an id column it is one document, whose id is a digest of title and text.
    """
    chosen: Columns | None = None
    ids: set[str] = set()
    texts: set[int] = set()
    for line, values in read_records(source, tally):
        chosen = chosen or _choose(values, columns, str(source))
        try:
            row = _row(values, chosen)
        except ValueError as error:
            tally.note(Trouble.BROKEN, line, str(error))
            continue
        cleaned = clean(row[0]), clean(row[1]), clean(row[2])
        if cleaned != row:
            tally.note(Trouble.REPLACED, line, f"half of a surrogate pair in {cleaned[0]!r:.60}")
        identifier, title, text = cleaned
        if not (title.strip() or text.strip()):
            tally.note(Trouble.EMPTY, line, repr(identifier) if identifier else "(no id)")
            continue
        key = text_digest(title, text)
        digest = int.from_bytes(key)
        identifier = identifier or key.hex()
        if identifier in ids:
            kind = "a text that was there" if digest in texts else "another text"
            tally.note(Trouble.REPEATED_ID, line, f"{identifier!r:.60} with {kind}")
            continue
        if digest in texts:
            tally.note(Trouble.REPEATED_TEXT, line, f"{identifier!r:.60}, {(title or text)[:40]!r}")
            if not chosen.id:
                continue
        if chosen.id:
            ids.add(identifier)
        texts.add(digest)
        tally.kept += 1
        yield identifier, title, text
    if not tally.kept:
        raise CorpusError(f"{source} holds no documents ({tally.read:,} lines were read).")


def text_digest(*parts: str) -> bytes:
    """8 bytes: among ten million different texts two share one with a chance of 1 in 400,000."""
    return hashlib.blake2b("\x1f".join(parts).encode("utf8"), digest_size=8).digest()


def _choose(values: Mapping[str, Any], asked: Columns, source: str) -> Columns:
    """The columns by the first row; every later row must have the text."""
    texts = tuple(named(column, values, source) for column in asked.text)
    identifier = named(asked.id, values, source) if asked.id else usual(ID_NAMES, values)
    title = named(asked.title, values, source) if asked.title else usual(TITLE_NAMES, values)
    return Columns(identifier, title, texts or (required("text", TEXT_NAMES, values, source, REMEDY),))


def _row(values: Mapping[str, Any], columns: Columns) -> tuple[str, str, str]:
    lacking = [column for column in columns.text if column not in values]
    if lacking:
        raise ValueError(f"no {lacking[0]!r} (found: {', '.join(values)[:80]})")
    identifier = cell(values, columns.id)
    if columns.id and not identifier.strip():
        raise ValueError(f"{columns.id} is {values.get(columns.id)!r}, expected an id")
    parts = [cell(values, column) for column in columns.text]
    text = parts[0] if len(parts) == 1 else "\n".join(part for part in parts if part.strip())
    return identifier, cell(values, columns.title), text
