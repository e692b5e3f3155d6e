"""What a person said of (query, document) pairs: `doubts` writes a table, a person marks it, runs take it as truth.

A text is known by its digest, so that marks outlive new ids and other files; where a line brings no digest, by its id.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sdretrieval.corpus.arrow import query_table
from sdretrieval.corpus.text import LIST_AT_MOST, content_digest
from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import RequestError
from sdretrieval.formatting import cell_text, text_of_cell

if TYPE_CHECKING:
    from datasets import Dataset

RELEVANT, NOT, UNMARKED = "relevant", "not", ""
WORDS = (RELEVANT, NOT, UNMARKED)
ENDINGS = (".tsv", ".csv", ".jsonl")
SIDES = ("query", "document")

COLUMNS = (
    "verdict", "query", "document", "known_positive", "teacher_score", "threshold", "student_score", "query_id",
    "document_id", "query_digest", "document_digest",
)  # fmt: skip
"""Of a file to mark, what a person reads first."""


class Mark(NamedTuple):
    """One marked line: what names the query and the document (`digest:...` or `id:...`), and the word."""

    line: int
    query: str
    document: str
    verdict: str
    brings_query: bool = False
    """Whether the line holds the query's own text, as those of a search page do: it need not be of the corpus."""


@dataclass(frozen=True)
class Verdicts:
    """By query row the document rows that a person found relevant, and those found not relevant."""

    relevant: Mapping[int, frozenset[int]] = field(default_factory=dict)
    refused: Mapping[int, frozenset[int]] = field(default_factory=dict)

    @property
    def pairs(self) -> tuple[int, int]:
        """How many pairs are relevant, and how many are not."""
        relevant, refused = (sum(map(len, side.values())) for side in (self.relevant, self.refused))
        return relevant, refused

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            name: {str(query): sorted(documents) for query, documents in sorted(side.items())}
            for name, side in ((RELEVANT, self.relevant), (NOT, self.refused))
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Verdicts:
        """The inverse of `to_json`."""
        sides = (
            {int(query): frozenset(documents) for query, documents in stored[name].items()} for name in (RELEVANT, NOT)
        )
        return Verdicts(*sides)


def read_marks(path: Path) -> list[Mark]:
    """The marked lines of a .tsv, .csv or .jsonl file; lines without a verdict are left out.

    Raises RequestError if the file cannot be read, lacks a column, or holds other words, with line numbers.
    """
    marks, problems = [], []
    for number, record in _records(path):
        word = str(record.get("verdict") or "").strip().lower()
        names = [_name(record, side) for side in SIDES]
        if word not in WORDS:
            problems.append(f"line {number}: verdict {word!r}; expected {RELEVANT}, {NOT}, or nothing")
        elif word != UNMARKED and "" in names:
            side = SIDES[names.index("")]
            problems.append(f"line {number}: no {side}_digest and no {side}_id; expected one of them")
        elif word != UNMARKED:
            brings = names[0] == f"digest:{content_digest(str(record.get('query') or '')).hex()}"
            marks.append(Mark(number, names[0], names[1], word, brings))
    refuse(path, problems)
    return marks


def resolve(
    marks: Iterable[Mark], corpus: Corpus, train_rows: Iterable[int], path: Path, left_out: Dataset | None = None
) -> tuple[Verdicts, list[Mark]]:
    """The marks as rows, and those of queries that are not trained on, which say nothing here: some of these were
    `left_out` of the corpus, others were asked on a search page.

    A digest means every row with that text. Raises RequestError, with line numbers, for a query or document that is not
    in the corpus, and for a pair that two lines mark differently.
    """
    marks = list(marks)
    queries = _rows_by_name(corpus, "query", {mark.query for mark in marks})
    unused = replace(corpus, queries=query_table(()) if left_out is None else left_out)
    elsewhere = _rows_by_name(unused, "query", {mark.query for mark in marks} - queries.keys())
    documents = _rows_by_name(corpus, "document", {mark.document for mark in marks})
    train, problems, idle = set(train_rows), [], []
    verdicts: dict[tuple[int, int], Mark] = {}
    for mark in marks:
        rows_of = {"query": queries.get(mark.query), "document": documents.get(mark.document)}
        known = mark.brings_query or mark.query in elsewhere
        missing = [side for side in SIDES if not rows_of[side] and not (side == "query" and known)]
        if missing:
            name = getattr(mark, missing[0])
            problems.append(f"line {mark.line}: no {missing[0]} of this corpus has the {name.replace(':', ' ', 1)}")
            continue
        taught = [row for row in rows_of["query"] or () if row in train]
        if not taught:
            idle.append(mark)
        for pair in ((query, document) for query in taught for document in rows_of["document"] or ()):
            first = verdicts.setdefault(pair, mark)
            if first.verdict != mark.verdict:
                problems.append(
                    f"line {mark.line} says {mark.verdict!r} of what line {first.line} says {first.verdict!r}"
                )
                break
    refuse(path, problems, "a text that was changed, or that corpus.max_documents leaves out, has no verdict any more")
    sides: dict[str, dict[int, set[int]]] = {RELEVANT: defaultdict(set), NOT: defaultdict(set)}
    for (query, document), mark in verdicts.items():
        sides[mark.verdict][query].add(document)
    relevant, refused = ({row: frozenset(rows) for row, rows in sides[word].items()} for word in (RELEVANT, NOT))
    return Verdicts(relevant, refused), idle


