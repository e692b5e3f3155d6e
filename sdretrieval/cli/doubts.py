"""`doubts`: pairs that are worth a person's judgement, since labels, student and teacher disagree on them.

Unlabelled candidates that the teacher finds as good as a known positive; labels that it finds far worse than something
else; the first documents of queries without labels where student and teacher differ.

Legend: Q lists, T candidates in all lists together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.live import live_table
from sdretrieval.cli.lookup import config_or_run
from sdretrieval.cli.options import ConfigOrRun, Json, Runs, Settings
from sdretrieval.cli.output import check_writable, excerpt, print_json, print_table, say, stdout_kept_clean
from sdretrieval.errors import RequestError
from sdretrieval.files import write_text
from sdretrieval.formatting import quantity

if TYPE_CHECKING:
    from sdretrieval.corpus import Corpus
    from sdretrieval.mining.candidates import Candidates
    from sdretrieval.ragged import Array, Ragged
    from sdretrieval.stages.results import Base
    from sdretrieval.stages.run import Run
    from sdretrieval.stages.targets import MixtureWeights
    from sdretrieval.store.runner import Artifact
    from sdretrieval.targets.false_negatives import Rule

EXCERPT = 1000
"""Characters of a text that a person is shown in the file and on the page."""
SHORT_EXCERPT = 90
"""Characters of a text that the table shows."""
RULES = ("margin", "percent_of_positive")
KINDS = {
    "negatives": "likely false negatives",
    "labels": "labels that may be wrong, each with the document that the teacher prefers",
    "queries": "queries without labels on whose first document student and teacher differ",
}
"""Of pairs to judge, by what `--of` asks for."""


def doubts_command(
    what: ConfigOrRun,
    of: Annotated[str, typer.Option(help="; ".join(f"{kind}: {text}" for kind, text in KINDS.items()))] = "negatives",
    tsv: Annotated[Path | None,
        typer.Option(metavar="FILE",
            help="write the suspects to a file to mark (.tsv, .csv or .jsonl); marks in it are kept")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page of the suspects and the curve")] = None,
    count: Annotated[int, typer.Option("-n", help="how many of them")] = 50,
    rule: Annotated[
        str | None, typer.Option(help="margin or percent_of_positive (default: the config's, else margin)")] = None,
    margin: Annotated[float | None, typer.Option(help="replaces targets.false_negatives.margin")] = None,
    percent: Annotated[float | None, typer.Option(help="replaces targets.false_negatives.percent")] = None,
    settings: Settings = None, runs: Runs = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Pairs to judge: likely false negatives, labels that may be wrong, queries that are the cheapest to label."""
    check_writable("--tsv", tsv)
    check_writable("--html", html)
    if tsv is not None:
        check_to_mark(tsv)
    with stdout_kept_clean(), live_table():
        record = doubts_of(
            what, of=of, overrides=settings or (), runs=runs, rule=rule, margin=margin, percent=percent, limit=count
        )
    kept = write_to_mark(record, tsv) if tsv is not None else 0
    if html is not None:
        write_text(html, render_doubts(record))
    if as_json:
        print_json(record)
        return
    _print(record) if of == "negatives" else _print_doubts(record)
    if tsv is not None:
        marks = f" ({kept} marked line{'s' * (kept != 1)} kept)" if kept else ""
        say(f"to mark: {tsv}{marks}: write relevant or not into its first column, then --set corpus.verdicts={tsv}")
    if html is not None:
        say(f"page: {html}")


