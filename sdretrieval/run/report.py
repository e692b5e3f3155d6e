"""What a run says of itself: `report.json` (stable schema), `report.html`, the table on the terminal.

Test data decides nothing here: every figure of the test split is read from runs that were made for a frozen config.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdretrieval.corpus import Corpus
from sdretrieval.evaluation import (
    Measured,
    PairedTest,
    by_seen,
    holm,
    paired_test,
    queries_with_seen_positives,
    read_trec,
    verdict,
)
from sdretrieval.run.config import dump_config
from sdretrieval.run.pipeline import Generation, Pipeline, System
from sdretrieval.run.stages import search
from sdretrieval.run.stages.runner import peak_rss_bytes

ALWAYS_AGAINST = ("student_0", "hybrid_0", "hard_labels", "shuffled_teacher")
SHOWN_QUERIES = 8
"""Wins and losses shown, each."""


@dataclass(frozen=True)
class Figures:
    """Per-query measures of every system on dev and on the report's split."""

    test: dict[str, Measured]
    dev: dict[str, Measured]


def figures_of(pipeline: Pipeline) -> Figures:
    """Read what the evaluate stages wrote."""
    split = pipeline.config.evaluate.split
    return Figures(
        {system.name: search.read_measured(system.runs[split]) for system in pipeline.systems},
        {system.name: search.read_measured(system.runs["dev"]) for system in pipeline.systems},
    )


def build_report(pipeline: Pipeline, figures: Figures) -> dict[str, Any]:
    """`report.json` as docs/ARCHITECTURE.md describes it."""
    config, measure = pipeline.config, pipeline.config.evaluate.measures[0]
    records = pipeline.runner.records
    return {
        "schema": 1,
        "name": config.name,
        "corpus": pipeline.prepared.notes["name"],
        "split": config.evaluate.split,
        "n_queries": figures.test["student_0"].n_queries,
        "seed": config.seed,
        "estimate": bool(pipeline.prepared.notes["estimate"]),
        "systems": [system.name for system in pipeline.systems],
        "measures": {name: measured.means() for name, measured in figures.test.items()},
        "dev_measures": {name: measured.means() for name, measured in figures.dev.items()},
        "n_dev_queries": figures.dev["student_0"].n_queries,
        "tests": _tests(figures, measure, config.seed),
        "seen_positives": _seen_positives(pipeline, figures, measure),
        "generations": [_generation(one, pipeline) for one in pipeline.generations],
        "trained": bool(pipeline.generations),
        "seconds": round(sum(record["seconds"] for record in _once(records)), 1),
        "seconds_this_time": round(sum(record["seconds"] for record in records if not record["cached"]), 1),
        "peak_rss_bytes": max((record["peak_rss_bytes"] for record in records), default=peak_rss_bytes()),
    }


def _seen_positives(pipeline: Pipeline, figures: Figures, measure: str) -> dict[str, Any] | None:
    """The systems apart by whether train judges a query's positive too; None where the split does not divide so."""
    qrels, config = pipeline.prepared.corpus.qrels, pipeline.config
    seen = queries_with_seen_positives(qrels[config.evaluate.split], qrels.get("train", {}))
    found = by_seen({name: one.of(measure) for name, one in figures.test.items()}, seen, config.seed)
    if found is None:
        return None
    return {
        "measure": measure,
        "n_seen": found.n_seen,
        "n_unseen": found.n_unseen,
        "means": {name: {"seen": pair[0], "unseen": pair[1]} for name, pair in found.means.items()},
        "unseen_tests": [
            {"a": "final", "b": name, "difference": t.difference, "interval95": list(t.interval95), "p": t.p}
            for name, t in found.unseen_tests.items()
        ],
    }


