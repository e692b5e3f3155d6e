"""Scores that were made elsewhere: a file of query, document and score, read whole and checked before it teaches.

TSV (with or without a line of names), CSV, JSONL, each also .gz or .zst; Parquet; TREC runs. A file that teaches must
be whole: unlike a corpus, of which a broken line is counted and left out, any broken line is refused.

Legend: P pairs, Q queries.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.corpus.read.report import Tally, Trouble
from sdretrieval.corpus.read.tables.columns import JUDGED_DOCUMENT_NAMES, JUDGED_QUERY_NAMES, as_text, named, required
from sdretrieval.corpus.read.tables.files import Format, clean, format_of, text_lines
from sdretrieval.corpus.read.tables.records import read_records
from sdretrieval.errors import RequestError
from sdretrieval.formatting import quantity
from sdretrieval.paths import typed_path
from sdretrieval.progress import track

logger = logging.getLogger(__name__)

SCORE_NAMES = ("score", "scores", "logit", "logits", "similarity", "sim", "relevance")
EXPECTED = "expected query, document, score (or a TREC run: query Q0 document rank score tag)"
REMEDY = "Rename it in the file, or leave out the line of names: query, document, score separated by tabs."
TREC_FIELDS = 6
SHOWN = 3
"""Broken lines that a message names."""

NEAR = 0.01
"""A probability this close to 0 or 1 is squeezed."""
SQUEEZED_SHARE = 0.5
TIED_AT_ONE_SHARE = 0.05
"""Of pairs whose probability is 1 to three digits: among these the teacher's order is lost."""
FEW_PAIRS = 20
"""Fewer say nothing of a scale."""


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
    """The file that `pattern` names, or the files if it is a pattern with *; in the order of their names.

    Raises RequestError if there is none.
    """
    path = typed_path(pattern)
    try:
        files = [path] if path.is_file() else sorted(one for one in path.parent.glob(path.name) if one.is_file())
    except ValueError:  # ** beside other characters, or no name at all
        files = []
    if not files:
        what = "is a folder, expected a file" if path.is_dir() else "is not there"
        raise RequestError(
            f"scores {pattern}: {what}. `sdretrieval score CONFIG --pairs FILE` writes the pairs to score; score them "
            "with any model, and put query, document, score there"
        )
    return files


def read_scores(pattern: str, column: str | None = None) -> ScoreTable:
    """The pairs of one or more files; `column` names the column of scores if it has none of the usual names.

    Warns of a scale that teaches badly (see `scale_warnings`), once. Raises RequestError for a file that is not there,
    columns that are not found, broken lines, scores that are not finite, and a pair with two scores.
    """
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in score_files(pattern))
    return _read(pattern, stamps, column)


@lru_cache(maxsize=2)  # each stage that asks for a key asks for the file
def _read(pattern: str, stamps: tuple[tuple[str, int, int], ...], column: str | None) -> ScoreTable:
    # As numbers: files of millions of lines hold each id once.
    query_codes: dict[str, int] = {}
    document_codes: dict[str, int] = {}
    queries, documents, scores, lines = array("q"), array("q"), array("d"), array("q")
    files: list[tuple[int, Path]] = []
    for name, _, _ in stamps:
        path, broken, count = Path(name), list[str](), 0
        files.append((len(scores), path))
        for line in scored_lines(path, column):
            if isinstance(score := _score_of(line), str):
                count += 1
                broken += [f"line {line.number}: {score}"] if len(broken) < SHOWN else []
                continue
            queries.append(query_codes.setdefault(line.query or "", len(query_codes)))
            documents.append(document_codes.setdefault(line.document or "", len(document_codes)))
            scores.append(score)
            lines.append(line.number)
        if count:
            raise broken_lines(path, count, broken)
        if len(scores) == files[-1][0]:
            raise RequestError(f"scores {path}: the file holds no pair; {EXPECTED}")
    query_ids, document_ids = list(query_codes), list(document_codes)

    def pair(entry: int) -> str:
        return f"query {query_ids[queries[entry]]!r} and document {document_ids[documents[entry]]!r}"

    def place(entry: int) -> str:
        return f"{next(path for start, path in reversed(files) if start <= entry)}:{lines[entry]}"

    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        score_P = np.asarray(scores).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(score_P))
    if len(bad):
        entry = int(bad[0])
        raise RequestError(
            f"scores {place(entry)}: the score of {pair(entry)} is {scores[entry]}, expected a finite float32 "
            f"({len(bad):,} such scores in all); score these pairs again, or leave them out"
        )
    # A pair may come twice if its scores agree.
    query_P, document_P = np.asarray(queries, dtype=np.int64), np.asarray(documents, dtype=np.int64)
    keys_P = query_P * len(document_ids) + document_P
    order_P = np.argsort(keys_P, kind="stable")
    again_P = np.concatenate([[False], keys_P[order_P][1:] == keys_P[order_P][:-1]])
    differ = np.flatnonzero(again_P[1:] & (score_P[order_P][1:] != score_P[order_P][:-1]))
    if len(differ):
        first, second = int(order_P[differ[0]]), int(order_P[differ[0] + 1])
        raise RequestError(
            f"scores {place(first)} and {place(second)} give {pair(first)} two scores, {scores[first]:.9g} and "
            f"{scores[second]:.9g} ({len(differ):,} such pairs in all); keep one"
        )
    keep = order_P[~again_P]
    table = ScoreTable(pattern, query_ids, document_ids, query_P[keep], document_P[keep], score_P[keep])
    for warning in scale_warnings(table.score_P, table.query_P):
        logger.warning("scores %s: %s", pattern, warning)
    return table


class ScoredLine(NamedTuple):
    """One line, not checked yet: an id may be missing, the score be anything."""

    number: int
    query: str | None
    document: str | None
    score: Any