def _print(record: dict[str, Any]) -> None:
    from sdretrieval.report.page import number

    rows = [
        [number(one["teacher_score"]), number(one["threshold"]), number(one["student_score"]),
         excerpt(one["query"], SHORT_EXCERPT), excerpt(one["document"], SHORT_EXCERPT)]
        for one in record["doubts"]
    ]  # fmt: skip
    if rows:
        columns = ["teacher", "threshold", "student", "query", "suspect"]
        print_table(columns, rows, right=columns[:3])
    curve, name = record["curve"], "margin" if record["rule"] == "margin" else "percent"
    say(
        "",
        f"suspects: {record['found']} of {quantity(record['candidates'], 'unlabelled candidates')} "
        f"({name} {record['value']:g})",
    )
    if record["lists_without_positive"]:
        say(
            f"lists without a known positive (no rule judges them): {record['lists_without_positive']} of "
            f"{record['lists']}"
        )
    say(
        "",
        f"Removed: of {curve['candidates']} unlabelled candidates. Caught: of {curve['held_out']} known positives, "
        "each taken as unlabelled in turn.",
    )
    cells = [
        [f"{one['value']:g}", number(one["removed"]), number(one["removed_share"]), number(one["caught"]),
         number(one["caught_share"])]
        for one in curve["settings"]
    ]  # fmt: skip
    columns = [name, "removed", "share", "caught", "share "]
    print_table(columns, cells, right=columns)
    say("", curve["advice"])


def _print_doubts(record: dict[str, Any]) -> None:
    from sdretrieval.report.page import number

    rows = [
        [number(one["gap"]), one["is"], excerpt(one["query"], SHORT_EXCERPT), excerpt(one["document"], SHORT_EXCERPT)]
        for one in record["doubts"]
    ]
    if rows:
        print_table(["behind by", "is", "query", "document"], rows, right=["behind by"])
    say("", record["sentence"])


def render_doubts(record: Mapping[str, Any]) -> str:
    """The record of `doubts_of` as one self-contained HTML page, styled as a run's report; texts are escaped."""
    from sdretrieval.report.page import line_chart, page_template

    if record["of"] != "negatives":
        return page_template("doubts.html").render(record=record, curve=None, chart=None)
    points = [
        {"generation": f"{one['value']:g}", "dev": one["removed_share"], "test": one["caught_share"]}
        for one in record["curve"]["settings"]
    ]
    # The chart's two lines wear the colours of a report's two.
    chart = line_chart(points, "share", {"dev": "removed", "test": "caught"})
    return page_template("doubts.html").render(record=record, curve=record["curve"], chart=chart)


def doubts_of(
    what: str, *, of: str = "negatives", overrides: Sequence[str] = (), runs: Path | None = None,
    rule: str | None = None, margin: float | None = None, percent: float | None = None, limit: int = 50,
) -> dict[str, Any]:  # fmt: skip
    """Pairs of the first generation's lists that are worth a judgement: of `KINDS`, which `of` names. False negatives
    come with the curve, those furthest above their threshold first; the others by how far the teacher finds a label, or
    the student's first document, behind its own best (two pairs each: that one, and the teacher's).

    `what`: a run, or a config, of which the stages up to 1/score are made if they are missing. `rule`, `margin` and
    `percent` replace the config's; without any rule it is `margin`. At most `limit` are listed in full.

    Raises RequestError for a rule or number out of range, and what a run raises.
    """
    import numpy as np

    from sdretrieval.ragged import Ragged
    from sdretrieval.run.api import open_stages
    from sdretrieval.targets.false_negatives import thresholds

    _check_kind(of, rule, margin, percent)
    config, runs, _ = config_or_run(what, overrides, runs)
    section = config.targets.false_negatives
    chosen = _rule(rule, margin, percent, section.rule)
    numbers = {
        "margin": section.margin if margin is None else margin,
        "percent": section.percent if percent is None else percent,
    }
    empty = Ragged.of([], np.float64)
    thresholds(chosen, empty, empty, **numbers)  # raises for a number out of range, before any work
    if limit < 1:
        raise RequestError(f"-n {limit}: expected at least 1")
    with open_stages(config, _stages, "doubts", runs=runs) as run:
        base, mined, scored, weighed = _stages(run)
        if of == "negatives":
            return {**_head(base, of), **_negatives(base, mined, scored, weighed, chosen, numbers, limit)}
        return {**_head(base, of), **_doubts(base, mined, scored, weighed, of, limit)}


