"""Scores that were made elsewhere: a file of query, document and score, read whole and checked before it teaches.

TSV (with or without a line of names), CSV, JSONL, each also .gz or .zst; Parquet; TREC runs. A file that teaches must
be whole: unlike a corpus, of which a broken line is counted and left out, any broken line is refused.

Legend: P pairs.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import RequestError
from sdretrieval.ragged import Array
from sdretrieval.teachers.score_lines import EXPECTED, SHOWN, ScoredLine, broken_lines, scored_lines
from sdretrieval.teachers.score_scale import scale_warnings

logger = logging.getLogger(__name__)


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
        for line in scored_lines(path, column):
            problem = self._add(line)
            if problem is not None:
                count += 1
                broken += [f"line {line.number}: {problem}"] if len(broken) < SHOWN else []
        if count:
            raise broken_lines(path, count, broken)
        if len(self._score) == before:
            raise RequestError(f"scores {path}: the file holds no pair; {EXPECTED}")

    def _add(self, line: ScoredLine) -> str | None:
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
