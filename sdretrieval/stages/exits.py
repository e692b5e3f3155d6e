"""Stage NAME/fit of the final student's exits: its first layers alone, fewer dims, or both, as `train.also` taught.

An exit's short vectors are those of its longer ones along directions that are the same from the beginning of the
training to its end: the principal ones of the base student's vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sdretrieval.config import SmallerConfig
from sdretrieval.encode.student import save_student
from sdretrieval.ragged import Array
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors, encode_student, map_student
from sdretrieval.stages.run import Run, Weights, student_from
from sdretrieval.stages.tokens import Tokens
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

MOST_TEXTS = 10_000
"""Of documents on which directions are found, and of documents and of training queries that a smaller student is fitted
on, each."""


@dataclass(frozen=True)
class Fitted:
    """A student and its vectors, without a lexical half: what a smaller one is fitted to."""

    student: Weights
    vectors: Vectors


def directions_of(run: Run, vectors: Vectors) -> Array:
    """The map (F, D) to the principal directions of a student's document vectors, as many as an exit keeps at most."""
    from sdretrieval.training.smaller import principal_dims

    vectors_ND = vectors.documents.vectors_WD[documents_in(len(vectors.documents.windows) - 1, run.config.seed)]
    return principal_dims(vectors_ND, max(one.dims or 0 for one in run.config.exits))


def documents_in(count: int, seed: int) -> Array:
    """Rows of at most `MOST_TEXTS` of so many documents, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:MOST_TEXTS])


def exit_students(
    run: Run, collected: Collection, tokens: Tokens, base: Vectors, whole: Fitted
) -> Mapping[str, Fitted]:
    """The exits of the final student, `whole`, by name, with their vectors. `base`: the base student's vectors."""
    made: dict[str, Fitted] = {}
    for cfg in run.config.exits:
        student, address = cut(run, cfg, whole.student, base), f"{cfg.name}/encode"
        if cfg.dims is None:
            vectors = encode_student(run, collected, tokens, address, student, maps_base=False)
        else:
            longer = whole if cfg.layers is None else made[SmallerConfig(layers=cfg.layers).name]
            vectors = map_student(run, address, student.key, student.student, longer.vectors)
        made[cfg.name] = Fitted(student, vectors)
    return made


def cut(run: Run, cfg: SmallerConfig, final: Weights, base: Vectors) -> Weights:
    """One exit as a student of its own."""

    def build(work: Work) -> None:
        from sdretrieval.training.smaller import first_layers, map_modules

        model = student_from(final.student, run.config).model
        if cfg.layers is not None:
            model = first_layers(model, cfg.layers, run.config.student.model)
        if cfg.dims is not None:
            model.extend(map_modules(directions_of(run, base)[:, : cfg.dims]))
        save_student(model, work.folder / "student")

    inputs: list[Artifact | str] = [final.key] if cfg.dims is None else [final.key, base]
    identity = {"layers": cfg.layers, "dims": cfg.dims, "seed": run.config.seed}
    made = run.runner.stage(f"{cfg.name}/fit", 1, identity, inputs, build)
    return Weights(made.key, made.path / "student", made.path / "student")