def write_to_mark(record: dict[str, Any], path: Path) -> int:
    """Write the suspects to a file that a person marks, .tsv, .csv or .jsonl; how many marks it already held.

    Lines that are marked stay as they are, and first: no verdict is ever lost. Raises RequestError for another ending,
    and for a file that is there and is something else.
    """
    from sdretrieval.corpus.verdicts import kept_records, marks_text, pairs_of

    check_to_mark(path)
    kept = kept_records(path)
    known = {pair for line in kept for pair in pairs_of(line)}
    fresh = [row for row in record["doubts"] if not known.intersection(pairs_of(row))]
    write_text(path, marks_text([*kept, *fresh], path.suffix.lower()))
    return len(kept)


def check_to_mark(path: Path) -> None:
    """Raise RequestError if no suspects can be written to `path`."""
    from sdretrieval.corpus.verdicts import ENDINGS, kept_records

    if path.suffix.lower() not in ENDINGS:
        raise RequestError(f"--tsv {path}: found the ending {path.suffix!r}; expected one of {', '.join(ENDINGS)}")
    kept_records(path)


def _check_kind(of: str, rule: str | None, margin: float | None, percent: float | None) -> None:
    if of not in KINDS:
        raise RequestError(f"--of {of}: expected one of {', '.join(KINDS)}")
    for name, value in (("rule", rule), ("margin", margin), ("percent", percent)):
        if of != "negatives" and value is not None:
            raise RequestError(f"--{name} is of false negatives; found --of {of}; leave one of them out")


def _rule(rule: str | None, margin: float | None, percent: float | None, configured: Rule) -> Rule:
    """The rule that was asked for, by its name or by its number; else the config's; else `margin`."""
    if margin is not None and percent is not None:
        raise RequestError("--margin and --percent are numbers of two rules; expected one of them")
    if rule is not None and rule not in RULES:
        raise RequestError(f"--rule {rule}: expected {' or '.join(RULES)}")
    by_number = "margin" if margin is not None else "percent_of_positive" if percent is not None else None
    if rule is not None and by_number not in (None, rule):
        option = "--margin" if margin is not None else "--percent"
        raise RequestError(f"--rule {rule} has no {option}; leave one of them out")
    return "percent_of_positive" if (rule or by_number or configured) == "percent_of_positive" else "margin"


def _stages(run: Run) -> tuple[Base, Artifact, Artifact, MixtureWeights]:
    from sdretrieval.run.loop import begin, mine_base, mixture_weights, score_base

    base = begin(run)
    mined = mine_base(base)
    return base, mined, score_base(base, mined), mixture_weights(base)


def _head(base: Base, of: str) -> dict[str, Any]:
    notes, verdicts = base.collection.notes, base.collection.verdicts
    return {
        "run": base.run.config.name,
        "corpus": notes["name"],
        "of": of,
        "verdicts": dict(zip(("relevant", "not"), verdicts.pairs, strict=True)),
    }


def _negatives(
    base: Base, mined: Artifact, scored: Artifact, weighed: MixtureWeights, rule: Rule, numbers: dict[str, float],
    limit: int,
) -> dict[str, Any]:  # fmt: skip
    import numpy as np

    from sdretrieval.mining.candidates import Candidates
    from sdretrieval.stages.targets import confirmed_negatives
    from sdretrieval.targets.calibrate import calibrate, corpus_statistics, per_entry
    from sdretrieval.targets.false_negatives import margin_curve, thresholds
    from sdretrieval.teachers.ensemble import TeacherScores

    candidates = Candidates.load(mined.path)
    raw, weights = TeacherScores.load(scored.path), weighed.values()
    mixed, unknown = raw.mixed(weights), raw.unknown(weights)
    known_T = ~unknown.values_T if unknown is not None else np.ones(len(mixed.values_T), dtype=bool)
    scores = calibrate(mixed, corpus_statistics(mixed.only(known_T)))  # as the rule judges it in training
    judged = candidates.positive.with_values(candidates.positive.values_T & known_T)
    threshold_Q = thresholds(rule, scores, judged, **numbers)
    suspect_T = known_T & ~candidates.positive.values_T & (scores.values_T > per_entry(threshold_Q, scores))
    confirmed = confirmed_negatives(base.collection.verdicts, candidates)
    if confirmed is not None:
        suspect_T &= ~confirmed.values_T
    suspects = np.flatnonzero(suspect_T)
    curve = margin_curve(rule, scores.only(known_T), candidates.positive.only(known_T))
    worst = suspects[np.argsort(-(scores.values_T - per_entry(threshold_Q, scores))[suspects], kind="stable")][:limit]
    return {
        "rule": rule,
        "value": numbers["margin" if rule == "margin" else "percent"],
        "lists": len(candidates),
        "lists_without_positive": int(np.isinf(threshold_Q).sum()),
        "candidates": int((~candidates.positive.values_T).sum()),
        "found": len(suspects),
        "doubts": _rows(base.collection.corpus, candidates, scores, threshold_Q, worst),
        "curve": {**asdict(curve), "settings": [one._asdict() for one in curve.settings]},
    }


