"""Stage N/follow: how far a trained student follows its teacher on queries that training did not see.

If the training queries are ones that people asked and nobody has judged any, dev is synthetic: queries of another kind,
which misjudge such a student. Held-out queries say without a judgement whether what was learned carries over. On five
collections and two models, no student that came a quarter of the way to its teacher lost significantly, and those that
lost did not (docs/estimates.md).
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from scipy.special import log_softmax

from sdretrieval.config import Config
from sdretrieval.evaluation.gate import Following
from sdretrieval.files import read_json, write_json
from sdretrieval.ragged import Array
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.index import open_index
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.probe import pool_lists
from sdretrieval.stages.run import Run
from sdretrieval.stages.score import score_lists
from sdretrieval.stages.targets import MixtureWeights
from sdretrieval.stages.teachers import Made, member_identities
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.targets.build import Targets
from sdretrieval.teachers.ensemble import BatchTeacher
from sdretrieval.teachers.protocols import FreeTeacher

FOLLOWED = "followed.json"
MOST_DOCUMENTS = 5000
"""Over so many documents the distributions are compared: each query's best ones, and others by chance."""


def follow(
    run: Run, collection: Collection, lexical: Lexical, address: str, before: Vectors, after: Vectors, index: Artifact,
    teachers: Made, targets: Artifact, weights: MixtureWeights, probe: Artifact,
) -> Artifact:  # fmt: skip
    """`followed.json`: a `Following`, or an empty object if too few queries could be held out, or if the probe has
    nothing to predict from.

    `before`, `after`: the vectors of the student that the teacher taught, before and after the training; `index`: of
    the former; `targets`: what it learned from, whose temperature is used.
    """
    members = member_identities(run.config)

    def build(work: Work) -> None:
        predicted = read_json(probe.path / "probe.json")["predicted"]
        rows = collection.held_out_rows
        if not len(rows) or predicted is None:
            write_json(work.folder / FOLLOWED, {})
            return
        depth = min(run.config.evaluate.teacher_depth, len(collection.corpus.documents))
        found = open_index(run, index).search(before.queries_QD[rows], depth).rows_Qk
        words = lexical.index.search(collection.corpus.query_texts(rows.tolist()), depth).rows_Qk
        lists = pool_lists(found, words, collection.own_documents(rows))
        made, scores = score_lists(run, collection, lexical, teachers, rows, lists, members)
        documents = columns(lists.values_T, len(collection.corpus.documents), run.config.seed)
        free = [teacher for teacher in made if isinstance(teacher, FreeTeacher)]
        teacher = BatchTeacher(free, scores, weights.values(), rows)
        wanted_QM = teacher.matrix(np.arange(len(rows)), documents) / Targets.load(targets.path).temperature
        own = collection.own_documents(rows)[:, None] == documents[None]
        share = 1 - np.divide(
            *(
                divergence(wanted_QM, student_scores(vectors, rows, documents, run.config), own).mean()
                for vectors in (after, before)
            )
        )
        following = Following(
            float(share), len(rows), float(predicted["gain"]), run.config.student.lexical_half is not None
        )
        write_json(work.folder / FOLLOWED, asdict(following))
        work.counts.update(queries=len(rows), share=following.share)

    cfg = run.config
    identity = {
        "members": members,
        "calibrate": cfg.targets.calibrate,
        "weights": weights.identity,
        "depth": cfg.evaluate.teacher_depth,
        "student_temperature": cfg.train.student_temperature,
        "seed": cfg.seed,
    }
    inputs = [before, after, index, lexical, collection.filtered, targets, probe, *teachers.values()]
    return run.runner.stage(address, 1, identity, inputs, build)


def columns(best_T: Array, count: int, seed: int) -> Array:
    """Sorted rows of at most `MOST_DOCUMENTS` of `count` documents: all of `best_T`, and others by chance."""
    best = np.unique(best_T)
    others = np.setdiff1d(np.arange(count), best)
    room = min(max(MOST_DOCUMENTS - len(best), 0), len(others))
    return np.sort(np.concatenate([best, np.random.default_rng(seed).choice(others, room, replace=False)]))


def student_scores(vectors: Vectors, rows: Array, documents: Array, config: Config) -> Array:
    """What the student's distribution is the softmax of (Q, M)."""
    scores_QM = np.asarray(vectors.queries_QD[rows]) @ np.asarray(vectors.documents.vectors_WD[documents]).T
    return np.asarray(scores_QM / config.train.student_temperature)


def divergence(wanted_QM: Array, found_QM: Array, own_QM: Array) -> Array:
    """KL from the teacher's to the student's distribution of each query (Q,), from logits. `own_QM`: documents with the
    query's own id, which it never retrieves."""
    wanted, found = (log_softmax(np.where(own_QM, -np.inf, one), axis=1) for one in (wanted_QM, found_QM))
    apart = np.where(own_QM, 0.0, np.exp(wanted) * (np.where(own_QM, 0.0, wanted) - np.where(own_QM, 0.0, found)))
    return np.asarray(apart.sum(axis=1))
