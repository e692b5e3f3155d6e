"""Problems between the fields of a config: each by itself is sound."""

from __future__ import annotations

from typing import Any

import pytest

from sdretrieval.config import parse_config
from sdretrieval.config.conflicts import learns_labels
from tests.helpers.runs.configs import CROSS, DENSE, ensemble, minimal, problems

CLASHES = [
    (
        minimal(student={"model": "m", "train": "adapter"}, train={"batch_tokens": 512}),
        "train.batch_tokens: found 512, but student.train is adapter: no transformer reads a text; expected null",
    ),
    (
        minimal(student={"model": "m", "train": "query", "lexical_half": {"dims": 64}}),
        'student.train: found "query", but student.lexical_half puts dims behind every vector of a document, so that '
        "an index of the base student's documents cannot stay valid; expected both, or no lexical half",
    ),
    (
        minimal(
            student={"model": "m", "train": "query"},
            train={"loss": "embedding"},
            teacher={"kind": "ema", "view": {"windows": "all"}},
        ),
        'train.loss: found "embedding", but student.train is query: documents keep the base student\'s vectors, which '
        "are not those that the teacher compares its query vectors with; expected listwise_kl or margin_mse",
    ),
    (
        minimal(seeds=[13, 14, 13]),
        "seeds.2: found 13 again; expected another number: the same seed gives the same training",
    ),
    (
        minimal(evaluate={"split": "train"}),
        'evaluate.split: found "train", the queries that are trained on; expected another split',
    ),
    (
        minimal(gate={"measure": "Recall@500"}),
        'gate.measure: found "Recall@500"; expected a cut of at most evaluate.depth (100)',
    ),
    (
        minimal(teacher={"kind": "lexical", "weight": "auto"}, gate={"measure": "Recall@20"}),
        'gate.measure: found "Recall@20"; the probe reranks the student\'s top 20 '
        "(evaluate.teacher_depth), whose order such a cut does not see; expected a shorter cut, or nDCG",
    ),
    (
        minimal(gate={"measure": "Recall@20"}),
        'gate.measure: found "Recall@20"; the probe reranks the student\'s top 20 (evaluate.teacher_depth), whose '
        "order such a cut does not see; expected a shorter cut, or nDCG, or probe.guard: false",
    ),
    (
        minimal(teacher={**CROSS, "view": {"windows": "all", "max_tokens": 100}}),
        "teacher.view.max_tokens: found 100; a cross-encoder's window is what teacher.max_tokens (512) leaves beside "
        "the query; expected null",
    ),
    (
        minimal(corpus={"source": "beir:x", "labels": False}, teacher={**CROSS, "fit": {}}),
        "teacher.fit: a cross-encoder learns from train judgements, and corpus.labels is false; expected "
        "corpus.labels: true, or null",
    ),
    (
        minimal(mine={"keep": 4}, train={"candidates_per_query": 4}, teacher={**CROSS, "fit": {"candidates": 5}}),
        "teacher.fit.candidates: found 5; expected at most mine.keep (4), a list's length",
    ),
    (
        minimal(teacher={**CROSS, "max_tokens": 300, "view": {"windows": "all", "stride": 400}}),
        "teacher.view.stride: found 400; expected at most the window's 300 tokens, else parts are never seen",
    ),
    (
        minimal(targets={"temperature": "student", "calibrate": "absolute"}),
        'targets.temperature: found "student", but no member that counts is a bi-encoder (found lexical): nothing is '
        "on the scale of the student's cosines; expected auto or a number, or an ema member",
    ),
    (
        minimal(targets={"temperature": "student", "calibrate": "zscore"}, teacher=DENSE),
        'targets.temperature: found "student", but targets.calibrate is zscore, after which a cosine is worth '
        "something else in each query or is cut off; expected calibrate: absolute, or another temperature",
    ),
    (
        minimal(mine={"keep": 200}),
        "mine.keep: found 200; expected at most mine.depth (100): no list keeps more than was retrieved",
    ),
    (
        minimal(train={"candidates_per_query": 17}),
        "train.candidates_per_query: found 17; expected at most mine.keep (16), a list's length",
    ),
    (
        minimal(targets={"target_perplexity": 16}),
        "targets.target_perplexity: found 16; expected less than mine.keep (16), a uniform list's",
    ),
    (
        minimal(index={"kind": "IVF8,Flat", "nprobe": 16}),
        "index.nprobe: found 16; expected at most the 8 lists of IVF8,Flat",
    ),
    (
        minimal(index={"kind": "HNSW32", "device": "cuda"}),
        'index.device: found "cuda", but index.kind is HNSW32: GPUs hold exact, and IVF with Flat, SQfp16 or SQ8; '
        "HNSW32 is searched on the CPU; expected auto or cpu",
    ),
    (
        minimal(index={"kind": "auto", "device": "cuda"}),
        'index.device: found "cuda", but index.kind is auto: kind auto may choose an index that is searched on the CPU '
        "only; expected auto or cpu",
    ),
    (
        minimal(index={"nprobe": 64}),
        "index.nprobe: found 64, but index kind exact has no inverted lists (IVF); leave nprobe out",
    ),
    (
        minimal(index={"kind": "IVF,Flat", "ef_search": 8}),
        "index.ef_search: found 8, but index kind IVF,Flat has no graph of documents (HNSW); leave ef_search out",
    ),
    (
        minimal(index={"kind": "PQ16", "max_memory": "2GB"}),
        'index.max_memory: found "2GB", but only kind auto chooses by it; leave max_memory out',
    ),
    (
        minimal(index={"kind": "IVF,Flat", "rescore": 4}),
        "index.rescore: found 4, but index kind IVF,Flat holds the vectors themselves; leave rescore out",
    ),
    (
        minimal(index={"kind": "PQ16", "rescore_storage": "int8"}),
        'index.rescore_storage: found "int8", but nothing is rescored; set rescore to 4, for example, or leave '
        "rescore_storage out",
    ),
    (
        minimal(index={"kind": "LSH"}),
        "index.rescore: found nothing, but index kind LSH ranks by signs alone; set rescore to 4 or more",
    ),
    (
        minimal(index={"kind": "auto", "max_memory": "much"}),
        'index.max_memory: found "much"; expected a size such as 2GB, 512MB or 1.5GiB',
    ),
    (
        minimal(teacher=CROSS, train={"scope": "batch"}),
        'train.scope: found "batch", but teacher is a cross_encoder, which scores only the pairs of the lists; '
        "expected auto or list",
    ),
    (
        minimal(teacher={"kind": "sparse", "model": "m"}, train={"scope": "batch"}),
        'train.scope: found "batch", but teacher is a sparse, which scores only the pairs of the lists; expected auto '
        "or list",
    ),
    (
        minimal(teacher={"kind": "multi_vector", "model": "m", "view": {"windows": "all", "stride": 300}}),
        "teacher.view.stride: found 300; expected at most the window's 256 tokens, else parts are never seen",
    ),
    (
        minimal(teacher={"kind": "scores", "file": "a.tsv"}, train={"scope": "batch"}),
        'train.scope: found "batch", but teacher is scores, which has only the pairs of the lists; expected auto or '
        "list",
    ),
    (
        ensemble({"kind": "lexical"}, {**DENSE, "view": {"windows": "all", "max_tokens": 64, "stride": 65}}),
        "teacher.members.1.view.stride: found 65; expected at most the window's 64 tokens, else parts are never seen",
    ),
    (
        minimal(teacher={"kind": "ema", "view": {"windows": "all", "stride": 300}}),
        "teacher.view.stride: found 300; expected at most the window's 256 tokens, else parts are never seen",
    ),
    (
        minimal(teacher={"kind": "lexical", "weight": 0}),
        "teacher.weight: found 0; expected a weight above 0 somewhere, else nothing teaches",
    ),
    (
        ensemble({"kind": "lexical", "weight": 0}, {"kind": "ema", "weight": 0}),
        "teacher.members.0.weight: found 0 on every member; expected a weight above 0 somewhere, else nothing teaches",
    ),
    (
        ensemble({"kind": "lexical", "weight": "auto"}, {"kind": "ema"}),
        "teacher.members.1.weight: found a number, but teacher.members.0.weight is auto; expected auto on every member "
        "or on none",
    ),
    (
        minimal(evaluate={"measures": ["Recall@1000"]}),
        'evaluate.measures.0: found "Recall@1000"; expected a cut of at most evaluate.depth (100)',
    ),
    (
        minimal(evaluate={"teacher_depth": 200}),
        "evaluate.teacher_depth: found 200; expected at most evaluate.depth (100)",
    ),
    (
        minimal(corpus={"source": "x", "generate": {"written": 0.5}}),
        "corpus.generate.written: found 0.5, but corpus.generate.writer is null; expected a model that writes queries, "
        "such as {url: http://localhost:11434/v1, model: NAME} or {model: doc2query/msmarco-t5-small-v1}, or 0",
    ),
    (
        minimal(
            corpus={"source": "x", "generate": {"writer": {"url": "http://h/v1", "model": "m", "prompt": "ask: "}}}
        ),
        'corpus.generate.writer.prompt: found "ask: ", but corpus.generate.writer.url names a server, whose model is '
        "told in sdretrieval's own words what to write; expected no prompt",
    ),
    (
        minimal(corpus={"source": "x", "generate": {"writer": {"model": "m", "key_variable": "KEY"}}}),
        "corpus.generate.writer.key_variable: found KEY, but corpus.generate.writer.url is null, so the model runs "
        "here and needs none; expected the server's url",
    ),
    (
        minimal(corpus={"source": "x", "generate": {"writer": {"model": "m", "concurrency": 9}}}),
        "corpus.generate.writer.concurrency: found 9, but corpus.generate.writer.url is null, so the model runs here "
        "and needs none; expected the server's url",
    ),
    (
        minimal(corpus={"source": "x", "generate": dict.fromkeys(["title", "question", "sentence", "keywords"], 0)}),
        "corpus.generate.sentence: found 0, as every other kind; expected a share above 0 somewhere, else no query is "
        "made",
    ),
    (
        minimal(train={"loss": "embedding"}),
        'train.loss: found "embedding", but teacher (lexical) has scores and no vectors; expected listwise_kl or '
        "margin_mse, or members that all have vectors, such as ema (weight: 0 leaves one out)",
    ),
    (
        {**ensemble({"kind": "ema"}, {"kind": "ema", "mode": "live"}), "train": {"loss": "embedding"}},
        'train.loss: found "embedding", but teacher.members.1 is live: its vectors move while the student regresses on '
        "them; expected mode: frozen, base or born_again, or another loss",
    ),
]


@pytest.mark.parametrize(("data", "line"), CLASHES)
def test_a_conflict_is_one_line_with_both_fields_and_what_is_expected(data: Any, line: str) -> None:
    assert problems(data) == [line]


@pytest.mark.parametrize(
    ("settings", "learned"),
    [
        ({}, False),
        ({"train": {"hard_label_weight": 0.1}}, True),
        ({"targets": {"label_evidence": 4}}, True),
        ({"targets": {"label_evidence": 4}, "train": {"loss": "embedding"}, "teacher": {"kind": "ema"}}, False),
        ({"targets": {"label_evidence": 4}, "corpus": {"source": "x", "labels": False}}, False),
    ],
)
def test_labels_are_learned_by_either_setting_that_asks_for_them(settings: dict[str, Any], learned: bool) -> None:
    """Then they are learned alone if the probe finds no teacher."""
    assert learns_labels(parse_config(minimal(**settings))) == learned
