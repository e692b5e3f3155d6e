"""What a language model judged, and how far people agree with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sdretrieval.evaluation import read_trec
from sdretrieval.evaluation.judge import RELEVANT
from sdretrieval.files import read_json
from sdretrieval.formatting import quantity
from sdretrieval.report.page import BASE, FINAL
from sdretrieval.stages.collection import JUDGED
from sdretrieval.stages.judge import agreement_of
from sdretrieval.stages.results import Results


def judged(results: Results) -> dict[str, Any] | None:
    """`report.json`'s part `judge`; None if the config names no judge.

    `dev`: what stands in for judgements of dev, None if people judged it; `agreement`: with people, None if no split
    that may be read for that has judgements.
    """
    cfg, collection = results.run.config.evaluate.judge, results.base.collection
    if cfg is None:
        return None
    record: dict[str, Any] = {"model": cfg.model, "dev": None, "agreement": None}
    if collection.judgements is not None:
        grades = read_json(collection.judgements.path / JUDGED)["grades"]
        counted = Counter(grade for of in grades.values() for grade in of.values())
        record["dev"] = {
            "queries": len(grades),
            "answered": sum(any(grade >= RELEVANT for grade in of.values()) for of in grades.values()),
            "pairs": counted.total(),
            "grades": {str(grade): counted[grade] for grade in range(4)},
            "unjudged_at_10": {
                system.name: round(_unjudged(read_trec(system.runs["dev"].path / "run.trec"), grades), 4)
                for system in results.systems
                if system.name in (BASE, FINAL)
            },
        }
    if results.checked is not None:
        split, found = agreement_of(results.checked, collection)
        if found is not None:
            record["agreement"] = {"split": split, **found.record()}
    return record


def _unjudged(run: Mapping[str, Mapping[str, float]], grades: Mapping[str, Mapping[str, int]]) -> float:
    """The share of a run's ten best documents a query that have no grade."""
    tops = [(query, sorted(hits, key=lambda d: (-hits[d], d))[:10]) for query, hits in run.items()]
    listed = [document in grades.get(query, {}) for query, top in tops for document in top]
    return 1 - sum(listed) / max(len(listed), 1)


def judge_notes(record: Mapping[str, Any] | None) -> Iterator[str]:
    """The same in words."""
    if record is None:
        return
    if dev := record["dev"]:
        graded = ", ".join(f"{count:,} with {grade}" for grade, count in dev["grades"].items())
        yield (
            f"Dev is judged by {record['model']}, not by people: of {dev['pairs']:,} pairs {graded}; 2 and 3 count as "
            f"relevant. It finds an answer to {dev['answered']:,} of {quantity(dev['queries'], 'queries')}; the others "
            f"measure nothing. Of the final student's ten best documents {dev['unjudged_at_10'][FINAL]:.0%} have no "
            f"grade, of the base's {dev['unjudged_at_10'][BASE]:.0%}: they count as not relevant. Such figures are "
            "estimates, and nothing is proven by them."
        )
    if found := record["agreement"]:
        kappa = "not defined, since one of them says the same of every pair"
        kappa = kappa if found["kappa"] is None else f"{found['kappa']:.2f}"
        yield (
            f"{record['model']} and people agree on {found['agreed']:.0%} of {found['pairs']:,} pairs of "
            f"{found['split']} (Cohen's kappa {kappa}); of what people call relevant it calls "
            f"{found['of_relevant']:.0%} relevant. Pairs that nobody judged count as not relevant, so the truth is "
            "rather better."
        )
