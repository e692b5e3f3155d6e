"""Stage N/mine: each training query's candidates, from the student's index and from BM25."""

from __future__ import annotations

import numpy as np

from sdretrieval.config import identity_fields
from sdretrieval.errors import WorkError
from sdretrieval.files import write_json
from sdretrieval.mining.mine import duplicate_groups
from sdretrieval.mining.mine import mine as mine_lists
from sdretrieval.stages.collection import SYNTHETIC_TRAIN, Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.index import open_index
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.run import Run
from sdretrieval.stages.search import SPARE
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact


def mine(
    run: Run, collection: Collection, lexical: Lexical, address: str, vectors: Vectors, index: Artifact, *,
    labelled_only: bool = False,
) -> Artifact:  # fmt: skip
    """The training queries' lists; lists with fewer than two documents teach nothing and are left out.

    `labelled_only`: lists for the hard-label control of a run without labels, which alone reads the train judgements.
    Raises WorkError if no list is left: targets and updates would be shares of nothing.
    """
    cfg = run.config.mine

    def build(work: Work) -> None:
        corpus, rows = collection.corpus, collection.train_rows
        if labelled_only:
            judged = {**corpus.qrels.get(SYNTHETIC_TRAIN, {}), **corpus.qrels.get("train", {})}
            rows = np.asarray([row for row in rows if corpus.query_ids[row] in judged], dtype=np.int64)
        queries_QD, depth = vectors.queries_QD[rows], min(cfg.depth, len(corpus.documents))
        texts, found = corpus.query_texts(rows.tolist()), min(depth + SPARE, len(corpus.documents))
        candidates, report = mine_lists(
            rows,
            open_index(run, index).search(queries_QD, found),
            lexical.index.search(texts, found) if cfg.lexical else None,
            collection.known_positives(rows.tolist(), use_labels),
            lambda q, documents: np.asarray(vectors.documents.vectors_WD[documents]) @ queries_QD[q],
            depth=depth,
            keep=cfg.keep,
            top_share=cfg.top_share,
            duplicate_group_N=duplicate_groups(corpus.document_texts()),
            own_document_Q=collection.own_documents(rows),
            seed=run.config.seed,
        )
        enough = np.flatnonzero(candidates.rows.lengths >= 2)
        if not len(enough):
            raise WorkError(
                f"{address}: no query has a list of 2 documents or more, the least that can teach an order (the corpus "
                f"has {len(corpus.documents)} documents), so there is nothing to learn; give a larger corpus (--set "
                "corpus.max_documents=null keeps all of it), or more training queries "
                "(--set corpus.generated_queries=1000)"
            )
        candidates.take(enough).save(work.folder)
        write_json(work.folder / "report.json", report.to_json())
        work.counts.update(queries=len(enough), candidates=int(candidates.rows.lengths.sum()))

    use_labels = run.config.corpus.labels or labelled_only
    # The language is in the key of the BM25 index, an input.
    identity = {**identity_fields(cfg, without={"language"}), "labels": use_labels, "seed": run.config.seed}
    inputs = [vectors, index, lexical, *collection.known_from]
    return run.runner.stage(address, 2, identity, inputs, build)
