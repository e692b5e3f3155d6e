"""A corpus from tables: documents first, then what is asked of them, then the judgements."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdretrieval.corpus.arrow import document_table, query_table
from sdretrieval.corpus.read.report import ImportReport, Tally, Trouble
from sdretrieval.corpus.read.tables.columns import (
    ID_EXPECTED,
    ID_NAMES,
    NUL_IN_ID,
    TEXT_NAMES,
    TITLE_NAMES,
    Columns,
    Roles,
    cell,
    named,
    required,
    usual,
)
from sdretrieval.corpus.read.tables.files import clean, stem_of
from sdretrieval.corpus.read.tables.hub import SCHEME
from sdretrieval.corpus.read.tables.queries import Judged, Query, read_judgements, read_log, read_queries, read_topics
from sdretrieval.corpus.read.tables.records import read_records
from sdretrieval.corpus.splits import NOT_COMPARABLE, own_positive_warning, own_positives
from sdretrieval.corpus.text import normalised, text_digest
from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import CorpusError
from sdretrieval.paths import typed_path

REMEDY = "Name it with --text (--id and --title for the others) of `corpus convert`."

logger = logging.getLogger("sdretrieval")
SPLIT_GIVEN = re.compile(r"([A-Za-z0-9_-]+)=(.+)")
USUAL_SPLITS = ("train", "dev", "validation", "test")
CLICKS_SPLIT = "train"
"""Clicks say little enough to learn from them, and too little to measure by."""


def read_documents(source: str | Path, columns: Columns, tally: Tally) -> Iterator[tuple[str, str, str]]:
    """Stream the documents of `source`. Beside the current row, each id and 8 bytes of each text's digest are held:
    about 200 bytes a document as Python keeps them.

    Left out are broken rows, rows without title and text, and rows whose id was on an earlier one. A text that
    occurs under two ids stays; without an id column it is one document, whose id is a digest of title and text.
    """
    chosen: Columns | None = None
    ids: set[str] = set()
    texts: set[int] = set()
    for line, values in read_records(source, tally):
        if chosen is None:  # by the first row; every later row must have the text
            name = str(source)
            given = tuple(named(column, values, name) for column in columns.text)
            chosen = Columns(
                named(columns.id, values, name) if columns.id else usual(ID_NAMES, values),
                named(columns.title, values, name) if columns.title else usual(TITLE_NAMES, values),
                given or (required("text", TEXT_NAMES, values, name, REMEDY),),
            )
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


def _row(values: Mapping[str, Any], columns: Columns) -> tuple[str, str, str]:
    lacking = [column for column in columns.text if column not in values]
    if lacking:
        raise ValueError(f"no {lacking[0]!r} (found: {', '.join(values)[:80]})")
    identifier = cell(values, columns.id)
    if columns.id and not identifier.strip():
        raise ValueError(f"{columns.id} is {values.get(columns.id)!r:.60}, {ID_EXPECTED}")
    if "\0" in identifier:
        raise ValueError(f"{columns.id} {identifier!r:.60} {NUL_IN_ID}")
    parts = [cell(values, column) for column in columns.text]
    text = parts[0] if len(parts) == 1 else "\n".join(part for part in parts if part.strip())
    return identifier, cell(values, columns.title), text


@dataclass(frozen=True)
class QuerySources:
    """Where queries and judgements come from, each a file, a saved dataset or `hf:NAME`."""

    queries: str | None = None
    topics: str | None = None
    log: str | None = None
    qrels: tuple[tuple[str, str], ...] = ()
    """(split, source) pairs."""
    roles: Roles = field(default_factory=dict)
    """Columns of these that have none of the usual names, by what they hold: see `columns.ROLES`."""


@dataclass(frozen=True)
class Imported:
    """A corpus, and what was met while it was read."""

    corpus: Corpus
    reports: tuple[ImportReport, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    """Query id -> how often a log holds it."""


def import_documents(source: str, columns: Columns | None = None) -> Imported:
    """The documents of a table, a saved dataset or `hf:NAME`, as a corpus without queries."""
    tally = Tally(source, "documents")
    documents = document_table(read_documents(source, columns or Columns(), tally))
    return Imported(Corpus(corpus_name(source), documents, query_table(()), {}), (tally.report(),))


def with_queries(imported: Imported, asking: QuerySources) -> Imported:
    """Add the queries and judgements that `asking` names to what the corpus has.

    Judgements that point nowhere and repeated ids are left out (the first one stays); of a pair that is judged again
    the last judgement counts. All are reported.
    Raises `CorpusError` if judgements come without queries, and if a column is named of a file that is not.
    """
    files = {"query": ("--queries", asking.queries), "qrels": ("--qrels", asking.qrels), "log": ("--log", asking.log)}
    for role, column in asking.roles.items():
        option, given = files[role.partition(".")[0]]
        if not given:
            raise CorpusError(f"--column {role}={column}: there is no file that it is of; give it with {option}.")
    corpus, reports = imported.corpus, list(imported.reports)
    queries: dict[str, str] = dict(zip(corpus.query_ids, corpus.query_texts(), strict=True))
    for what, source in (("queries", asking.queries), ("topics", asking.topics)):
        if source:
            tally = Tally(source, what)
            read = read_topics if what == "topics" else read_queries
            _add_queries(queries, read(source, tally, asking.roles), tally)
            reports.append(tally.report())
    qrels = {split: {q: dict(judged) for q, judged in entries.items()} for split, entries in corpus.qrels.items()}
    counts = dict(imported.counts)
    if asking.log:
        tally = Tally(asking.log, "distinct queries")
        entries = read_log(asking.log, corpus.document_row, tally, asking.roles)
        queries |= {identifier: entry.text for identifier, entry in entries.items() if identifier not in queries}
        clicked = {
            identifier: dict.fromkeys(entry.clicked, 1) for identifier, entry in entries.items() if entry.clicked
        }
        if clicked:
            train = qrels.setdefault(CLICKS_SPLIT, {})
            train |= {identifier: train.get(identifier, {}) | judged for identifier, judged in clicked.items()}
        counts |= {identifier: counts.get(identifier, 0) + entry.count for identifier, entry in entries.items()}
        reports.append(tally.report())
    if asking.qrels and not queries:
        raise CorpusError("Judgements without queries mean nothing: name the queries too (--queries, --topics, --log).")
    for split, source in asking.qrels:
        tally = Tally(source, f"{split} judgements")
        judged_pairs = read_judgements(source, tally, asking.roles)
        _add_judgements(qrels.setdefault(split, {}), judged_pairs, queries, corpus.document_row, tally)
        reports.append(tally.report())
    for split, own in own_positives(qrels).items():
        logger.warning("%s: %s", corpus.name, own_positive_warning(split, own, len(qrels[split])))
    grown = replace(corpus, queries=query_table(queries.items()), qrels=qrels)
    return Imported(grown, tuple(reports), counts)


def split_and_source(given: str) -> tuple[str, str]:
    """`SPLIT=FILE` as a pair; of FILE alone, the split is its name where that is a usual one, else `test`."""
    match = SPLIT_GIVEN.match(given)
    if match:
        return match[1], match[2]
    stem = stem_of(Path(given)).lower()
    return (stem if stem in USUAL_SPLITS else "test"), given


def corpus_name(source: str) -> str:
    """What a corpus read from `source` is called."""
    if source.startswith(SCHEME):
        return source.removeprefix(SCHEME).replace("/", "-").replace(":", "-")
    path = typed_path(source).resolve()
    return path.name if path.is_dir() else stem_of(path)


def _add_queries(queries: dict[str, str], rows: Iterable[Query], tally: Tally) -> None:
    texts = {normalised(text) for text in queries.values()}
    for line, identifier, text in rows:
        if identifier in queries:
            kind = "the same text" if queries[identifier] == text else "another text"
            tally.note(Trouble.REPEATED_ID, line, f"{identifier!r:.60} with {kind}")
            continue
        same = normalised(text)
        if same in texts:
            tally.note(Trouble.REPEATED_TEXT, line, f"{identifier!r:.60}, {text[:40]!r}")
        texts.add(same)
        queries[identifier] = text
        tally.kept += 1


def _add_judgements(
    split: dict[str, dict[str, int]],
    rows: Iterable[Judged],
    queries: Mapping[str, str],
    documents: Mapping[str, int],
    tally: Tally,
) -> None:
    for line, *names, grade in rows:
        # Blanks around an id are part of it if the corpus has it so, else they were put in by hand.
        query, document = (
            name if name in known else name.strip() for name, known in zip(names, (queries, documents), strict=True)
        )
        absent = [kind for kind, ok in (("query", query in queries), ("document", document in documents)) if not ok]
        if absent:
            tally.note(Trouble.NOWHERE, line, f"{query} -> {document} (no such {' and '.join(absent)})")
            if "document" in absent and not tally.notes:
                tally.notes.append(f"  {NOT_COMPARABLE}")
            continue
        judged = split.setdefault(query, {})
        if document in judged:
            same = "with the same score" if judged[document] == grade else f"with {grade}, before {judged[document]}"
            tally.note(Trouble.REPEATED_PAIR, line, f"{query} -> {document} {same}")
        else:
            tally.kept += 1
        judged[document] = grade  # the last one counts, as in BEIR's own loader
