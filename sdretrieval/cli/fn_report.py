"""`fn-report`: unlabelled candidates that the teacher finds as good as a known positive, for a person to judge.

Legend: Q lists, T candidates in all lists together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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


def fn_report_command(
    what: ConfigOrRun,
    tsv: Annotated[Path | None,
        typer.Option(metavar="FILE",
            help="write the suspects to a file to mark (.tsv, .csv or .jsonl); marks in it are kept")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page of the suspects and the curve")] = None,
    count: Annotated[int, typer.Option("-n", help="how many suspects")] = 50,
    rule: Annotated[
        str | None, typer.Option(help="margin or percent_of_positive (default: the config's, else margin)")] = None,
    margin: Annotated[float | None, typer.Option(help="replaces targets.false_negatives.margin")] = None,
    percent: Annotated[float | None, typer.Option(help="replaces targets.false_negatives.percent")] = None,
    settings: Settings = None, runs: Runs = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Likely false negatives: unlabelled candidates that the teacher finds as good as a known positive."""
    check_writable("--tsv", tsv)
    check_writable("--html", html)
    if tsv is not None:
        check_to_mark(tsv)
    with stdout_kept_clean():
        record = suspects_of(
            what, overrides=settings or (), runs=runs, rule=rule, margin=margin, percent=percent, limit=count
        )
    kept = write_to_mark(record, tsv) if tsv is not None else 0
    if html is not None:
        write_text(html, render_suspects(record))
    if as_json:
        print_json(record)
        return
    _print(record)
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
        for one in record["suspects"]
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


def render_suspects(record: Mapping[str, Any]) -> str:
    """The record of `suspects_of` as one self-contained HTML page, styled as a run's report; texts are escaped."""
    from sdretrieval.report.page import line_chart, page_template

    points = [
        {"generation": f"{one['value']:g}", "dev": one["removed_share"], "test": one["caught_share"]}
        for one in record["curve"]["settings"]
    ]
    # The chart's two lines wear the colours of a report's two.
    chart = line_chart(points, "share", {"dev": "removed", "test": "caught"})
    return page_template("suspects.html").render(record=record, curve=record["curve"], chart=chart)


def suspects_of(
    what: str, *, overrides: Sequence[str] = (), runs: Path | None = None, rule: str | None = None,
    margin: float | None = None, percent: float | None = None, limit: int = 50,
) -> dict[str, Any]:  # fmt: skip
    """The suspects among the first generation's lists, those furthest above their threshold first, and the curve.

    `what`: a run, or a config, of which the stages up to 1/score are made if they are missing. `rule`, `margin` and
    `percent` replace the config's; without any rule it is `margin`. At most `limit` suspects are listed in full.

    Raises RequestError for a rule or number out of range, and what a run raises.
    """
    import numpy as np

    from sdretrieval.ragged import Ragged
    from sdretrieval.run.api import open_stages
    from sdretrieval.targets.false_negatives import thresholds

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
    with open_stages(config, _stages, "fn-report", runs=runs) as run:
        return _record(*_stages(run), chosen, numbers, limit)


def write_to_mark(record: dict[str, Any], path: Path) -> int:
    """Write the suspects to a file that a person marks, .tsv, .csv or .jsonl; how many marks it already held.

    Lines that are marked stay as they are, and first: no verdict is ever lost. Raises RequestError for another ending,
    and for a file that is there and is something else.
    """
    from sdretrieval.corpus.verdicts import kept_records, marks_text, pairs_of

    check_to_mark(path)
    kept = kept_records(path)
    known = {pair for line in kept for pair in pairs_of(line)}
    fresh = [row for row in record["suspects"] if not known.intersection(pairs_of(row))]
    write_text(path, marks_text([*kept, *fresh], path.suffix.lower()))
    return len(kept)


