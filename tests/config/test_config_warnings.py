"""Settings that a config may have and that change nothing: each is named."""

from __future__ import annotations

from typing import Any

import pytest

from sdretrieval.config import parse_config, warnings
from tests.helpers.runs.configs import CROSS, DENSE, ensemble, minimal

NO_ASYMMETRY = "no asymmetry"
WARNINGS = [
    (
        minimal(student={"model": "m", "train": "query"}, train={"document_tokens": 96}),
        "train.document_tokens: 96 has no effect: student.train is query, so training reads documents' vectors and "
        "encodes no document",
    ),
    (minimal(teacher={"kind": "ema", "view": {"windows": "first"}}), NO_ASYMMETRY),
    (minimal(teacher={"kind": "ema", "view": {"windows": "first", "max_tokens": 256}}), NO_ASYMMETRY),
    (minimal(teacher={**DENSE, "model": "m"}), "give the dense teacher view: {windows: all}, or another model, or add"),
    (ensemble({**DENSE, "model": "m/"}, {"kind": "ema", "view": {}}), NO_ASYMMETRY),
    (minimal(teacher={**DENSE, "view": {"stride": 9}}), "teacher.view.stride: 9 has no effect: view.windows is first"),
    (
        ensemble({"kind": "ema", "view": {}}, {"kind": "ema", "mode": "live", "view": {"max_tokens": 128}}),
        NO_ASYMMETRY,
    ),
    (
        minimal(train={"hard_label_weight": 0.1}, corpus={"source": "x", "labels": False}),
        "train.hard_label_weight: 0.1 has no effect: corpus.labels is false",
    ),
    (
        minimal(targets={"false_negatives": {"rule": "margin"}}),
        "targets.false_negatives.rule: margin has no effect: it masks only the hard-label term",
    ),
    (
        minimal(targets={"false_negatives": {"margin": 0.2}}),
        "targets.false_negatives.margin: 0.2 has no effect: the rule is none, not margin",
    ),
    (
        minimal(targets={"temperature": 0.5, "target_perplexity": 4}),
        "targets.target_perplexity: 4 has no effect: targets.temperature is 0.5, not auto",
    ),
    (
        minimal(
            targets={"calibrate": "absolute", "temperature": "student", "target_perplexity": 4},
            teacher={"kind": "ema", "view": {"windows": "all"}},
        ),
        "targets.target_perplexity: 4 has no effect: targets.temperature is student, not auto",
    ),
    (
        minimal(evaluate={"hard_label_rates": [1e-4]}),
        "evaluate.hard_label_rates: has no effect: evaluate.controls does not name hard_labels",
    ),
    (
        minimal(teacher={"kind": "multi_vector", "model": "m", "view": {"stride": 64}}),
        "teacher.view.stride: 64 has no effect: view.windows is first",
    ),
    (
        minimal(teacher={**CROSS, "view": {"stride": 64}}),
        "teacher.view.stride: 64 has no effect: view.windows is first",
    ),
    (
        minimal(corpus={"source": "x", "labels": False}, index={"kind": "PQ16"}),
        "index.kind: PQ16 scores documents by codes, but each made dev query's own document is scored by its vector",
    ),
    (
        minimal(train={"document_tokens": 512}),
        "train.document_tokens: 512 is more than student.max_tokens (256), where documents are cut in training too: "
        "it has no effect",
    ),
    (
        minimal(corpus={"source": "x", "dev_queries": 50}),
        "corpus.dev_queries: 50 has no effect: corpus.labels is true",
    ),
    (
        minimal(corpus={"source": "x", "labels": False, "dev_share": 0.3}),
        "corpus.dev_share: 0.3 has no effect: corpus.labels is false",
    ),
    (
        minimal(corpus={"source": "x", "generate": {"within": 20}}),
        "corpus.generate: has no effect: no query is made from documents",
    ),
    (
        minimal(corpus={"source": "x", "generated_queries": 50, "generate": {"writer": {"model": "m"}}}),
        "corpus.generate.writer: has no effect: corpus.generate.written is 0, so it writes nothing; 1 has it write "
        "half of all queries, as the other shares add up to 1",
    ),
    (
        minimal(teacher={"kind": "ema", "mode": "live", "view": {"windows": "all"}}),
        "no asymmetry, so nothing is to be gained; give the ema teacher mode: frozen (live reads the batch as the "
        "student does) and view: {windows: all}",
    ),
    (
        ensemble({"kind": "ema"}, {"kind": "ema", "half_life": 0.5}),
        "teacher.members.1.half_life: 0.5 has no effect: one average is kept, with teacher.members.0.half_life (0.25)",
    ),
    (
        ensemble({"kind": "lexical"}, {"kind": "ema", "mode": "live"}, {"kind": "ema", "mode": "live"}),
        "teacher.members.2.mode: a second live ema adds nothing but its weight: there is one live average, that of "
        "teacher.members.1; remove this member",
    ),
    (
        ensemble({"kind": "lexical"}, {"kind": "ema", "mode": "base", "half_life": 0.5}),
        "teacher.members.1.half_life: 0.5 has no effect: mode is base, which does not move",
    ),
    (
        ensemble({"kind": "lexical"}, {"kind": "ema", "mode": "born_again"}),
        "members.1.mode: born_again has no effect: generations is 1, and the first starts from the base anyway; "
        "set generations to 2 or more, or leave it out",
    ),
    (
        minimal(train={"later_epochs": 0.5}),
        "train.later_epochs: 0.5 has no effect: generations is 1; set generations to 2 or more, or leave it out",
    ),
    (
        minimal(train={"margin_scale": 0.1}),
        "train.margin_scale: 0.1 has no effect: train.loss is listwise_kl, not margin_mse",
    ),
    (
        minimal(teacher={"kind": "ema"}, train={"loss": "embedding", "scope": "list"}),
        "train.scope: list has no effect: train.loss is embedding, which follows vectors, not lists",
    ),
    (
        minimal(train={"loss": "margin_mse"}, targets={"target_perplexity": 4}),
        "targets.target_perplexity: 4 has no effect: train.loss is margin_mse, which follows scores, not the tempered",
    ),
    (
        minimal(corpus={"source": "x", "labels": False}, targets={"label_evidence": 4}),
        "targets.label_evidence: 4 has no effect: corpus.labels is false and no queries are generated",
    ),
    (
        minimal(teacher={"kind": "ema"}, train={"loss": "embedding"}, targets={"label_evidence": 4}),
        "targets.label_evidence: 4 has no effect: train.loss is embedding, which follows vectors, not distributions",
    ),
]


