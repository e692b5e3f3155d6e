"""What the HTML page shows beyond `report.json`: the table, charts, examples, stages, config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdretrieval.config import dump_config
from sdretrieval.corpus import Corpus
from sdretrieval.evaluation import read_trec
from sdretrieval.files import read_json
from sdretrieval.report.build import once
from sdretrieval.report.figures import BASE, Figures
from sdretrieval.report.removed import mining_of
from sdretrieval.report.words import advice, headline, notes
from sdretrieval.stages.evaluate import System
from sdretrieval.stages.precision import resolved
from sdretrieval.stages.probe import with_holm
from sdretrieval.stages.results import Results
from sdretrieval.units import Address

SHOWN_QUERIES = 8
"""Wins and losses shown, each."""


def build_details(
    results: Results, figures: Figures, report: Mapping[str, Any], probe: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the HTML page shows beyond report.json. `probe`: `probe.json` with prices, if the run has one."""
    split, measure = results.run.config.evaluate.split, results.run.config.evaluate.measures[0]
    evidence = results.run.config.targets.label_evidence
    mining = {str(one.number): mining_of(one, results.base.collection.corpus, evidence) for one in results.generations}
    return {
        "headline": headline(report),
        "table": table_rows(results, figures),
        "comparisons": len(figures.compared),
        "by_generation": [
            {"generation": number, "dev": figures.dev[name].mean(measure), "test": figures.test[name].mean(measure)}
            for number, name in enumerate([BASE, *(n for n in figures.test if n.startswith("generation_"))])
        ],
        "score_histograms": _histograms(results, "scores.json", None),
        "entropy_histograms": _histograms(results, "targets.json", "entropy_histogram"),
        "mining": mining,
        **_wins_and_losses(results, figures, split, measure),
        "stages": _stage_rows(results),
        "probe": with_holm(probe["rows"]) if probe else [],
        "advice": advice(probe) if probe else None,
        "notes": notes(results, report),
        "config": dump_config(resolved(results.run)),
        "versions": results.run.store.manifest(results.base.collected.made.key).versions,
    }


def table_rows(results: Results, figures: Figures) -> list[dict[str, Any]]:
    """One row a system: dev and test measures, and the paired test of the difference to the base student."""
    return [_row(systems[0], figures) for systems in results.by_name.values()]


def _row(system: System, figures: Figures) -> dict[str, Any]:
    test = figures.compared.get((system.name, BASE), {})
    return {
        "system": system.name,
        "description": system.description,
        "dev": figures.dev[system.name].means(),
        "test": figures.test[system.name].means(),
        "spread": figures.spread.get(system.name, {}),
        **{name: test[name] for name in ("difference", "interval95", "p", "p_holm", "verdict") if name in test},
    }


def _histograms(results: Results, file: str, key: str | None) -> dict[str, Any]:
    histograms: dict[str, Any] = {}
    for one in results.generations:
        if one.targets is None:
            continue
        record = read_json(one.targets.path / file)
        named = record if key is None else {"targets": record[key]}
        histograms |= {f"generation {one.number}: {name}": histogram for name, histogram in named.items()}
    return histograms


def _wins_and_losses(results: Results, figures: Figures, split: str, measure: str) -> dict[str, Any]:
    before, after = figures.test["student_0"].of(measure), figures.test["final"].of(measure)
    ordered = sorted(after, key=lambda query: after[query] - before[query])
    runs = {s.name: s.runs[split].path / "run.trec" for s in results.systems if s.name in ("student_0", "final")}
    tops = {name: {q: max(h, key=h.__getitem__) for q, h in read_trec(p).items() if h} for name, p in runs.items()}
    corpus, qrels = results.base.collection.corpus, results.base.collection.corpus.qrels[split]

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
    return corpus.document_text(corpus.document_row[document])[:240] if document else ""


def _stage_rows(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "generation": Address.of(record["stage"]).owner,
            "stage": record["stage"].partition("/")[2],
            **{name: record[name] for name in ("cached", "seconds", "peak_rss_bytes", "peak_is_own", "counts")},
        }
        for record in once(results.run.runner.records)
    ]