def check_to_mark(path: Path) -> None:
    """Raise RequestError if no suspects can be written to `path`."""
    from sdretrieval.corpus.verdicts import ENDINGS, kept_records

    if path.suffix.lower() not in ENDINGS:
        raise RequestError(f"--tsv {path}: found the ending {path.suffix!r}; expected one of {', '.join(ENDINGS)}")
    kept_records(path)


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
    from sdretrieval.run.loop import mine_base, mixture_weights, prepare, score_base

    base = prepare(run)
    mined = mine_base(base)
    return base, mined, score_base(base, mined), mixture_weights(base)


def _record(
    base: Base, mined: Artifact, scored: Artifact, weighed: MixtureWeights, rule: Rule, numbers: dict[str, float],
    limit: int,
) -> dict[str, Any]:  # fmt: skip
    import numpy as np

    from sdretrieval.mining.candidates import Candidates
    from sdretrieval.stages.targets import confirmed_negatives
    from sdretrieval.targets.calibrate import calibrate, corpus_statistics, per_entry
    from sdretrieval.targets.false_negatives import margin_curve, thresholds
    from sdretrieval.teachers.ensemble import TeacherScores

    collection = base.collection
    candidates, verdicts = Candidates.load(mined.path), collection.verdicts
    raw, weights = TeacherScores.load(scored.path), weighed.values()
    mixed, unknown = raw.mixed(weights), raw.unknown(weights)
    known_T = ~unknown.values_T if unknown is not None else np.ones(len(mixed.values_T), dtype=bool)
    scores = calibrate(mixed, corpus_statistics(mixed.only(known_T)))  # as the rule judges it in training
    judged = candidates.positive.with_values(candidates.positive.values_T & known_T)
    threshold_Q = thresholds(rule, scores, judged, **numbers)
    suspect_T = known_T & ~candidates.positive.values_T & (scores.values_T > per_entry(threshold_Q, scores))
    confirmed = confirmed_negatives(verdicts, candidates)
    if confirmed is not None:
        suspect_T &= ~confirmed.values_T
    suspects = np.flatnonzero(suspect_T)
    curve = margin_curve(rule, scores.only(known_T), candidates.positive.only(known_T))
    worst = suspects[np.argsort(-(scores.values_T - per_entry(threshold_Q, scores))[suspects], kind="stable")][:limit]
    return {
        "run": base.run.config.name,
        "corpus": collection.notes["name"],
        "rule": rule,
        "value": numbers["margin" if rule == "margin" else "percent"],
        "lists": len(candidates),
        "lists_without_positive": int(np.isinf(threshold_Q).sum()),
        "candidates": int((~candidates.positive.values_T).sum()),
        "found": len(suspects),
        "verdicts": dict(zip(("relevant", "not"), verdicts.pairs, strict=True)),
        "suspects": _rows(collection.corpus, candidates, scores, threshold_Q, worst),
        "curve": {**asdict(curve), "settings": [one._asdict() for one in curve.settings]},
    }


def _rows(
    corpus: Corpus, candidates: Candidates, scores: Ragged, threshold_Q: Array, entries: Array
) -> list[dict[str, Any]]:
    import numpy as np

    from sdretrieval.corpus import content_digest

    list_T = candidates.rows.list_of_entry
    rows = []
    for entry in entries.tolist():
        q = int(list_T[entry])
        known = candidates.rows[q][candidates.positive[q]]
        best = int(known[np.argmax(scores[q][candidates.positive[q]])])
        query, document = int(candidates.query_rows_Q[q]), int(candidates.rows.values_T[entry])
        query_text, document_text = corpus.query_texts([query])[0], corpus.document_text(document)
        rows.append(
            {
                "verdict": "",
                "query": query_text[:EXCERPT],
                "document": document_text[:EXCERPT],
                "known_positive": corpus.document_text(best)[:EXCERPT],
                "teacher_score": round(float(scores.values_T[entry]), 4),
                "threshold": round(float(threshold_Q[q]), 4),
                "student_score": round(float(candidates.scores.values_T[entry]), 4),
                "query_id": corpus.query_ids[query],
                "document_id": corpus.document_ids[document],
                "query_digest": content_digest(query_text).hex(),
                "document_digest": content_digest(document_text).hex(),
            }
        )
    return rows
