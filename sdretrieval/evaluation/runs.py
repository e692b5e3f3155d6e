"""Runs: what each query retrieved, with scores, and their exchange as TREC files.

Legend: Q queries, k hits a query.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import NumericError, RequestError
from sdretrieval.formatting import quantity

Run = dict[str, dict[str, float]]
"""query id -> document id -> score (higher is better)."""

ENCODED = re.compile(r"[\s%\x00-\x1f\x7f]")
"""What an id in a TREC file cannot hold, and the sign that encodes it."""
NO_ROW = -1
"""The row with which an index fills up a list that has fewer than k hits."""


def run_from_hits(
    query_ids: Sequence[str], document_ids: Sequence[str], rows_Qk: NDArray[Any], scores_Qk: NDArray[Any]
) -> Run:
    """Hits of an index (rows into `document_ids`, -1 = no hit) as a run, best first as the index gave them.

    A document with the query's own id is left out, as BEIR does (ArguAna's queries are documents).
    Raises NumericError if the score of a hit is NaN or infinite.
    """
    if rows_Qk.shape != scores_Qk.shape or len(rows_Qk) != len(query_ids):
        raise ValueError(f"{len(query_ids)} queries, but rows {rows_Qk.shape} and scores {scores_Qk.shape}")
    _require_finite(query_ids, rows_Qk, scores_Qk)
    run: Run = {}
    for query, rows, scores in zip(query_ids, rows_Qk.tolist(), scores_Qk.tolist(), strict=True):
        hits = ((document_ids[row], score) for row, score in zip(rows, scores, strict=True) if row != NO_ROW)
        run[query] = {document: score for document, score in hits if document != query}
    return run


def _require_finite(query_ids: Sequence[str], rows_Qk: NDArray[Any], scores_Qk: NDArray[Any]) -> None:
    broken_Qk = ~np.isfinite(scores_Qk) & (rows_Qk != NO_ROW)
    if broken_Qk.any():
        query, rank = np.argwhere(broken_Qk)[0]
        raise NumericError(
            f"query {query_ids[query]!r}: the score at rank {rank + 1} is {scores_Qk[query, rank]}, expected a finite "
            f"number ({int(broken_Qk.sum())} such scores in all); check the vectors of the model that made this run"
        )


def write_trec(run: Mapping[str, Mapping[str, float]], path: str | Path, tag: str) -> None:
    """Write `run` as TREC lines `query Q0 document rank score tag`, best first; `read_trec` gives back the same scores.

    Whitespace, control characters and percent signs inside ids are percent-encoded: TREC separates by whitespace. The
    format has no line for a query without hits: it is absent afterwards, and counts as 0 all the same. The file appears
    whole or not at all. Raises RequestError if an id is empty.
    """
    path, quoted_tag = Path(path), _quoted(tag)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf8", newline="\n") as file:
        for query, hits in run.items():
            for rank, (document, score) in enumerate(sorted(hits.items(), key=lambda hit: -hit[1]), start=1):
                file.write(f"{_quoted(query)} Q0 {_quoted(document)} {rank} {float(score)!r} {quoted_tag}\n")
    partial.replace(path)


def encoded_ids(identifiers: Iterable[str]) -> list[str]:
    """Those ids that `write_trec` cannot write as they are."""
    return [identifier for identifier in identifiers if ENCODED.search(identifier)]


def read_trec(path: str | Path) -> Run:
    """Read a TREC run. Raises RequestError naming file and line if a line is broken."""
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"no run file {path}: expected lines 'query Q0 document rank score tag'")
    run: Run = {}
    with path.open(encoding="utf8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            query, document, score = _parsed(line, f"{path}:{number}")
            hits = run.setdefault(query, {})
            if document in hits:
                raise RequestError(f"{path}:{number}: query {query!r} lists document {document!r} twice; keep one")
            hits[document] = score
    return run


def _parsed(line: str, place: str) -> tuple[str, str, float]:
    fields = line.split()
    if len(fields) != 6:
        raise RequestError(
            f"{place}: {quantity(len(fields), 'fields')}, expected 6 (query Q0 document rank score tag): "
            f"{line.strip()[:80]!r}"
        )
    try:
        score = float(fields[4])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise RequestError(f"{place}: the score is {fields[4]!r}, expected a finite number")
    return unquote(fields[0]), unquote(fields[2]), score


@lru_cache(maxsize=1 << 16)  # a document is in many lists
def _quoted(identifier: str) -> str:
    if not identifier:
        raise RequestError("an empty id cannot be written as TREC: give every query, document and run a name")
    return ENCODED.sub(lambda match: quote(match[0], safe=""), identifier)
