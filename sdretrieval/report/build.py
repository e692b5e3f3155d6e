"""`report.json`: what a run measured, in a schema that stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sdretrieval.evaluation import by_seen, family, queries_with_seen_positives
from sdretrieval.files import read_json
from sdretrieval.report.costs import forecast_held, generation_costs
from sdretrieval.report.figures import BASE, Figures, final_pairs
from sdretrieval.report.generated import estimate_against_truth, is_made, synthetic_queries, trust
from sdretrieval.report.judged import judged
from sdretrieval.report.page import dev_name, judge_of_dev
from sdretrieval.stages.collection import SYNTHETIC_TRAIN
from sdretrieval.stages.gate import Generation
from sdretrieval.stages.results import Results, Smaller
from sdretrieval.stages.smaller import COST
from sdretrieval.store.run_folder import PROBABILITY


def build_report(results: Results, figures: Figures, forecast: Mapping[str, Any]) -> dict[str, Any]:
    """`report.json` as docs/ARCHITECTURE.md describes it. `forecast`: the run's, by stage; empty: none was made."""
    config, collection = results.run.config, results.base.collection
    measure = config.evaluate.measures[0]
    records, judge = results.run.runner.records, judged(results)
    model = judge_of_dev({"judge": judge})
    assert results.final is not None, "a report comes after loop"
    return {
        "schema": 1,
        "name": config.name,
        "corpus": collection.notes["name"],
        "split": config.evaluate.split,
        "n_queries": figures.test[BASE].n_queries,
        "seeds": list(config.seeds),
        "estimate": bool(collection.notes["estimate"]),
        "split_is_synthetic": is_made(collection, config.evaluate.split),
        "synthetic_queries": synthetic_queries(collection),
        "trust": trust(results, figures, measure),
        "estimate_against_truth": estimate_against_truth(collection, figures, config.evaluate.split, measure),
        "judge": judge,
        "systems": list(figures.test),
        "measures": {name: measured.means() for name, measured in figures.test.items()},
        "by_seed": figures.by_seed,
        "spread": figures.spread,
        "dev_measures": {name: measured.means() for name, measured in figures.dev.items()},
        "n_dev_queries": figures.dev[BASE].n_queries,
        "tests": [figures.compared[pair] for pair in final_pairs(figures.test)],
        "seen_positives": _seen_positives(results, figures, measure),
        "pretrained": _pretrained(results, model),
        "generations": [_generation(one, seed, model) for seed in results.seeds for one in seed.generations],
        "smaller": [_smaller(one, figures, measure) for one in results.smaller],
        "guard": results.forgotten.record() if results.forgotten else None,
        "generation_costs": generation_costs(records, len(results.generations)),
        "forecast": forecast_held(once(records), forecast),
        "probability": read_json(results.final.probability.path / PROBABILITY),
        "trained": bool(results.generations) or results.run.pretrained is not None,
        "seconds": round(sum(record["seconds"] for record in once(records)), 1),
        "seconds_this_time": round(sum(record["seconds"] for record in records if not record["cached"]), 1),
        # Of the stages as they were made, so that a run from the store says the same.
        "peak_rss_bytes": max((record["peak_rss_bytes"] or 0 for record in records), default=0),
    }


def _smaller(one: Smaller, figures: Figures, measure: str) -> dict[str, Any]:
    """What a smaller student keeps of the final one's measure, and what both cost."""
    kept, whole = (figures.test[name].mean(measure) for name in (one.name, "final"))
    return {
        "name": one.name,
        "description": one.system.description,
        "measure": measure,
        "kept": kept / whole if whole else None,
        "cost": read_json(one.cost.path / COST),
    }


def _seen_positives(results: Results, figures: Figures, measure: str) -> dict[str, Any] | None:
    """The systems apart by whether training has seen a query's positive, as a positive of train or as the document
    that a synthetic query was made from; None if the split has only one kind."""
    qrels, config = results.base.collection.corpus.qrels, results.run.config
    trained = {**qrels.get("train", {}), **qrels.get(SYNTHETIC_TRAIN, {})}
    seen = queries_with_seen_positives(qrels[config.evaluate.split], trained)
    by_positives = by_seen({name: one.of(measure) for name, one in figures.test.items()}, seen, config.seed)
    if by_positives is None:
        return None
    return {
        "measure": measure,
        "n_seen": by_positives.n_seen,
        "n_unseen": by_positives.n_unseen,
        "means": {name: {"seen": pair[0], "unseen": pair[1]} for name, pair in by_positives.means.items()},
        "unseen_tests": family({("final", name): test for name, test in by_positives.unseen_tests.items()}, measure),
    }


def once(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each artifact once, as the first stage that needed it met it: later ones find it cached."""
    return list({record["key"]: record for record in reversed(records)}.values())[::-1]


CONTROLS = "hard_labels|shuffled_teacher|labelled|shuffled"
"""How the addresses of the controls' stages end."""


def _pretrained(results: Results, judge: str | None) -> dict[str, Any] | None:
    """What came of learning from documents alone; None if the config wants none."""
    gate = results.pretrained
    if gate is None:
        return None
    decision = "accepted" if gate["accepted"] else "rejected" if gate["decided"] else "undecided"
    return {"decision": decision, **_decided(gate, results, judge, re.compile("pretrained/"))}


def _generation(one: Generation, results: Results, judge: str | None) -> dict[str, Any]:
    share = one.gate.get("share")
    alone = one.gate.get("unmerged", {}).get("guard")
    forgot = f"since as trained it forgets ({alone['text']}), " if alone else ""
    mixed = f"mixed with the student before it ({share:.0%} of the new weights), {forgot}" if share is not None else ""
    mark = re.escape(results.run.runner.mark)
    own = re.compile(rf"{one.number}(m[0-9.]+)?/(?!.*:({CONTROLS})(@|$))[^@]*{mark}$")  # its mixtures too
    return {
        "generation": one.number,
        "seed": results.run.seed,
        "decision": one.decision,
        "merge_share": share,
        **_decided(one.gate, results, judge, own, mixed),
    }


def _decided(
    gate: Mapping[str, Any], results: Results, judge: str | None, own: re.Pattern[str], how: str = ""
) -> dict[str, Any]:
    """What the gate said of a candidate, and the seconds of its `own` stages. `how`: it was made, if it was mixed."""
    estimate = bool(results.base.collection.notes["estimate"])
    mine = [record for record in once(results.run.runner.records) if own.match(record["stage"])]
    return {
        "proven": bool(gate["proven"]),
        "reason": (f"by {dev_name(True, judge)}: " if estimate else "") + how + gate["reason"],
        **{name: gate[name] for name in ("difference", "interval", "level", "p", "detectable")},
        "guard": gate.get("guard"),
        "seconds": round(sum(record["seconds"] for record in mine), 1),
    }
