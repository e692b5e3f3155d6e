"""Stage 0/fit: a cross-encoder learns the train judgements before it teaches, from each half of the queries apart."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sdretrieval.config import CrossEncoderConfig, identity_fields, members_of
from sdretrieval.config.conflicts import member_paths
from sdretrieval.corpus.text import hash_rank
from sdretrieval.corpus.types import Corpus
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.locate import locate_model, model_digest, require_digest
from sdretrieval.errors import ModelError, RequestError
from sdretrieval.files import read_json, write_json
from sdretrieval.formatting import quantity
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array
from sdretrieval.stages.collection import SYNTHETIC_TRAIN, Collection
from sdretrieval.stages.precision import number_format
from sdretrieval.stages.run import Run
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.training.speed import frozen_names
from sdretrieval.training.tracking import Tracking

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

HALVES = ("first", "second")
"""Folders of the two models: plain sentence-transformers cross-encoders."""
LEARNED = "learned_by_first.json"
"""Ids of the queries that the first model has learned."""
LISTS_PER_BATCH, BATCHES_PER_UPDATE = 4, 2
"""An update has 8 queries. A batch holds few of them: each brings several documents, and each of these the query."""
CHECKPOINTS = 5
"""Of each half."""


def fit_teachers(run: Run, collection: Collection, mined: Artifact) -> Mapping[int, Artifact]:
    """By member position, the fitted models of each cross-encoder that the config lets learn. `mined`: the base
    student's lists, whose documents they compare."""
    return {
        position: fit_teacher(run, collection, mined, position, member)
        for position, member in enumerate(members_of(run.config.teacher))
        if isinstance(member, CrossEncoderConfig) and member.fit is not None
    }


def fit_teacher(
    run: Run, collection: Collection, mined: Artifact, position: int, member: CrossEncoderConfig
) -> Artifact:
    """Two models in the folders `HALVES`, each fitted to one half of the judged training queries.

    Raises RequestError if these are less than two, ModelError if the model does not load.
    """
    cfg, precision, digest = member.fit, number_format(run, "train"), model_digest(locate_model(member.model))
    assert cfg is not None

    def fit_half(half: str, folder: Path, lists: Candidates) -> None:
        from sdretrieval.teachers.cross_encoder import load_cross_encoder

        model, _ = load_cross_encoder(
            member.model, max_tokens=member.max_tokens, device=run.config.student.device,
            trust_remote_code=member.trust_remote_code,
        )  # fmt: skip
        fitting = folder / f"fitting_{half}"
        fit_model(
            model, collection.corpus, lists, fitting, epochs=cfg.epochs, learning_rate=cfg.learning_rate,
            candidates=cfg.candidates, max_tokens=member.max_tokens, windows=member.view.windows,
            stride=member.view.stride, precision=precision, seed=run.config.seed,
            description=f"fit {member.model}, {half} half", tracking=run.tracking(f"0/fit:teacher{position}:{half}"),
        )  # fmt: skip
        (fitting / "metrics.jsonl").replace(folder / f"{half}.jsonl")
        (fitting / "student").replace(folder / half)
        shutil.rmtree(fitting)

    def build(work: Work) -> None:
        lists = judged_lists(collection, Candidates.load(mined.path))
        second_L = in_second_half(collection, lists.query_rows_Q, run.config.seed)
        if second_L.all():
            setting, found = f"{member_paths(run.config)[position]}.fit", quantity(len(lists), "train queries")
            raise RequestError(
                f"{setting}: found {found} with a known positive and another document in the list; expected two at "
                "least, one for each half, and hundreds to gain anything. Leave it out "
                f"(--set {setting}=null), or give more judgements"
            )
        rows = lists.query_rows_Q[~second_L].tolist()
        write_json(work.folder / LEARNED, {"queries": [collection.corpus.query_ids[row] for row in rows]})
        for half, its_L in zip(HALVES, (~second_L, second_L), strict=True):
            if not (work.folder / half).exists():  # else an attempt that was stopped later has made it
                fit_half(half, work.folder, lists.take(np.flatnonzero(its_L)))
        require_digest(locate_model(member.model), digest)
        work.counts.update(judged_queries=len(lists), updates=sum(updates_in(work.folder, half) for half in HALVES))

    identity = {
        "model": digest, "fit": identity_fields(cfg), "max_tokens": member.max_tokens,
        "view": identity_fields(member.view), "precision": precision, "seed": run.config.seed,
    }  # fmt: skip
    inputs = [mined, *collection.known_from]
    return run.runner.stage(f"0/fit:teacher{position}", 1, identity, inputs, build, resumable=True)