@pytest.mark.parametrize(("data", "text"), WARNINGS)
def test_settings_without_effect_are_named(data: Any, text: str) -> None:
    [warning] = warnings(parse_config(data))
    assert text in warning


@pytest.mark.parametrize(
    "data",
    [
        minimal(),
        minimal(teacher={"kind": "ema"}),
        minimal(teacher={"kind": "ema", "view": {"windows": "first", "max_tokens": 512}}),
        ensemble({"kind": "ema", "view": {"windows": "first"}}, {"kind": "lexical"}),
        ensemble({"kind": "ema"}, {"kind": "ema", "mode": "live", "half_life": 0.5}),
        ensemble({"kind": "ema", "mode": "base"}, {"kind": "ema", "half_life": 0.5}),
        {**minimal(train={"later_epochs": 0.5}), "generations": 2},
        minimal(index={"kind": "IVF64,Flat"}),
        minimal(teacher={"kind": "ema"}, train={"loss": "embedding"}),
        {**ensemble({"kind": "ema"}, {"kind": "lexical", "weight": 0}), "train": {"loss": "embedding"}},
        minimal(train={"loss": "margin_mse", "margin_scale": 0.1}),
        minimal(train={"loss": "margin_mse"}, targets={"label_evidence": 4, "temperature": 0.5}),
        minimal(corpus={"source": "x", "labels": False, "verdicts": "marks.tsv"}, train={"hard_label_weight": 0.1}),
        minimal(teacher=DENSE),
        minimal(teacher={**DENSE, "model": "m", "view": {"windows": "all"}}),
        minimal(teacher={**DENSE, "model": "m", "prompts": {"query": "query: "}}),
        minimal(teacher={"kind": "scores", "file": "a.tsv"}),
    ],
)
def test_sound_settings_raise_no_warning(data: Any) -> None:
    assert warnings(parse_config(data)) == []
