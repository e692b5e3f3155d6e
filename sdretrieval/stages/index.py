"""Stage N/index: the FAISS index of the documents' vectors, with its measured card."""

from __future__ import annotations

from sdretrieval.config import identity_fields, settings_from
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.run import Run
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact


def index_vectors(run: Run, collection: Collection, address: str, vectors: Vectors) -> Artifact:
    """The index of some vectors. If only queries learn, there is one, of the base student's documents."""

    def build(work: Work) -> None:
        cfg = run.config.index
        index = VectorIndex.build(
            opened.documents.vectors_WD, settings_from(cfg), cfg.device,
            queries_QD=opened.queries_QD[collection.train_rows[:200]], unit=vectors.plain is vectors,
            seed=run.config.seed, repeatable=True,
        )  # fmt: skip
        index.save(work.folder)
        work.counts["vectors"] = len(opened.documents.vectors_WD)
        work.counts["recall_at_100"] = index.card.recall_at_100
        work.counts["recall_at_10"] = index.card.recall_at_10

    made = vectors.documents_of or vectors
    opened = vectors if made is vectors else Vectors(made.key, made.path)
    identity = {**identity_fields(run.config.index), "seed": run.config.seed}
    return run.runner.stage(address, 1, identity, [made, collection.filtered], build)


def open_index(run: Run, index: Artifact) -> VectorIndex:
    """A FAISS index on the device that the config names."""
    return VectorIndex.load(index.path, run.config.index.device)