def _once(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each artifact once, as the first stage that asked for it met it: later ones find it cached."""
    return list({record["key"]: record for record in reversed(records)}.values())[::-1]


def _tests(figures: Figures, measure: str, seed: int) -> list[dict[str, Any]]:
    """final against what it must beat, then hybrid against hybrid; p adjusted by Holm over these rows."""
    pairs = [("final", other) for other in ALWAYS_AGAINST if other in figures.test]
    pairs.append(("hybrid_final", "hybrid_0"))
    found = [(a, b, paired_test(figures.test[a].of(measure), figures.test[b].of(measure), seed)) for a, b in pairs]
    adjusted = holm([test.p for *_, test in found])
    return [_test_row(a, b, measure, test, p) for (a, b, test), p in zip(found, adjusted, strict=True)]


def _test_row(a: str, b: str, measure: str, test: PairedTest, p_holm: float) -> dict[str, Any]:
    return {
        "a": a,
        "b": b,
        "measure": measure,
        "difference": test.difference,
        "interval95": list(test.interval95),
        "p": test.p,
        "p_holm": p_holm,
        "verdict": verdict(test, p_holm),
    }


def _generation(one: Generation, pipeline: Pipeline) -> dict[str, Any]:
    prefix = f"{one.number}/"
    mine = [r for r in _once(pipeline.runner.records) if r["stage"].startswith(prefix) and ":" not in r["stage"]]
    return {
        "generation": one.number,
        "decision": one.decision,
        "proven": bool(one.gate["proven"]),
        "reason": one.gate["reason"],
        "difference": one.gate["difference"],
        "interval90": one.gate["interval90"],
        "p": one.gate["p"],
        "detectable": one.gate["detectable"],
        "merge_share": one.gate.get("share"),
        "seconds": round(sum(record["seconds"] for record in mine), 1),
    }


def build_details(pipeline: Pipeline, figures: Figures, report: Mapping[str, Any]) -> dict[str, Any]:
    """What the HTML page shows beyond report.json."""
    split, measure = pipeline.config.evaluate.split, pipeline.config.evaluate.measures[0]
    return {
        "headline": headline(report),
        "table": table_rows(pipeline, figures, report),
        "by_generation": _by_generation(figures, measure),
        "score_histograms": _histograms(pipeline, "scores.json", None),
        "entropy_histograms": _histograms(pipeline, "targets.json", "entropy_histogram"),
        "mining": {str(one.number): _mining(one, pipeline.prepared.corpus) for one in pipeline.generations},
        **_wins_and_losses(pipeline, figures, split, measure),
        "stages": _stage_rows(pipeline),
        "probe": pipeline.probe_record()["rows"] if pipeline.probe_was_made else [],
        "notes": notes(pipeline, report),
        "config": dump_config(pipeline.config),
        "versions": pipeline.store.manifest(pipeline.corpus.key).versions,
    }


def headline(report: Mapping[str, Any]) -> str:
    """One sentence: what became of the student."""
    against = next(row for row in report["tests"] if row["b"] == "student_0")
    before, after = (report["measures"][name][against["measure"]] for name in ("student_0", "final"))
    numbers, (low, high) = f"{before:.4f} to {after:.4f}", against["interval95"]
    if not report["trained"]:
        return f"Nothing was trained: the probe found no teacher better than the student ({numbers})."
    if all(one["decision"] == "rejected" for one in report["generations"]):
        return "No generation passed the gate: the final student is the base."
    return (
        f"{against['measure']} on {report['corpus']} {report['split']}: {numbers} "
        f"({against['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, "
        f"p = {against['p_holm']:.2g} after Holm): {against['verdict']}."
    )


def notes(pipeline: Pipeline, report: Mapping[str, Any]) -> list[str]:
    """What a reader must not overlook: hybrid search, estimates, controls that do as well, the power of dev."""
    said = []
    measure = report["tests"][0]["measure"]
    final, hybrid = report["measures"]["final"][measure], report["measures"]["hybrid_0"][measure]
    if hybrid > final:
        said.append(
            f"Untrained hybrid search ({hybrid:.4f}) is ahead of the distilled student alone ({final:.4f}): where you "
            "can run BM25 beside the index, compare with that."
        )
    fused = next(row for row in report["tests"] if row["a"] == "hybrid_final")
    said.append(
        f"Inside hybrid search distillation changes {measure} by {fused['difference']:+.4f}: {fused['verdict']}."
    )
    for row in report["tests"]:
        if row["b"] in ("hard_labels", "shuffled_teacher") and row["verdict"] != "gain":
            said.append(f"Against {row['b']} at equal updates: {row['difference']:+.4f}, {row['verdict']}.")
    said += _seen_note(report["seen_positives"])
    if report["estimate"]:
        said.append(
            f"Dev queries were made from documents (no labels used): every dev figure is an estimate. Estimated "
            f"{measure}, base to final: {report['dev_measures']['student_0'][measure]:.4f} to "
            f"{report['dev_measures']['final'][measure]:.4f}."
        )
    for one in report["generations"]:
        said.append(f"Generation {one['generation']}: {one['reason']}")
    return said


def _seen_note(parts: Mapping[str, Any] | None) -> list[str]:
    if parts is None:
        return []
    told = [
        f"{name} {parts['means'][name]['seen']:.4f} and {parts['means'][name]['unseen']:.4f}"
        for name in ("student_0", "hard_labels", "final")
        if name in parts["means"]
    ]
    tests = [
        f"{row['difference']:+.4f} against {row['b']} ({row['interval95'][0]:+.4f} to {row['interval95'][1]:+.4f})"
        for row in parts["unseen_tests"]
    ]
    return [
        f"{parts['n_seen']} queries have a positive that train judges as well, {parts['n_unseen']} have none; "
        f"{parts['measure']} on the former and on the latter: {', '.join(told)}. On the latter final is "
        f"{', '.join(tests)}."
    ]


def table_rows(pipeline: Pipeline, figures: Figures, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a system: dev and test measures, and the paired test of the difference to the base student."""
    measure, base = pipeline.config.evaluate.measures[0], figures.test["student_0"]
    others = [system for system in pipeline.systems if system.name != "student_0"]
    tests = {s.name: paired_test(figures.test[s.name].of(measure), base.of(measure), report["seed"]) for s in others}
    adjusted = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    return [_row(system, figures, tests.get(system.name), adjusted.get(system.name)) for system in pipeline.systems]


def _row(system: System, figures: Figures, test: PairedTest | None, p_holm: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "system": system.name,
        "description": system.description,
        "dev": figures.dev[system.name].means(),
        "test": figures.test[system.name].means(),
    }
    if test is not None:
        row |= {
            "difference": test.difference,
            "interval95": list(test.interval95),
            "p": test.p,
            "p_holm": p_holm,
            "verdict": verdict(test, p_holm),
        }
    return row


def _by_generation(figures: Figures, measure: str) -> list[dict[str, Any]]:
    names = ["student_0", *(name for name in figures.test if name.startswith("generation_"))]  # in the table's order
    return [
        {"generation": number, "dev": figures.dev[name].mean(measure), "test": figures.test[name].mean(measure)}
        for number, name in enumerate(names)
    ]


def _histograms(pipeline: Pipeline, file: str, key: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in pipeline.generations:
        record = json.loads((one.targets.path / file).read_text(encoding="utf8"))
        named = record if key is None else {"targets": record[key]}
        found |= {f"generation {one.number}: {name}": histogram for name, histogram in named.items()}
    return found


def _mining(one: Generation, corpus: Corpus) -> dict[str, Any]:
    record = json.loads((one.mined.path / "report.json").read_text(encoding="utf8"))
    examples = [
        {
            "reason": example["reason"],
            "query": corpus.query_texts([example["query_row"]])[0][:200],
            "document": corpus.document_texts([example["document_row"]])[0][:200],
        }
        for example in record.get("examples", [])[:SHOWN_QUERIES]
    ]
    return {"kept": record["candidates"], "removed": record["removed"], "examples": examples}


def _wins_and_losses(pipeline: Pipeline, figures: Figures, split: str, measure: str) -> dict[str, Any]:
    before, after = figures.test["student_0"].of(measure), figures.test["final"].of(measure)
    ordered = sorted(after, key=lambda query: after[query] - before[query])
    runs = {s.name: s.runs[split].path / "run.trec" for s in pipeline.systems if s.name in ("student_0", "final")}
    tops = {name: {q: max(h, key=h.__getitem__) for q, h in read_trec(p).items() if h} for name, p in runs.items()}
    corpus, qrels = pipeline.prepared.corpus, pipeline.prepared.corpus.qrels[split]

    def shown(query: str) -> dict[str, Any]:
        relevant = [d for d, grade in qrels[query].items() if grade > 0 and d in corpus.document_row][:1]
        return {
            "query": corpus.query_texts([corpus.query_row[query]])[0],
            "before": before[query],
            "after": after[query],
            "difference": after[query] - before[query],
            "top_before": _text(corpus, tops["student_0"].get(query)),
            "top_after": _text(corpus, tops["final"].get(query)),
            "relevant": _text(corpus, relevant[0] if relevant else None),
        }

    wins = [q for q in reversed(ordered) if after[q] > before[q]][:SHOWN_QUERIES]
    losses = [q for q in ordered if after[q] < before[q]][:SHOWN_QUERIES]
    return {"wins": [shown(query) for query in wins], "losses": [shown(query) for query in losses]}


def _text(corpus: Corpus, document: str | None) -> str:
    return corpus.document_texts([corpus.document_row[document]])[0][:240] if document else ""


def _stage_rows(pipeline: Pipeline) -> list[dict[str, Any]]:
    return [
        {
            "generation": record["stage"].split("/")[0],
            "stage": record["stage"].split("/", 1)[1],
            **{name: record[name] for name in ("cached", "seconds", "peak_rss_bytes", "counts")},
        }
        for record in _once(pipeline.runner.records)
    ]
