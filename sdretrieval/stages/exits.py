"""Stages NAME/fit and NAME/encode of students that are a part of the final one: its first layers, fewer dims, or both.

Each has a linear map behind it, which is fitted to what the final student's vectors say. That takes seconds: no text is
read, since vectors are there. What `train.also` names has learned along with the final student; fewer dims need not.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sdretrieval.config import SmallerConfig
from sdretrieval.encode.adapter import matrix_of
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.student import save_student
from sdretrieval.ragged import Array
from sdretrieval.stages.encode import Vectors, encode_student, map_student
from sdretrieval.stages.results import Base
from sdretrieval.stages.run import Weights, student_from
from sdretrieval.store import Work

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from sdretrieval.training.smaller import FittedTexts

MOST_TEXTS = 10_000
"""Of documents and of training queries that a smaller student is fitted on, each."""


class Fit(NamedTuple):
    """Texts of a batch, learning rate and passes."""

    batch: int
    rate: float
    epochs: float


MAP_FIT, STATIC_FIT, TRANSFORMER_FIT = Fit(512, 1e-3, 10), Fit(512, 3e-3, 6), Fit(64, 2e-4, 3)


@dataclass(frozen=True)
class Fitted:
    """A student and its vectors, without a lexical half: what a smaller one is fitted to."""

    student: Weights
    vectors: Vectors


def part_of(base: Base, cfg: SmallerConfig, whole: Fitted) -> Fitted:
    """Layers of the final student, its vectors in fewer dims, or both, with a linear map behind."""
    early = whole if cfg.layers is None else some_layers_of(base, whole, SmallerConfig(layers=cfg.layers))
    return mapped(base, cfg, early, whole)


def some_layers_of(base: Base, whole: Fitted, cfg: SmallerConfig) -> Fitted:
    """Layers of the final student as a student of their own, not yet fitted to anything: the first ones, if these were
    taught; else the first and the last ones, which are nearer to the whole."""
    run, also = base.run, base.run.config.train.also

    def build(work: Work) -> None:
        from sdretrieval.training.smaller import first_layers

        model = student_from(whole.student.student, run.config).model
        save_student(first_layers(model, count, run.config.student.model, last), work.folder / "student")

    assert cfg.layers is not None
    count = cfg.layers
    last = 0 if also is not None and count in also.layers else count - 1
    identity = {"layers": count, "last": last}
    made = run.runner.stage(f"{cfg.name}/fit:cut", 1, identity, [whole.student.key], build)
    student = Weights(made.key, made.path / "student", made.path / "student")
    address = f"{cfg.name}/encode:cut"
    return Fitted(student, encode_student(run, base.collected, base.tokens, address, student, maps_base=False))


def mapped(base: Base, cfg: SmallerConfig, early: Fitted, whole: Fitted) -> Fitted:
    """`early`, layers of the final student or itself, with a linear map behind it.

    The map begins as the regression of the final student's vectors on those of `early`, along the principal directions
    of the former if `cfg` asks for fewer dims. It learns to keep what texts score among each other.
    """
    run, temperature = base.run, base.run.config.train.student_temperature

    def build(work: Work) -> None:
        from sentence_transformers import SentenceTransformer

        from sdretrieval.training.smaller import FittedTexts, linear_map, map_modules, principal_dims

        rows, queries = documents_of(base), queries_of(base)
        (read_ND, read_QD), (wanted_ND, wanted_QD) = (
            (one.vectors.documents.vectors_WD, one.vectors.queries_QD) for one in (early, whole)
        )
        map_FD = np.eye(wanted_ND.shape[1], dtype=np.float32)
        if early is not whole:
            map_FD = linear_map(
                np.concatenate([read_ND[rows], read_QD[queries]]), np.concatenate([wanted_ND[rows], wanted_QD[queries]])
            )
        if cfg.dims is not None:
            map_FD = map_FD @ principal_dims(wanted_ND[rows], cfg.dims)
        alone = SentenceTransformer(modules=map_modules(map_FD), device="cpu")
        texts = [
            FittedTexts(rows, wanted_ND, read_NF=read_ND), FittedTexts(queries, wanted_QD, read_NF=read_QD)
        ]  # fmt: skip
        run_fitting(work, base, alone, texts, MAP_FIT, "float32", None, cfg.name, distance=False)
        map_FD = matrix_of(SentenceTransformer(str(work.folder / "student"), device="cpu"))
        shutil.rmtree(work.folder / "student")
        model = student_from(early.student.student, run.config).model
        save_student(model.extend(map_modules(map_FD)), work.folder / "student")

    made = run.runner.stage(
        f"{cfg.name}/fit", 2, {"dims": cfg.dims, "temperature": temperature, "seed": run.seed},
        [early.student.key, early.vectors, whole.vectors, base.collection.filtered], build, resumable=True,
    )  # fmt: skip
    student = Weights(made.key, made.path / "student", made.path / "student")
    return Fitted(student, map_student(run, f"{cfg.name}/encode", student.key, student.student, early.vectors))


def documents_of(base: Base, visits: int = 0) -> Array:
    """Rows of at most `MOST_TEXTS` documents, each again and again until there are `visits` of them."""
    count = len(base.tokens.documents)
    rows = np.sort(np.random.default_rng(base.run.seed).permutation(count)[:MOST_TEXTS])
    return np.resize(rows, max(visits, len(rows)))


def queries_of(base: Base) -> Array:
    """The same of training queries."""
    rows = base.collection.train_rows
    return np.sort(np.random.default_rng(base.run.seed).permutation(rows)[:MOST_TEXTS])


def run_fitting(
    work: Work, base: Base, model: SentenceTransformer, texts: Sequence[FittedTexts], how: Fit, precision: Precision,
    epochs: float | None, name: str, row_of_token_V: Array | None = None, *, distance: bool = True,
) -> None:  # fmt: skip
    """Train `model` in place; writes `student/` and `metrics.jsonl`. `distance`: see `SameVectors`."""
    from sdretrieval.training.smaller import SameVectors, VectorBatches
    from sdretrieval.training.train import TrainSettings, train, updates_of

    cfg, batches = base.run.config.train, VectorBatches(model, texts, row_of_token_V)
    learned = [part for part in cfg.freeze if any(part in one for one, _ in model.named_parameters())]
    settings = TrainSettings(
        epochs=epochs or how.epochs,
        queries_per_batch=min(how.batch, len(batches)),
        learning_rate=how.rate,
        weight_decay=0.0,
        freeze=tuple(learned),
        precision=precision,
        seed=base.run.seed,
    )
    settings = replace(settings, save_every=max(1, updates_of(len(batches), settings) // 5))
    loss = SameVectors(model, cfg.student_temperature, distance=distance)
    trained = train(
        model, batches, loss, settings, work.folder, description=f"{name}: fit",
        tracking=base.run.tracking(f"{name}/fit"),
    )  # fmt: skip
    shutil.rmtree(work.folder / "average")
    work.counts.update(trained.counts)
