"""What mining and the false-negative rule left out of a generation's lists, with examples in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdretrieval.corpus import Corpus
from sdretrieval.files import read_json
from sdretrieval.mining.candidates import Candidates
from sdretrieval.mining.mine import MiningReport
from sdretrieval.stages.gate import Generation
from sdretrieval.targets.build import Targets
from sdretrieval.targets.doubts import disagreements, label_shares
from sdretrieval.targets.false_negatives import FalseNegativeReport

EXAMPLES = 10
EXCERPT = 200
"""Characters of a query or document."""


def mining_of(one: Generation, corpus: Corpus, label_evidence: float) -> dict[str, Any]:
    """Candidates kept; documents removed, by reason; lists left out as too short to teach; examples.

    `lists_left_out` of `lists` held fewer than two documents. `false_negatives`: what the rule took out of the
    hard-label term, None if the config has no rule. `disagreements`: queries without a known positive on whose first
    document student and teacher differ, None if all have one. `labels`: queries whose labels keep less than half of the
    target, None if labels are not in it.
    """
    report = MiningReport.from_json(read_json(one.mined.path / "report.json"))
    candidates = Candidates.load(one.mined.path)
    examples = [
        {"reason": example.reason, **_texts(corpus, example.query_row, example.document_row)}
        for example in report.examples
    ]
    return {
        "kept": len(candidates.rows.values_T),
        "removed": dict(report.removed),
        "lists": report.queries,
        "lists_left_out": report.queries - len(candidates),
        "examples": examples,
        "false_negatives": _false_negatives(one, candidates, corpus),
        "disagreements": _disagreements(one, candidates, corpus),
        "labels": _labels(one, candidates, corpus, label_evidence),
    }


def _false_negatives(one: Generation, candidates: Candidates, corpus: Corpus) -> dict[str, Any] | None:
    if one.targets is None:
        return None
    report = FalseNegativeReport.from_json(read_json(one.targets.path / "false_negatives.json"))
    if report.rule == "none":
        return None
    examples = [
        {
            "score": example.score,
            "threshold": example.threshold,
            **_texts(
                corpus,
                int(candidates.query_rows_Q[example.query_position]),
                int(candidates.rows[example.query_position][example.candidate_position]),
            ),
        }
        for example in report.examples
    ]
    return {**report.to_json(), "examples": examples}


def _disagreements(one: Generation, candidates: Candidates, corpus: Corpus) -> dict[str, Any] | None:
    unjudged = sum(not known.any() for known in candidates.positive)
    if one.targets is None or not unjudged:
        return None
    found = disagreements(Targets.load(one.targets.path).log_probs, candidates.scores, candidates.positive)
    examples = []
    for doubt in found[:EXAMPLES]:
        query, rows = int(candidates.query_rows_Q[doubt.query_position]), candidates.rows[doubt.query_position]
        student, teacher = (_texts(corpus, query, int(rows[place])) for place in (doubt.doubted, doubt.rival))
        examples.append({"query": student["query"], "student": student["document"], "teacher": teacher["document"]})
    return {"queries": unjudged, "found": len(found), "examples": examples}


def _labels(one: Generation, candidates: Candidates, corpus: Corpus, evidence: float) -> dict[str, Any] | None:
    if one.targets is None or not evidence:
        return None
    log_probs = Targets.load(one.targets.path).log_probs
    share_Q = label_shares(log_probs, candidates.positive, evidence)
    labelled = np.flatnonzero(~np.isnan(share_Q))
    doubted = labelled[share_Q[labelled] < 0.5]
    examples = []
    for position in doubted[np.argsort(share_Q[doubted], kind="stable")][:EXAMPLES].tolist():
        query, rows, known = (
            int(candidates.query_rows_Q[position]),
            candidates.rows[position],
            candidates.positive[position],
        )
        own = log_probs[position]
        label, best = int(rows[known][np.argmax(own[known])]), int(rows[np.argmax(own)])
        texts = {"label": _texts(corpus, query, label)["document"], "teacher": _texts(corpus, query, best)["document"]}
        examples.append({"share": float(share_Q[position]), "query": _texts(corpus, query, label)["query"], **texts})
    return {"queries": len(labelled), "doubted": len(doubted), "examples": examples}


def _texts(corpus: Corpus, query_row: int, document_row: int) -> dict[str, str]:
    return {
        "query": corpus.query_texts([query_row])[0][:EXCERPT],
        "document": corpus.document_text(document_row)[:EXCERPT],
    }
