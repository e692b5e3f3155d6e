"""BEIR's measures by query, from the evaluator that the `beir` package uses (pytrec_eval).

beir rounds its averages to five digits; `round(measured.mean(name), 5)` is what it prints for the same run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from sdretrieval.corpus.types import Qrels
from sdretrieval.errors import ConfigError, NumericError, RequestError

_TREC_NAMES = {"nDCG": "ndcg_cut", "MAP": "map_cut", "Recall": "recall", "P": "P"}
KINDS = (*_TREC_NAMES, "MRR")
"""The measures; each is asked for with a cutoff, as in nDCG@10."""
_OTHER_NAMES = {"precision": "P", "prec": "P", "ap": "MAP", "r": "Recall", "rr": "MRR", "reciprocal_rank": "MRR"}


class Measure(NamedTuple):
    """A measure and the rank at which it cuts; prints as papers print it."""

    kind: str
    cutoff: int

    def __str__(self) -> str:
        return f"{self.kind}@{self.cutoff}"

    @staticmethod
    def parse(name: str) -> Measure:
        """`nDCG@10` as a measure. Raises ConfigError, with what was probably meant, if it is none."""
        kind, _, cutoff = name.partition("@")
        if kind in KINDS and re.fullmatch("[1-9][0-9]{0,8}", cutoff):
            return Measure(kind, int(cutoff))
        names = {name.lower(): name for name in KINDS} | _OTHER_NAMES
        rank = re.sub("[^0-9]", "", cutoff).lstrip("0") or "10"
        near = get_close_matches(kind.lower().strip(), names, n=1, cutoff=0.5)
        hint = f": did you mean {names[near[0]]}@{rank}?" if near else ""
        known = ", ".join(f"{kind}@k" for kind in KINDS)
        raise ConfigError(f"unknown measure {name!r}{hint}; known are {known} (k = 1, 2, ...)")


@dataclass(frozen=True)
class Measured:
    """Each measure of one run, by judged query."""

    per_query: Mapping[str, Mapping[str, float]]
    """measure name -> query id -> value; every measure holds the same queries."""

    def of(self, measure: str) -> Mapping[str, float]:
        """Values of one measure by query. Raises RequestError if it was not measured."""
        if measure not in self.per_query:
            raise RequestError(f"{measure!r} was not measured here; measured were {', '.join(self.per_query)}")
        return self.per_query[measure]

    def mean(self, measure: str) -> float:
        """Average over the judged queries, added up in beir's order so that the last digit agrees too."""
        values = self.of(measure).values()
        total = 0.0
        for value in values:  # not sum(): from Python 3.12 on it corrects rounding, and beir's += does not
            total += value
        return total / len(values)

    def means(self) -> dict[str, float]:
        """Every measure's average."""
        return {measure: self.mean(measure) for measure in self.per_query}

    @property
    def n_queries(self) -> int:
        """Number of judged queries."""
        return len(next(iter(self.per_query.values()), {}))


def evaluate(qrels: Qrels, run: Mapping[str, Mapping[str, float]], measures: Sequence[str]) -> Measured:
    """Measure `run` against `qrels`, query by query.

    As BEIR does: a hit with the query's own id does not count, queries without judgements are left out. Unlike beir's
    function, a judged query without results counts as 0, and `run` is not changed. Equal scores are ordered by
    document id in all measures but MRR, which takes them in the run's order (beir's two ways).
    Raises ConfigError for an unknown measure, RequestError if no query is judged or the ids do not meet,
    NumericError if a score is NaN.
    """
    wanted = [Measure.parse(name) for name in measures]
    judged = {query: {doc: int(grade) for doc, grade in grades.items()} for query, grades in qrels.items() if grades}
    _require_common_ids(judged, run)
    answered = {
        query: {document: float(score) for document, score in hits.items() if document != query}
        for query, hits in run.items()
        if query in judged
    }
    _require_numbers(answered)
    for query in judged:
        answered.setdefault(query, {})
    trec = _trec_values(judged, answered, wanted)
    per_query: dict[str, dict[str, float]] = {}
    for measure in wanted:
        values = per_query[str(measure)] = {}
        for query, hits in answered.items():
            if measure.kind == "MRR":
                ranked = sorted(hits, key=hits.__getitem__, reverse=True)[: measure.cutoff]
                relevant = (rank for rank, document in enumerate(ranked, 1) if judged[query].get(document, 0) > 0)
                values[query] = 1.0 / next(relevant, math.inf)
            else:
                values[query] = trec[query][f"{_TREC_NAMES[measure.kind]}_{measure.cutoff}"]
    return Measured(per_query)


def _trec_values(
    judged: dict[str, dict[str, int]], answered: dict[str, dict[str, float]], wanted: list[Measure]
) -> dict[str, dict[str, float]]:
    import pytrec_eval

    names = {f"{_TREC_NAMES[measure.kind]}.{measure.cutoff}" for measure in wanted if measure.kind in _TREC_NAMES}
    if not names:
        return {}
    values: dict[str, dict[str, float]] = pytrec_eval.RelevanceEvaluator(judged, names).evaluate(answered)
    return values


def _require_common_ids(judged: Mapping[str, object], run: Mapping[str, object]) -> None:
    if not judged:
        raise RequestError("no query is judged: the qrels of this split are empty, so nothing can be measured")
    if run and not any(query in judged for query in run):
        raise RequestError(
            f"none of the run's {len(run)} queries (such as {next(iter(run))!r}) is among the "
            f"{len(judged)} judged ones (such as {next(iter(judged))!r}): check that run and qrels belong to the same "
            "corpus and split"
        )


def _require_numbers(run: Mapping[str, Mapping[str, float]]) -> None:
    for query, hits in run.items():
        for document, score in hits.items():
            if math.isnan(score):
                raise NumericError(
                    f"query {query!r}: the score of document {document!r} is NaN, so it has no rank; "
                    "check the vectors or scores that made this run"
                )