def _score_of(line: ScoredLine) -> float | str:
    """The line's score; or what is wrong with the line."""
    if not (line.query or "").strip() or not (line.document or "").strip():
        return (
            f"no {'document' if (line.query or '').strip() else 'query'}"
            if line.score is not None
            else "no pair and score"
        )
    try:
        return float("" if isinstance(line.score, bool) or line.score is None else line.score)
    except (TypeError, ValueError):
        return f"the score is {line.score!r:.40}, expected a number"


def broken_lines(path: Path, count: int, shown: Iterable[str]) -> RequestError:
    """The refusal of a file with `count` broken lines, the first of them `shown`."""
    listed = "; ".join(shown)
    more = f" (and {count - SHOWN:,} more)" if count > SHOWN else ""
    return RequestError(
        f"scores {path}: {count:,} broken line{'s' if count > 1 else ''}: {listed}{more}; {EXPECTED}. A file that "
        "teaches must be whole: mend it, or write it again"
    )


class _Strict(Tally):
    """A tally that takes no broken line."""

    def require_few_broken(self) -> None:
        troubles = self.report().troubles
        for trouble in (Trouble.BROKEN, Trouble.REPLACED):
            if trouble in troubles:
                shown = troubles[trouble].examples[:SHOWN]
                raise broken_lines(Path(self.source), troubles[trouble].count, shown)


def scored_lines(path: Path, column: str | None) -> Iterator[ScoredLine]:
    """The lines of one file; `column` names that of the scores. Raises RequestError for lines that cannot be split."""
    kind = format_of(path)
    if kind is Format.PARQUET:
        yield from _from_parquet(path, column)
        return
    tables = kind in (Format.CSV, Format.JSONL)
    if kind is Format.TSV:  # it has a line of names if the first line holds no score where one is expected
        first = next((line for _, line in text_lines(path, Tally(str(path), "")) if line.strip()), "")
        if fields := _fields(first):
            try:
                float(fields[4 if len(fields) == TREC_FIELDS else -1])
            except ValueError:
                tables = True
    if tables:
        names: tuple[str, str, str] | None = None
        for number, values in read_records(path, _Strict(str(path), "pairs")):
            names = names or _columns(list(values), column, f"scores {path}")
            query, document, score = (values.get(name) for name in names)
            yield ScoredLine(number, _identifier(query), _identifier(document), score)
        return
    if column is not None:
        raise RequestError(f"scores {path}: column {column!r} is asked for, but the file has no line of names")
    tally = _Strict(str(path), "pairs")
    for number, line in track(text_lines(path, tally), f"{path.name}: reading", "lines"):
        fields = _fields(line)
        if len(fields) == 3:
            yield ScoredLine(number, fields[0], fields[1], fields[2])
        elif len(fields) == TREC_FIELDS:
            yield ScoredLine(number, fields[0], fields[2], fields[4])
        elif line.strip():
            tally.note(Trouble.BROKEN, number, f"{quantity(len(fields), 'fields')}, expected 3")
    tally.require_few_broken()


def _fields(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t") if "\t" in line else line.split()


def _from_parquet(path: Path, column: str | None) -> Iterator[ScoredLine]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = _columns(file.schema_arrow.names, column, f"scores {path}")
            number = 0
            for batch in file.iter_batches(1 << 16, columns=list(names)):
                for query, document, score in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                    number += 1
                    yield ScoredLine(number, _identifier(query), _identifier(document), score)
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
    return clean(text) if text is not None else None


def scale_warnings(score_P: NDArray[np.float32], query_P: NDArray[np.int64]) -> list[str]:
    """What is suspicious about scores: constant, squeezed at 0 or 1, whole numbers; a sentence, or none.

    Raw scores teach; a sigmoid's output, grades and constants lose what a target is made of.
    """
    if len(score_P) < FEW_PAIRS:
        return []
    if score_P.min() == score_P.max():
        return [
            f"all {len(score_P):,} scores are {score_P[0]:g}: there is no order to learn; is this the right column?"
        ]
    if (score_P != np.round(score_P)).any():
        high, low = float((score_P >= 1 - NEAR).mean()), float((score_P <= NEAR).mean())
        at_one = float((score_P >= 1 - NEAR / 10).mean())
        squeezed = high + low >= SQUEEZED_SHARE or at_one >= TIED_AT_ONE_SHARE
        if score_P.min() < 0 or score_P.max() > 1 or not squeezed:
            return []
        return [
            f"all scores are in 0..1, {high:.0%} of them above {1 - NEAR:g} and {low:.0%} below {NEAR:g}: they look "
            "like a sigmoid's probabilities, which hide how much better one good document is than another; write raw "
            "logits in float32 instead (sentence-transformers: CrossEncoder(..., activation_fn=torch.nn.Identity()))"
        ]
    # Ranks, if each query has every number from 1 to the count of its pairs once.
    counts_Q = np.bincount(query_P)
    highest_Q = np.full(len(counts_Q), -np.inf)
    np.maximum.at(highest_Q, query_P, score_P)
    counted = score_P.min() == 1 and (highest_Q == counts_Q)[counts_Q > 0].all()  # so that an int64 holds every score
    if counted and len(np.unique(query_P * (1 << 32) + score_P.astype(np.int64))) == len(score_P):
        return [
            "the scores of each query are 1, 2, 3 ...: they look like ranks, where 1 is best, but here the highest "
            "score is the best; write scores, or at least the ranks negated"
        ]
    values = np.unique(score_P)
    return [
        f"all scores are whole numbers ({len(values)} different ones, {values[0]:g} to {values[-1]:g}): documents of "
        "one grade are alike to this teacher; raw scores teach more"
    ]
