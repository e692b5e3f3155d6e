"""The report's plain words: its headline, and what a reader must not overlook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdretrieval.evaluation.gate import ENOUGH
from sdretrieval.formatting import quantity, readable_seconds
from sdretrieval.report.judged import judge_notes
from sdretrieval.report.page import (
    COMPARISONS,
    dev_name,
    findings,
    improved,
    judge_of_dev,
    p_value,
    signed,
    span,
    split_name,
)
from sdretrieval.stages.results import Results


def headline(report: Mapping[str, Any]) -> str:
    """One sentence: what became of the student."""
    against = next(row for row in report["tests"] if row["b"] == "student_0")
    before, after = (report["measures"][name][against["measure"]] for name in ("student_0", "final"))
    base = "the base with its lexical half" if "half_0" in report["measures"] else "the base"
    few = f"dev has {quantity(report['n_dev_queries'], 'queries')}, {ENOUGH} are needed to decide"
    if not report["trained"] and report["pretrained"] is None:
        why = few if report["n_dev_queries"] < ENOUGH else "the probe found no teacher better than the student"
        return f"Nothing was trained: {why}, so the final student is {base} ({against['measure']} {after:.4f})."
    tried = [*filter(None, [report["pretrained"]]), *report["generations"]]
    if tried[0]["decision"] == "undecided":
        return f"Nothing was accepted, the final student is {base}: {few}."
    if not improved(report):
        what = "No generation" if report["pretrained"] is None else "Nothing that was trained"
        return f"{what} passed the gate: the final student is {base}."
    interval = f"95 % interval {span(against['interval95'], 4)}, p {p_value(against['p_holm'], sign=True)} after Holm"
    return (
        f"{against['measure']} on {report['corpus']} {split_name(report)}: {before:.4f} to {after:.4f} "
        f"({signed(against['difference'], 4)}, {interval if report['n_queries'] > 1 else 'one query'}): "
        f"{against['verdict']}{_over_seeds(report, against['measure'])}."
    )


def _over_seeds(report: Mapping[str, Any], measure: str) -> str:
    """Of how many trainings that is the average, how far they are apart, and which of them is served."""
    seeds = report["seeds"]
    if len(seeds) == 1:
        return ""
    spread = report["spread"]["final"][measure]
    return (
        f"; the average of {len(seeds)} seeds, standard deviation {spread:.4f}; the student of seed {seeds[0]} is kept"
    )


def notes(results: Results, report: Mapping[str, Any]) -> list[str]:
    """What a reader must not overlook: how the student compares, estimates, the power of dev."""
    config, run = results.run.config, len(results.generations)
    lines = findings(report, COMPARISONS[1:])  # the headline has the first
    if report["by_seed"]:
        means = report["by_seed"]["final"][config.evaluate.measures[0]].items()
        listed = ", ".join(f"{value:.4f} (seed {seed})" for seed, value in means)
        lines.insert(0, f"{config.evaluate.measures[0]} of final by seed: {listed}.")
    if results.run.pretrained is not None and not results.generations:
        lines.append(
            "Nothing was taught: the probe found no teacher better than the student that learned from documents."
        )
    if results.generations and results.generations[0].scores is None:
        lines.append("The probe found no teacher better than the student, so training learned from labels alone.")
    lines += _seen_note(report["seen_positives"])
    if repeated := results.base.collection.notes["repeated_queries"]:
        lines.append(f"Training leaves out {quantity(repeated, 'queries')} whose text is in two splits.")
    if results.run.learns_queries_only:
        lines.append(
            "Only the query encoder learns (student.train: query): documents keep the base student's vectors in every "
            "row above, so an index of them stays valid."
        )
    if results.run.learns_adapter_only:
        lines.append(
            "Only a linear map behind the base student learns (student.train: adapter): every vector above is the base "
            "student's times one matrix, so an index of the base's vectors can be mapped without encoding a text."
        )
    if results.forgotten is not None:
        lines.append(results.forgotten.sentence())
    lines += _smaller_notes(report)
    lines += _dev_notes(report)
    if report["probability"]["estimate"]:
        lines.append(
            "Probabilities that search prints are estimates, made on other collections: there are too few judged dev "
            "queries to fit them on."
        )
    if 0 < run < config.generations:
        lines.append(
            f"{run} of {config.generations} generations were run: after one that was not accepted the next would have "
            "trained the same student from the same lists."
        )
    return lines


def _smaller_notes(report: Mapping[str, Any]) -> Iterator[str]:
    """What each smaller student keeps, and what it saves."""
    for one in report["smaller"]:
        name, measure, cost = one["name"], one["measure"], one["cost"]
        test = next(row for row in report["tests"] if (row["a"], row["b"]) == (name, "final"))
        value, whole = (report["measures"][system][measure] for system in (name, "final"))
        kept = "" if one["kept"] is None else f", {one['kept']:.1%} of final's"
        small, large = cost["smaller"], cost["final"]
        times = large["query_ms"] / small["query_ms"]
        yield (
            f"{name} has {measure} {value:.4f}{kept} {whole:.4f} ({signed(test['difference'], 4)}, "
            f"{span(test['interval95'], 4)}, {test['verdict']}): {small['dims']} dims for {large['dims']}, a query in "
            f"{small['query_ms']:.2f} ms for {large['query_ms']:.2f} ({times:.1f} times as fast), "
            f"{small['documents_a_second']:,.0f} documents a second for {large['documents_a_second']:,.0f}."
        )


def advice(probe: Mapping[str, Any]) -> str:
    """The probe's word: which teacher to take, what it promises and what it costs; or that there is nothing to learn.

    `probe`: `probe.json`, with prices if they are known.
    """
    members = probe["members"]
    if not probe["train"]:
        return f"skip training, there is nothing to learn: {probe['reason']}"
    row = next(row for row in probe["rows"] if row["weights"] == probe["weights"])
    ours = "" if probe["chosen"] or len(members) == 1 else ", the config's mixture"
    if probe["predicted"]:
        gain = probe["reason"].rstrip(".")
    else:
        dev = dev_name(probe["estimate"], probe["judge"])
        gain = f"{signed(row['difference'])} ({span(row['interval95'])}) in {probe['measure']} on {dev}"
    cost = price([one for one, weight in zip(members, row["weights"], strict=True) if weight > 0])
    return f"take {row['teacher']}{ours}: {gain}{f'; to score the training lists: {cost}' if cost else ''}."


def price(members: Sequence[Mapping[str, Any]]) -> str:
    """What teachers cost together: time on this machine, calls of models behind servers; empty if nothing is known."""
    asked = [one["asked"] for one in members if one.get("asked")]
    taken = [one.get("seconds") for one in members if not one.get("asked")]
    known: list[float] = [seconds for seconds in taken if seconds is not None]
    total, parts = sum(known), []
    if known and len(known) == len(taken):
        parts.append(readable_seconds(total) if total else "nothing")
    parts += [
        f"{quantity(one['calls'], 'calls')} with {one['prompt_tokens']:,} tokens of {one['model']}" for one in asked
    ]
    return " and ".join(parts)


def _dev_notes(report: Mapping[str, Any]) -> Iterator[str]:
    measure = report["tests"][0]["measure"]
    if report["estimate"]:
        before, after = (report["dev_measures"][name][measure] for name in ("student_0", "final"))
        yield (
            "Dev queries were made from documents (no labels used): every dev figure is an estimate. Estimated "
            f"{measure} on {dev_name(True, judge_of_dev(report))}, base to final: {before:.4f} to {after:.4f}."
        )
    yield from judge_notes(report["judge"])
    if found := report["trust"]:
        kept = ", ".join(f"{kind} {keep:.2f}" for kind, keep in found["overlap"]["keep"].items())
        yield (
            f"Documents of synthetic queries hold {found['overlap']['share']:.2f} of a query's words, as documents of "
            f"real queries do ({found['overlap']['why']}); a word stays with probability: {kept}."
        )
        if found["true_gain"] and improved(report):
            yield (
                f"The true gain of final in {measure} is {span(found['true_gain'], 4)}, as the estimates of the "
                "study's collections went (docs/estimates.md)."
            )
        for doubt in found["doubts"]:
            yield f"This estimate is not to be trusted: {doubt}."
        if hybrid := found["hybrid"]:
            yield (
                f"Hybrid search with the base is predicted to gain {signed(hybrid['gain'], 4)} in nDCG@10 over the "
                f"base alone ({span((hybrid['low'], hybrid['high']), 4)} in 90 of 100 cases), from "
                f"{quantity(hybrid['queries'], 'queries')} that people asked, without judgements (docs/estimates.md)."
            )
            for doubt in hybrid["doubts"]:
                yield f"This prediction is not to be trusted: {doubt}."
    if report["split_is_synthetic"] and report["split"] != "dev":
        yield f"So were the {report['split']} queries: every figure of {split_name(report)} is an estimate as well."
    if truth := report["estimate_against_truth"]:
        final = next(row for row in truth["rows"] if row["system"] == "final")
        order = "" if truth["agreement"] is None else f"; order of the systems: Kendall's tau {truth['agreement']:.2f}"
        yield (
            f"The estimate beside the truth, {truth['measure']} of final against the base: "
            f"{signed(final['estimated'], 4)} on synthetic dev queries, {signed(final['true'], 4)} on judged "
            f"{report['split']} queries{order}."
        )
    if report["pretrained"] is not None:
        yield f"Pretraining on documents: {report['pretrained']['reason']}"
    for one in report["generations"]:
        seed = f", seed {one['seed']}" if len(report["seeds"]) > 1 else ""
        yield f"Generation {one['generation']}{seed}: {one['reason']}"


def _seen_note(parts: Mapping[str, Any] | None) -> list[str]:
    if parts is None:
        return []
    means = [
        f"{name} {parts['means'][name]['seen']:.4f} and {parts['means'][name]['unseen']:.4f}"
        for name in ("student_0", "hard_labels", "final")
        if name in parts["means"]
    ]
    tests = [
        f"{signed(row['difference'], 4)} against {row['b']} ({span(row['interval95'], 4)}, "
        f"p {p_value(row['p_holm'], sign=True)} after Holm)"
        for row in parts["unseen_tests"]
    ]
    return [
        f"Queries with a positive that training has seen: {parts['n_seen']:,}; without: {parts['n_unseen']:,}. "
        f"{parts['measure']} on the former and on the latter: {', '.join(means)}. On the latter final has "
        f"{', '.join(tests)}."
    ]
