"""The report's plain words: its headline, and what a reader must not overlook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sdretrieval.evaluation.gate import ENOUGH
from sdretrieval.report.page import dev_name
from sdretrieval.stages.gate import KEPT_OLD
from sdretrieval.stages.results import Results


def headline(report: Mapping[str, Any]) -> str:
    """One sentence: what became of the student."""
    against = next(row for row in report["tests"] if row["b"] == "student_0")
    before, after = (report["measures"][name][against["measure"]] for name in ("student_0", "final"))
    numbers, (low, high) = f"{before:.4f} to {after:.4f}", against["interval95"]
    few = f"dev has {report['n_dev_queries']} queries, {ENOUGH} are needed to decide"
    if not report["trained"]:
        why = few if report["n_dev_queries"] < ENOUGH else "the probe found no teacher better than the student"
        return f"Nothing was trained: {why} ({numbers})."
    if report["generations"][0]["decision"] == "undecided":
        return f"Nothing was accepted, the final student is the base: {few}."
    if keeps_base(report):
        return "No generation passed the gate: the final student is the base."
    made = " (synthetic queries: estimate)" if report["split_is_synthetic"] else ""
    split = dev_name(report["estimate"]) if report["split"] == "dev" else report["split"] + made
    return (
        f"{against['measure']} on {report['corpus']} {split}: {numbers} "
        f"({against['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, "
        f"p = {against['p_holm']:.2g} after Holm): {against['verdict']}."
    )


def keeps_base(report: Mapping[str, Any]) -> bool:
    """Whether no generation changed the student, none being trained included."""
    return all(one["decision"] in KEPT_OLD for one in report["generations"])


def notes(results: Results, report: Mapping[str, Any]) -> list[str]:
    """What a reader must not overlook: hybrid search, estimates, controls that do as well, the power of dev."""
    config, run = results.run.config, len(report["generations"])
    lines = list(_hybrid_notes(report))
    if results.generations and results.generations[0].scores is None:
        lines.append(
            "The probe found no teacher better than the student, so training learned from labels alone "
            "(train.hard_label_weight)."
        )
    updates = "at equal updates" if report["trained"] else "with the updates that a generation would have had"
    for row in report["tests"]:
        if row["b"] in ("hard_labels", "shuffled_teacher") and row["verdict"] != "gain":
            lines.append(f"Against {row['b']} {updates}: {row['difference']:+.4f}, {row['verdict']}.")
    lines += _seen_note(report["seen_positives"])
    if repeated := results.base.collection.notes["repeated_queries"]:
        lines.append(f"{repeated} query text(s) are in two splits; training leaves these queries out.")
    if results.run.learns_queries_only:
        lines.append(
            "Only the query encoder learns (student.train: query): documents keep the base student's vectors in every "
            "row above, so an index of them stays valid."
        )
    lines += _dev_notes(report)
    if 0 < run < config.generations:
        lines.append(
            f"{run} of {config.generations} generations were run: after one that was not accepted the next would have "
            "trained the same student from the same lists."
        )
    return lines


def weight_notes(mining: Mapping[str, Any]) -> Iterator[str]:
    """Queries that count nothing, by generation."""
    for number, mined in mining.items():
        weights = mined["query_weights"]
        if weights and weights["silenced"]:
            yield (
                f"Generation {number}: {weights['silenced']} of {weights['queries']} training queries count nothing in "
                f"the teacher's term, since they are trusted less than {weights['below']:g}; the section "
                "Mining names the least trusted."
            )


def _hybrid_notes(report: Mapping[str, Any]) -> Iterator[str]:
    measure = report["tests"][0]["measure"]
    final, hybrid = report["measures"]["final"][measure], report["measures"]["hybrid_0"][measure]
    if keeps_base(report):  # both sides are the base
        if hybrid > final:
            yield f"Untrained hybrid search ({hybrid:.4f}) is ahead of the base student alone ({final:.4f})."
        return
    if hybrid > final:
        yield (
            f"Untrained hybrid search ({hybrid:.4f}) is ahead of the distilled student alone ({final:.4f}): if you "
            "can run BM25 beside the index, compare with that."
        )
    fused = next(row for row in report["tests"] if row["a"] == "hybrid_final")
    yield f"Inside hybrid search distillation changes {measure} by {fused['difference']:+.4f}: {fused['verdict']}."


def _dev_notes(report: Mapping[str, Any]) -> Iterator[str]:
    measure = report["tests"][0]["measure"]
    if report["estimate"]:
        yield (
            f"Dev queries were made from documents (no labels used): every dev figure is an estimate. Estimated "
            f"{measure} on {dev_name(True)}, base to final: {report['dev_measures']['student_0'][measure]:.4f} to "
            f"{report['dev_measures']['final'][measure]:.4f}."
        )
    if truth := report["estimate_against_truth"]:
        final = next(row for row in truth["rows"] if row["system"] == "final")
        order = "" if truth["agreement"] is None else f"; order of the systems: Kendall's tau {truth['agreement']:.2f}"
        yield (
            f"The estimate beside the truth, {truth['measure']} of final against the base: {final['estimated']:+.4f} "
            f"on synthetic dev queries, {final['true']:+.4f} on judged {report['split']} queries{order}."
        )
    for one in report["generations"]:
        yield f"Generation {one['generation']}: {one['reason']}"


def _seen_note(parts: Mapping[str, Any] | None) -> list[str]:
    if parts is None:
        return []
    means = [
        f"{name} {parts['means'][name]['seen']:.4f} and {parts['means'][name]['unseen']:.4f}"
        for name in ("student_0", "hard_labels", "final")
        if name in parts["means"]
    ]
    tests = [
        f"{row['difference']:+.4f} against {row['b']} ({row['interval95'][0]:+.4f} to {row['interval95'][1]:+.4f}, "
        f"p = {row['p_holm']:.2g} after Holm)"
        for row in parts["unseen_tests"]
    ]
    return [
        f"{parts['n_seen']} queries have a positive that train judges as well, {parts['n_unseen']} have none; "
        f"{parts['measure']} on the former and on the latter: {', '.join(means)}. On the latter final is "
        f"{', '.join(tests)}."
    ]
