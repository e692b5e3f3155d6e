"""Scores that were made elsewhere: a file of query, document and score, read whole and checked before it teaches.

TSV (with or without a line of names), CSV, JSONL, each also .gz or .zst; Parquet; TREC runs. A file that teaches must
be whole: unlike a corpus, of which a broken line is counted and left out, any broken line is refused.

Legend: P pairs.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from sdretrieval.corpus.tabular.columns import JUDGED_DOCUMENT_NAMES, JUDGED_QUERY_NAMES, as_text, named, required
from sdretrieval.corpus.tabular.formats import Format, format_of
from sdretrieval.corpus.tabular.records import read_records
from sdretrieval.corpus.tabular.report import Tally, Trouble
from sdretrieval.corpus.tabular.streams import text_lines
from sdretrieval.errors import RequestError
from sdretrieval.progress import track
from sdretrieval.ragged import Array
from sdretrieval.teachers.score_scale import scale_warnings

logger = logging.getLogger(__name__)

SCORE_NAMES = ("score", "scores", "logit", "logits", "similarity", "sim", "relevance")
EXPECTED = "expected query, document, score (or a TREC run: query Q0 document rank score tag)"
REMEDY = "Rename it in the file, or leave out the line of names: query, document, score parted by tabs."
TREC_FIELDS = 6
SHOWN = 3
"""Broken lines that a message names."""


@dataclass(frozen=True)
class ScoreTable:
    """Every scored pair once. `query_P` and `document_P` int64: positions in `query_ids` and `document_ids`."""

    source: str
    query_ids: Sequence[str]
    document_ids: Sequence[str]
    query_P: NDArray[np.int64]
    document_P: NDArray[np.int64]
    score_P: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.score_P)


class _Line(NamedTuple):
    number: int
    query: str | None
    document: str | None
    score: Any


def score_files(pattern: str) -> list[Path]:
    """The file that `pattern` names, or the files where it is a pattern with *; in the order of their names.

    Raises RequestError where there is none.
    """
    path = Path(pattern).expanduser()
    found = [path] if path.is_file() else sorted(one for one in path.parent.glob(path.name) if one.is_file())
    if not found:
        what = "is a folder, expected a file" if path.is_dir() else "is not there"
        raise RequestError(
            f"scores {pattern}: {what}. `sdretrieval score CONFIG --pairs FILE` writes the pairs to score; score them "
            "with any model, and put query, document, score there"
        )
    return found


def read_scores(pattern: str, column: str | None = None) -> ScoreTable:
    """The pairs of one or more files; `column` names the column of scores where it has none of the usual names.

    Warns of a scale that teaches badly (see `scale_warnings`), once. Raises RequestError for a file that is not there,
    columns that are not found, broken lines, scores that are not finite, and a pair with two scores.
    """
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in score_files(pattern))
    return _read(pattern, stamps, column)


@lru_cache(maxsize=2)  # each stage that asks for a key asks for the file
def _read(pattern: str, stamps: tuple[tuple[str, int, int], ...], column: str | None) -> ScoreTable:
    collected = _Collected()
    for name, _, _ in stamps:
        collected.read(Path(name), column)
    table = collected.table(pattern)
    for warning in scale_warnings(table.score_P, table.query_P):
        logger.warning("scores %s: %s", pattern, warning)
    return table


class _Collected:
    """Pairs of all files as numbers: a file of millions of lines holds each id once."""

    def __init__(self) -> None:
        self._queries: dict[str, int] = {}
        self._documents: dict[str, int] = {}
        self._query, self._document = array("q"), array("q")
        self._score, self._line = array("d"), array("q")
        self._files: list[tuple[int, Path]] = []

    def read(self, path: Path, column: str | None) -> None:
        """Add a file's pairs. Raises RequestError naming its broken lines."""
        before = len(self._score)
        self._files.append((before, path))
        broken: list[str] = []
        count = 0
        for line in _lines(path, column):
            problem = self._add(line)
            if problem is not None:
                count += 1
                broken += [f"line {line.number}: {problem}"] if len(broken) < SHOWN else []
        if count:
            raise _broken(path, count, broken)
        if len(self._score) == before:
            raise RequestError(f"scores {path}: the file holds no pair; {EXPECTED}")

    def _add(self, line: _Line) -> str | None:
        """Add one pair; or what is wrong with it."""
        if not line.query or not line.document:
            return f"no {'query' if not line.query else 'document'}" if line.score is not None else "no pair and score"
        try:
            score = float("" if isinstance(line.score, bool) or line.score is None else line.score)
        except (TypeError, ValueError):
            return f"the score is {line.score!r:.40}, expected a number"
        self._query.append(self._queries.setdefault(line.query, len(self._queries)))
        self._document.append(self._documents.setdefault(line.document, len(self._documents)))
        self._score.append(score)
        self._line.append(line.number)
        return None

    def table(self, source: str) -> ScoreTable:
        """All pairs. Raises RequestError for a score that is not finite and for a pair with two scores."""
        with np.errstate(over="ignore"):  # becomes infinite, and is refused
            score_P = np.asarray(self._score).astype(np.float32)
        self._check_finite(score_P)
        query_P, document_P = np.asarray(self._query, dtype=np.int64), np.asarray(self._document, dtype=np.int64)
        order_P = np.argsort(query_P * len(self._documents) + document_P, kind="stable")
        keys_P = (query_P * len(self._documents) + document_P)[order_P]
        again_P = np.concatenate([[False], keys_P[1:] == keys_P[:-1]])
        self._check_once(score_P[order_P], again_P, order_P)
        keep = order_P[~again_P]
        queries, documents = list(self._queries), list(self._documents)
        return ScoreTable(source, queries, documents, query_P[keep], document_P[keep], score_P[keep])

    def _check_finite(self, score_P: Array) -> None:
        bad = np.flatnonzero(~np.isfinite(score_P))
        if len(bad):
            entry = int(bad[0])
            raise RequestError(
                f"scores {self._place(entry)}: the score of {self._pair(entry)} is {self._score[entry]}, expected a "
                f"finite float32 ({len(bad):,} such scores in all); score these pairs again, or leave them out"
            )

    def _check_once(self, sorted_P: Array, again_P: Array, order_P: Array) -> None:
        differ = np.flatnonzero(again_P[1:] & (sorted_P[1:] != sorted_P[:-1]))
        if len(differ):
            first, second = int(order_P[differ[0]]), int(order_P[differ[0] + 1])
            raise RequestError(
                f"scores {self._place(first)} and {self._place(second)} give {self._pair(first)} two scores, "
                f"{self._score[first]:.9g} and {self._score[second]:.9g} ({len(differ):,} such pairs in all); keep one"
            )

    def _pair(self, entry: int) -> str:
        query, document = list(self._queries)[self._query[entry]], list(self._documents)[self._document[entry]]
        return f"query {query!r} and document {document!r}"

    def _place(self, entry: int) -> str:
        path = next(path for start, path in reversed(self._files) if start <= entry)
        return f"{path}:{self._line[entry]}"