def judged_lists(collection: Collection, lists: Candidates) -> Candidates:
    """Those of queries that people judged, with a known positive and another document. A synthetic query is in its
    document word for word: a cross-encoder would learn to look for that."""
    synthetic = collection.corpus.qrels.get(SYNTHETIC_TRAIN, {})
    asked = np.asarray([collection.corpus.query_ids[row] not in synthetic for row in lists.query_rows_Q], dtype=bool)
    both = np.asarray([bool(one.any() and not one.all()) for one in lists.positive], dtype=bool)
    return lists.take(np.flatnonzero(asked & both))


def in_second_half(collection: Collection, query_rows_Q: Array, seed: int) -> Array:
    """Which queries are in the second half: bool (Q,), all if they share one text. No text is in both halves."""
    ranks = [hash_rank(seed, "half", text) for text in collection.corpus.query_texts(query_rows_Q.tolist())]
    texts, text_Q = np.unique(np.asarray(ranks, dtype=np.uint64), return_inverse=True)
    return np.asarray(text_Q >= len(texts) // 2)


def fit_model(
    model: CrossEncoder, corpus: Corpus, lists: Candidates, folder: Path, *, epochs: float, learning_rate: float,
    candidates: int, max_tokens: int, windows: Literal["first", "all"] = "first", stride: int | None = None,
    precision: Precision, seed: int, description: str = "fit", tracking: Tracking | None = None,
) -> None:  # fmt: skip
    """`model` fitted to `lists`: `student/` and `metrics.jsonl` in `folder`, checkpoints until then."""
    from sdretrieval.teachers.pair_windows import PairWindows
    from sdretrieval.training.reranker import ListBatches, PositiveFirst
    from sdretrieval.training.train import TrainSettings, train, updates_of

    queries, documents = corpus.query_texts(), corpus.document_texts()
    batches = ListBatches(
        model, PairWindows(model, max_tokens, windows, stride), lists,
        lambda query, document: (queries[query], documents[document]), candidates, seed,
    )  # fmt: skip
    settings = TrainSettings(
        epochs=epochs, queries_per_batch=min(LISTS_PER_BATCH, len(lists)), learning_rate=learning_rate,
        gradient_accumulation=BATCHES_PER_UPDATE, freeze=lower_half(model), precision=precision, seed=seed,
    )  # fmt: skip
    settings = replace(settings, save_every=max(1, updates_of(len(lists), settings) // CHECKPOINTS))
    train(model, batches, PositiveFirst(model), settings, folder, description=description, tracking=tracking)


def lower_half(model: CrossEncoder) -> tuple[str, ...]:
    """The part of a transformer that stays as it is: its lower half knows the language, and a third of the time is
    saved. Nothing of a network whose layers have other names."""
    part = f"layers:{int(getattr(model.config, 'num_hidden_layers', 0)) // 2}"
    try:
        frozen_names([name for name, _ in model.named_parameters()], (part,))
    except ModelError:
        return ()
    return (part,)


def updates_in(folder: Path, half: str) -> int:
    """Updates that a half's training has made."""
    return len((folder / f"{half}.jsonl").read_text(encoding="utf8").splitlines())


class FittedHalves(NamedTuple):
    """What the stage made."""

    models: tuple[Path, Path]
    learned_by_first: list[str]
    """Ids of queries."""

    @staticmethod
    def of(made: Artifact) -> FittedHalves:
        """From its artifact."""
        return FittedHalves((made.path / HALVES[0], made.path / HALVES[1]), read_json(made.path / LEARNED)["queries"])