def refuse(path: Path, problems: Sequence[str], hint: str = "") -> None:
    """Raise RequestError naming the first problems of the file, if there are any."""
    if not problems:
        return
    shown = list(problems[:LIST_AT_MOST])
    if len(problems) > LIST_AT_MOST:
        shown.append(f"and {len(problems) - LIST_AT_MOST} more")
    what = "the line" if len(problems) == 1 else "these lines"
    tail = f" ({hint})" if hint else ""
    raise RequestError(f"verdicts {path}: {'; '.join(shown)}; correct or remove {what}{tail}")


def _name(record: Mapping[str, Any], side: str) -> str:
    for kind in ("digest", "id"):
        if value := str(record.get(f"{side}_{kind}") or "").strip():
            return f"{kind}:{value}"
    return ""


def _rows_by_name(corpus: Corpus, side: str, wanted: Set[str]) -> dict[str, list[int]]:
    """Rows of those texts that are asked for, by id and by digest."""
    ids, texts = (
        (corpus.query_ids, corpus.query_texts()) if side == "query" else (corpus.document_ids, corpus.document_texts())
    )
    rows: dict[str, list[int]] = defaultdict(list)
    for row, (identifier, text) in enumerate(zip(ids, texts, strict=True)):
        for name in (f"id:{identifier}", f"digest:{content_digest(text).hex()}"):
            if name in wanted:
                rows[name].append(row)
    return rows


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.suffix.lower() not in ENDINGS:
        raise RequestError(f"verdicts {path}: found the ending {path.suffix!r}; expected one of {', '.join(ENDINGS)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RequestError(f"verdicts {path}: no such file; `sdretrieval doubts` writes one to mark") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"verdicts {path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    return _json_records(path, text) if path.suffix.lower() == ".jsonl" else _table_records(path, text)


def _json_records(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise RequestError(f"verdicts {path}, line {number}: broken JSON: {reason}") from None
        if not isinstance(record, dict):
            raise RequestError(f"verdicts {path}, line {number}: found no object; expected one a line")
        yield number, record


def _table_records(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # What a spreadsheet saves as CSV is separated as its country does.
    separator = max("\t,;", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    columns = [name.strip() for name in reader.fieldnames or ()]
    wanted = [side for side in SIDES if not {f"{side}_digest", f"{side}_id"} & set(columns)]
    if "verdict" not in columns or wanted:
        raise RequestError(
            f"verdicts {path}: found the columns {', '.join(columns) or 'none'}; expected verdict, query_digest or "
            "query_id, document_digest or document_id in the first line"
        )
    reader.fieldnames = columns
    try:
        for record in reader:
            yield reader.line_num, {n: text_of_cell(v) if isinstance(v, str) else v for n, v in record.items()}
    except csv.Error as error:
        raise RequestError(f"verdicts {path}, line {reader.line_num}: {error}; correct or remove the line") from None


def kept_records(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that a person has marked, whole; none where there is no file yet.

    Raises what `read_marks` raises: a file that is something else is never written over.
    """
    if not path.exists():
        return []
    read_marks(path)
    return [dict(record) for _, record in _records(path) if str(record.get("verdict") or "").strip()]


def pairs_of(record: Mapping[str, Any]) -> set[tuple[str, str]]:
    """What a line speaks of, by digests, by ids, or by both: as far as it brings them."""
    names = [{_name({key: record.get(key)}, side) for key in (f"{side}_digest", f"{side}_id")} - {""} for side in SIDES]
    return {(query, document) for query in names[0] for document in names[1]}


def marks_text(records: Iterable[Mapping[str, Any]], ending: str) -> str:
    """The contents of a file to mark, `ending` being one of `ENDINGS`: one line a record, texts on one line each.

    In tables, what a spreadsheet would take for a formula has a ' before it, which reading takes away.
    """
    lines = []
    for record in records:
        values = ((name, record.get(name)) for name in COLUMNS)
        lines.append({n: " ".join(v.split()) if isinstance(v, str) else "" if v is None else v for n, v in values})
    if ending == ".jsonl":
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\n")
    writer.writeheader()
    writer.writerows({n: cell_text(v) if isinstance(v, str) else v for n, v in line.items()} for line in lines)
    return out.getvalue()
