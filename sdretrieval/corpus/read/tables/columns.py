"""Which column holds what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from sdretrieval.errors import CorpusError

ID_NAMES = ("_id", "id", "doc_id", "docid", "document_id")
TITLE_NAMES = ("title",)
TEXT_NAMES = ("text", "body", "content", "contents", "passage")
JUDGED_QUERY_NAMES = ("query-id", "query_id", "qid", "query", "topic")
JUDGED_DOCUMENT_NAMES = ("corpus-id", "corpus_id", "document_id", "doc_id", "docid", "document", "pid", "did")

ROLES = {
    "query.id": ("_id", "id", "query_id", "query-id", "qid"),
    "query.text": ("text", "query", "question", "title"),
    "qrels.query": JUDGED_QUERY_NAMES,
    "qrels.document": JUDGED_DOCUMENT_NAMES,
    "qrels.score": ("score", "relevance", "rel", "label", "grade"),
    "log.text": ("query", "text", "q", "search", "question"),
    "log.clicked": ("clicked", "clicked_ids", "clicks", "doc_ids", "documents", "doc_id", "document_id", "document"),
    "log.count": ("count", "counts", "frequency", "freq", "n"),
}
"""What a column of queries, judgements or a log may hold, and the names by which it is found."""
ID_EXPECTED = "expected an id"
NUL_IN_ID = "holds a NUL character, at which tools of evaluation end an id"
GRADE_AT_MOST = 10_000
"""Of a judgement's score, up or down: trec_eval holds a count for every grade up to the highest."""
Roles = Mapping[str, str]
"""Role -> column, where it has none of the usual names."""


@dataclass(frozen=True)
class Columns:
    """The user's names of the columns of documents; what is not given is found by its usual name."""

    id: str | None = None
    title: str | None = None
    text: tuple[str, ...] = ()
    """Several are joined by a line end each."""


def read_role(given: str) -> tuple[str, str]:
    """`ROLE=COLUMN` as a pair. Raises CorpusError for a role that is none."""
    role, equals, column = given.partition("=")
    if role in ROLES and equals and column:
        return role, column
    near = get_close_matches(role, ROLES, n=1)
    raise CorpusError(
        f"--column {given}: expected ROLE=COLUMN with one of the roles {', '.join(ROLES)}."
        + (f" Did you mean {near[0]}=COLUMN?" if near and role not in ROLES else "")
    )


def holding(role: str, given: Roles, columns: Iterable[str], source: str) -> str | None:
    """The column that holds `role`: the one given for it, else one with a usual name; None if there is none.

    Raises CorpusError if the one given is not there.
    """
    return named(given[role], columns, source) if role in given else usual(ROLES[role], columns)


def must_hold(role: str, what: str, given: Roles, columns: Collection[str], source: str, remedy: str) -> str:
    """As `holding`, but raises CorpusError if there is none."""
    return holding(role, given, columns, source) or required(what, ROLES[role], columns, source, remedy)


def named(wanted: str, columns: Iterable[str], source: str) -> str:
    """`wanted`, which must be one of the columns `found`. Raises CorpusError with these and the nearest match."""
    names = list(columns)
    if wanted in names:
        return wanted
    near = get_close_matches(wanted.lower(), {name.lower(): name for name in names}, n=1)
    guess = next((name for name in names if near and name.lower() == near[0]), None)
    raise CorpusError(
        f"{source}: no column {wanted!r}; the columns found are {_listed(names)}."
        + (f" Did you mean {guess!r}?" if guess else "")
    )


def usual(names: Sequence[str], columns: Iterable[str]) -> str | None:
    """The first of `names` among the columns `found`, whatever its case; None if there is none."""
    by_lower = {name.strip().lower(): name for name in reversed(list(columns))}
    return next((by_lower[name] for name in names if name in by_lower), None)


def required(what: str, names: Sequence[str], available: Iterable[str], source: str, remedy: str) -> str:
    """As `usual`, but raises CorpusError with the columns found and the nearest match where there is none."""
    columns = list(available)
    column = usual(names, columns)
    if column is not None:
        return column
    alike = {c: max(SequenceMatcher(None, c.strip().lower(), name).ratio() for name in names) for c in columns}
    near = [c for c in sorted(alike, key=alike.__getitem__, reverse=True) if alike[c] >= 0.5]
    raise CorpusError(
        f"{source}: no column for the {what}; the columns found are {_listed(columns)}, expected one of "
        f"{', '.join(names)}." + (f" The nearest is {near[0]!r}." if near else "") + f" {remedy}"
    )


def as_text(value: Any) -> str | None:
    """A cell as text: null is empty, a list of texts is joined by line ends; None if it is no text."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):  # pandas writes whole numbers so, and NaN for a missing text
        return "" if value != value else str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n".join(value)
    return None


def read_grade(value: Any) -> int | None:
    """A whole number, also as `1.0` or as text; None for anything else, and for one beyond `GRADE_AT_MOST`."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    whole = number.is_integer() and abs(number) <= GRADE_AT_MOST and "_" not in str(value)
    return int(number) if whole else None


def is_number(text: str) -> bool:
    """Whether `text` spells a number of any kind and size."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def judged_places(columns: Sequence[str]) -> list[int] | None:
    """Where query, document and score are, if the columns are headings that say so."""
    names = [usual(ROLES[role], columns) for role in ("qrels.query", "qrels.document", "qrels.score")]
    return None if None in names else [columns.index(name) for name in names if name is not None]


def readable_columns(schema: Any) -> list[str]:
    """The columns of an Arrow schema that may hold texts, numbers or lists of them.

    Vectors, images and other nested or binary values are not even read: they can be larger than all texts.
    """
    return [field.name for field in schema if _readable(field.type)]


def _readable(kind: Any) -> bool:
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        value = kind.value_type
        return bool(types.is_string(value) or types.is_large_string(value) or types.is_integer(value))
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return not (types.is_nested(kind) or binary)


def cell(record: Mapping[str, Any], column: str | None) -> str:
    """The text in `column`; empty if there is no such column. Raises ValueError, saying what was found."""
    if column is None:
        return ""
    text = as_text(record.get(column))
    if text is None:
        raise ValueError(f"{column} is {record[column]!r:.60}, expected a text")
    return text


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "") if names else "none"
