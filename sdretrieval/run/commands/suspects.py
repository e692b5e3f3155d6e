"""`fn-report`: unlabelled candidates that the teacher finds as good as a known positive, for a person to judge.

Legend: Q lists, T candidates in all lists together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.config import Config, load_config
from sdretrieval.corpus import Corpus, content_digest
from sdretrieval.corpus.verdicts import ENDINGS, kept_records, marks_text, pairs_of
from sdretrieval.errors import RequestError
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.run.api import open_stages
from sdretrieval.run.commands.serving import serving_of
from sdretrieval.run.generations import Pipeline
from sdretrieval.stages import search, teach
from sdretrieval.store.run_folder import find_run, write_text
from sdretrieval.targets.calibrate import calibrate, corpus_statistics, per_entry
from sdretrieval.targets.false_negatives import Rule, margin_curve, thresholds
from sdretrieval.teachers.ensemble import TeacherScores

EXCERPT = 1000
"""Characters of a text that a person is shown."""
USUAL_RULE: Rule = "margin"
"""Where the config has none."""
JUDGING: dict[str, Rule] = {"margin": "margin", "percent_of_positive": "percent_of_positive"}


def suspects_of(
    what: str,
    *,
    overrides: Sequence[str] = (),
    runs: Path | None = None,
    rule: str | None = None,
    margin: float | None = None,
    percent: float | None = None,
    limit: int = 50,
) -> dict[str, Any]:
    """The suspects among the first generation's lists, those furthest above their threshold first, and the curve.

    `what`: a run, or a config, of which the stages up to 1/score are made where they are missing. `rule`, `margin` and
    `percent` replace the config's; without any rule it is `margin`. At most `limit` suspects are told in full.

    Raises RequestError for a rule or number out of range, and what a run raises.
    """
    config, runs = _config_of(what, overrides, runs)
    asked = config.targets.false_negatives
    chosen = _rule(rule, margin, percent, asked.rule)
    numbers = {
        "margin": asked.margin if margin is None else margin,
        "percent": asked.percent if percent is None else percent,
    }
    empty = Ragged.of([], np.float64)
    thresholds(chosen, empty, empty, **numbers)  # raises for a number out of range, before any work
    if limit < 1:
        raise RequestError(f"-n {limit}: expected at least 1")
    with open_stages(config, _walk, "fn-report", runs=runs) as pipeline:
        return _record(pipeline, chosen, numbers, limit)


def write_to_mark(record: dict[str, Any], path: Path) -> int:
    """Write the suspects to a file that a person marks, .tsv, .csv or .jsonl; how many marks it already held.

    Lines that are marked stay as they are, and first: no verdict is ever lost. Raises RequestError for another ending,
    and for a file that is there and is something else.
    """
    check_to_mark(path)
    kept = kept_records(path)
    known = {pair for line in kept for pair in pairs_of(line)}
    fresh = [row for row in record["suspects"] if not known.intersection(pairs_of(row))]
    write_text(path, marks_text([*kept, *fresh], path.suffix.lower()))
    return len(kept)


def check_to_mark(path: Path) -> None:
    """Raise RequestError where no suspects can be written to `path`."""
    if path.suffix.lower() not in ENDINGS:
        raise RequestError(f"--tsv {path}: found the ending {path.suffix!r}; expected one of {', '.join(ENDINGS)}")
    kept_records(path)


def _config_of(what: str, overrides: Sequence[str], runs: Path | None) -> tuple[Config, Path | None]:
    """The config, and the folder of runs whose store holds what was made with it."""
    if Path(what).suffix in (".yaml", ".yml") or Path(what).is_file():
        return load_config(what, overrides), runs
    if overrides:
        raise RequestError(f"--set changes a config; {what} is a run, whose settings stand; name its YAML instead")
    folder = find_run(what, runs)
    return serving_of(folder).config(), folder.parent


def _rule(rule: str | None, margin: float | None, percent: float | None, configured: Rule) -> Rule:
    """The rule that was asked for, by its name or by its number; else the config's."""
    if margin is not None and percent is not None:
        raise RequestError("--margin and --percent are numbers of two rules; expected one of them")
    if rule is not None and rule not in JUDGING:
        raise RequestError(f"--rule {rule}: expected {' or '.join(JUDGING)}")
    by_number = "margin" if margin is not None else "percent_of_positive" if percent is not None else None
    if rule is not None and by_number not in (None, rule):
        option = "--margin" if margin is not None else "--percent"
        raise RequestError(f"--rule {rule} has no {option}; leave one of them out")
    return JUDGING[rule or by_number or (configured if configured in JUDGING else USUAL_RULE)]


