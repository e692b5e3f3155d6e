"""Did training already show the answer? Queries whose relevant documents were positives of training queries as well,
synthetic ones included.

A student can learn which documents are asked for at all, and then finds them again for other questions. If a split
shares positives with train, hard labels look better than they are on documents that nobody has judged yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sdretrieval.evaluation.significance import PairedTest, paired_test

Qrels = Mapping[str, Mapping[str, int]]
LEAST = 20
"""Queries on either side below which a mean says nothing."""


@dataclass(frozen=True)
class BySeen:
    """Means of each system over queries with a positive seen in training, and over those without; `unseen_tests`:
    `final` against others over the latter."""

    n_seen: int
    n_unseen: int
    means: Mapping[str, tuple[float, float]]
    unseen_tests: Mapping[str, PairedTest]


def queries_with_seen_positives(qrels: Qrels, train: Qrels) -> frozenset[str]:
    """Queries of `qrels` with a positive that is a positive of a query of `train`."""
    trained = {document for judged in train.values() for document, grade in judged.items() if grade > 0}
    return frozenset(query for query, judged in qrels.items() if any(g > 0 and d in trained for d, g in judged.items()))


def by_seen(values: Mapping[str, Mapping[str, float]], seen: frozenset[str], seed: int) -> BySeen | None:
    """Split per-query `values` of each system by `seen`; None if either side has fewer than `LEAST` queries.

    Raises RequestError if the systems were measured on different queries.
    """
    queries = next(iter(values.values())).keys()
    unseen = [query for query in queries if query not in seen]
    n_seen = len(queries) - len(unseen)
    if min(n_seen, len(unseen)) < LEAST:
        return None
    means = {
        name: (
            sum(by_query[q] for q in queries if q in seen) / n_seen,
            sum(by_query[q] for q in unseen) / len(unseen),
        )
        for name, by_query in values.items()
    }
    others = [name for name in ("student_0", "hard_labels") if name in values]
    only = {name: {q: values[name][q] for q in unseen} for name in ("final", *others)}
    tests = {name: paired_test(only["final"], only[name], seed) for name in others}
    return BySeen(n_seen, len(unseen), means, tests)