def _doubts(
    base: Base, mined: Artifact, scored: Artifact, weighed: MixtureWeights, of: str, limit: int
) -> dict[str, Any]:
    import numpy as np

    from sdretrieval.mining.candidates import Candidates
    from sdretrieval.stages.targets import confirmed_negatives
    from sdretrieval.targets.doubts import disagreements, doubtful_labels
    from sdretrieval.teachers.ensemble import TeacherScores

    candidates, raw, weights = Candidates.load(mined.path), TeacherScores.load(scored.path), weighed.values()
    out = [raw.unknown(weights), confirmed_negatives(base.collection.verdicts, candidates)]
    scores, positive = raw.mixed(weights), candidates.positive
    for mask in out:
        if mask is not None:
            scores = scores.with_values(np.where(mask.values_T, -np.inf, scores.values_T))
    if of == "labels":
        found, total = doubtful_labels(scores, positive), int(positive.values_T.sum())
        names = "label", "teacher's best"
        what = "the teacher finds an unlabelled document better"
    else:
        found, total = disagreements(scores, candidates.scores, positive), sum(not known.any() for known in positive)
        names = "student's first", "teacher's first"
        what = "student and teacher have different first documents"
    rows = [
        {**_row(base.collection.corpus, candidates, scores, one.query_position, place), "is": name, "gap": one.gap}
        for one in found[:limit]
        for name, place in zip(names, (one.doubted, one.rival), strict=True)
    ]
    counted = quantity(total, "labels" if of == "labels" else "queries without a known positive")
    return {"found": len(found), "sentence": f"{len(found)} of {counted}: {what}.", "doubts": rows}


def _rows(
    corpus: Corpus, candidates: Candidates, scores: Ragged, threshold_Q: Array, entries: Array
) -> list[dict[str, Any]]:
    import numpy as np

    list_T = candidates.rows.list_of_entry
    rows = []
    for entry in entries.tolist():
        q = int(list_T[entry])
        known = candidates.rows[q][candidates.positive[q]]
        best = int(known[np.argmax(scores[q][candidates.positive[q]])])
        row = _row(corpus, candidates, scores, q, entry - int(candidates.rows.offsets[q]))
        known_positive = corpus.document_text(best)[:EXCERPT]
        rows.append({**row, "known_positive": known_positive, "threshold": round(float(threshold_Q[q]), 4)})
    return rows


def _row(corpus: Corpus, candidates: Candidates, scores: Ragged, position: int, place: int) -> dict[str, Any]:
    """A pair to mark: a list's query and the candidate at a place in it."""
    from sdretrieval.corpus import content_digest

    query, document = int(candidates.query_rows_Q[position]), int(candidates.rows[position][place])
    query_text, document_text = corpus.query_texts([query])[0], corpus.document_text(document)
    return {
        "verdict": "",
        "query": query_text[:EXCERPT],
        "document": document_text[:EXCERPT],
        "known_positive": None,
        "teacher_score": round(float(scores[position][place]), 4),
        "threshold": None,
        "student_score": round(float(candidates.scores[position][place]), 4),
        "query_id": corpus.query_ids[query],
        "document_id": corpus.document_ids[document],
        "query_digest": content_digest(query_text).hex(),
        "document_digest": content_digest(document_text).hex(),
    }