def _walk(pipeline: Pipeline) -> tuple[Any, Any]:
    lists = pipeline.mine(1, pipeline.base)
    scores = pipeline.score("1/score", lists, pipeline.teacher_vectors(1, pipeline.base))
    pipeline.weighing()
    return lists, scores


def _record(pipeline: Pipeline, rule: Rule, numbers: dict[str, float], limit: int) -> dict[str, Any]:
    mined, scored = _walk(pipeline)
    candidates, verdicts = search.load_candidates(mined), pipeline.prepared.verdicts
    said, weights = TeacherScores.load(scored.path), pipeline.weights()
    mixed, unknown = said.mixed(weights), said.unknown(weights)
    known_T = ~unknown.values_T if unknown is not None else np.ones(len(mixed.values_T), dtype=bool)
    scores = calibrate(mixed, corpus_statistics(mixed.only(known_T)))  # as the rule judges it in training
    judged = candidates.positive.with_values(candidates.positive.values_T & known_T)
    threshold_Q = thresholds(rule, scores, judged, **numbers)
    suspect_T = known_T & ~candidates.positive.values_T & (scores.values_T > per_entry(threshold_Q, scores))
    confirmed = teach.confirmed_negatives(verdicts, candidates)
    if confirmed is not None:
        suspect_T &= ~confirmed.values_T
    found = np.flatnonzero(suspect_T)
    curve = margin_curve(rule, scores.only(known_T), candidates.positive.only(known_T))
    worst = found[np.argsort(-(scores.values_T - per_entry(threshold_Q, scores))[found], kind="stable")][:limit]
    return {
        "run": pipeline.config.name,
        "corpus": pipeline.prepared.notes["name"],
        "rule": rule,
        "value": numbers["margin" if rule == "margin" else "percent"],
        "lists": len(candidates),
        "lists_without_positive": int(np.isinf(threshold_Q).sum()),
        "candidates": int((~candidates.positive.values_T).sum()),
        "found": len(found),
        "verdicts": dict(zip(("relevant", "not"), verdicts.pairs, strict=True)),
        "suspects": _rows(pipeline.prepared.corpus, candidates, scores, threshold_Q, worst),
        "curve": {**asdict(curve), "settings": [one._asdict() for one in curve.settings]},
    }


def _rows(
    corpus: Corpus, candidates: Candidates, scores: Ragged, threshold_Q: Array, entries: Array
) -> list[dict[str, Any]]:
    list_T = candidates.rows.list_of_entry
    rows = []
    for entry in entries.tolist():
        q = int(list_T[entry])
        known = candidates.rows[q][candidates.positive[q]]
        best = int(known[np.argmax(scores[q][candidates.positive[q]])])
        query, document = int(candidates.query_rows_Q[q]), int(candidates.rows.values_T[entry])
        asked, shown = corpus.query_texts([query])[0], corpus.document_text(document)
        rows.append(
            {
                "verdict": "",
                "query": asked[:EXCERPT],
                "document": shown[:EXCERPT],
                "known_positive": corpus.document_text(best)[:EXCERPT],
                "teacher_score": round(float(scores.values_T[entry]), 4),
                "threshold": round(float(threshold_Q[q]), 4),
                "student_score": round(float(candidates.scores.values_T[entry]), 4),
                "query_id": corpus.query_ids[query],
                "document_id": corpus.document_ids[document],
                "query_digest": content_digest(asked).hex(),
                "document_digest": content_digest(shown).hex(),
            }
        )
    return rows