def _broken(path: Path, count: int, shown: Iterable[str]) -> RequestError:
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
                shown = [f"line {example}" for example in found[trouble].examples[:SHOWN]]
                raise _broken(Path(self.source), found[trouble].count, shown)


def _lines(path: Path, column: str | None) -> Iterator[_Line]:
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


def _from_fields(path: Path) -> Iterator[_Line]:
    tally = _Strict(str(path), "pairs")
    for number, line in track(text_lines(path, tally), f"{path.name}: reading", "lines"):
        fields = _fields(line)
        if len(fields) == 3:
            yield _Line(number, fields[0].strip(), fields[1].strip(), fields[2])
        elif len(fields) == TREC_FIELDS:  # whose ids are written percent-encoded where they hold a space
            yield _Line(number, unquote(fields[0]), unquote(fields[2]), fields[4])
        elif line.strip():
            tally.note(Trouble.BROKEN, number, f"{len(fields)} fields, expected 3")
    tally.require_few_broken()


def _from_table(path: Path, column: str | None) -> Iterator[_Line]:
    names: tuple[str, str, str] | None = None
    for line, values in read_records(path, _Strict(str(path), "pairs")):
        names = names or _columns(list(values), column, f"scores {path}")
        query, document, score = (values.get(name) for name in names)
        yield _Line(line, _identifier(query), _identifier(document), score)


def _from_parquet(path: Path, column: str | None) -> Iterator[_Line]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = _columns(file.schema_arrow.names, column, f"scores {path}")
            number = 0
            for batch in file.iter_batches(1 << 16, columns=list(names)):
                for query, document, score in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                    number += 1
                    yield _Line(number, _identifier(query), _identifier(document), score)
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
