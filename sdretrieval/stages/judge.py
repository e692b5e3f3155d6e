"""Stages 0/judge:SPLIT: a language model's grades of what a split's queries find.

Without labels, dev's synthetic queries have one source document each, as if no other answered them: the grades of the
documents that the base student and BM25 find stand in its place. Where people have judged, the grades decide nothing:
the report says how far they agree.
"""

from __future__ import annotations

import numpy as np

from sdretrieval.chat import JUDGING
from sdretrieval.config import Config
from sdretrieval.corpus import find_source
from sdretrieval.corpus.text import hash_rank
from sdretrieval.errors import WorkError
from sdretrieval.evaluation.judge import (
    RELEVANT,
    Agreement,
    agreement,
    judge_pairs,
    judging_cost,
)
from sdretrieval.files import read_json, write_json
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.collection import JUDGED, Collection
from sdretrieval.stages.corpus import measuring_splits
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.index import open_index
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.run import Run
from sdretrieval.stages.search import dense_hits, lexical_hits
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.synthetic_queries import is_synthetic

CHECKED = 100
"""Queries whose grades are compared with people's: kappa to about 0.05, at a bounded price."""


def judges_dev(config: Config) -> bool:
    """Whether a language model's grades are dev's judgements."""
    return config.evaluate.judge is not None and not config.corpus.labels


def with_judged_dev(
    run: Run, collection: Collection, lexical: Lexical, vectors: Vectors, index: Artifact
) -> Collection:
    """The collection with the model's judgements as dev's; the same if the config has none, or labels."""
    if not judges_dev(run.config):
        return collection
    return collection.with_judgements(_judge(run, collection, lexical, vectors, index, "dev", most_queries=None))


def judge_what_people_judged(
    run: Run, collection: Collection, lexical: Lexical, vectors: Vectors, index: Artifact
) -> Artifact | None:
    """The model's grades of pairs that people judged too: of dev if labels may be used, else of the report's split.

    None if the config names no judge, or that split's queries are synthetic.
    """
    config = run.config
    split = "dev" if config.corpus.labels else config.evaluate.split
    if config.evaluate.judge is None or (split == "dev" and not config.corpus.labels):
        return None
    if run.runner.dry:  # of a corpus that is not read yet, its files say whether anybody judged it
        counts = None if config.corpus.labels else find_source(config.corpus.source).preview()
        if counts is not None and not measuring_splits(counts):
            return None
    elif any(is_synthetic(query) for query in collection.corpus.qrels[split]):
        return None
    return _judge(run, collection, lexical, vectors, index, split, most_queries=CHECKED)


def _judge(
    run: Run, collection: Collection, lexical: Lexical, vectors: Vectors, index: Artifact, split: str, *,
    most_queries: int | None,
) -> Artifact:  # fmt: skip
    cfg = run.config.evaluate.judge
    assert cfg is not None

    def build(work: Work) -> None:
        """`judged.json`: the grade of each pair, by ids."""
        corpus = collection.corpus
        rows, lists = judged_pool(run, collection, lexical, vectors, index, split, most_queries)
        pairs = [(row, document) for q, row in enumerate(rows.tolist()) for document in lists[q].tolist()]
        queries = dict(zip(rows.tolist(), corpus.query_texts(rows.tolist()), strict=True))
        texts = [(queries[row], corpus.document_text(document)) for row, document in pairs]
        chat = run.chat(cfg, "evaluate.judge", temperature=0.0)
        chat.say_cost(judging_cost([text for _, text in texts], len(pairs), split))
        grades: dict[str, dict[str, int]] = {corpus.query_ids[row]: {} for row in rows.tolist()}
        for (row, document), grade in zip(pairs, judge_pairs(chat, texts), strict=True):
            if grade is not None:
                grades[corpus.query_ids[row]][corpus.document_ids[document]] = grade
        chat.say_what_it_took("pairs")
        relevant = sum(any(grade >= RELEVANT for grade in of.values()) for of in grades.values())
        if not relevant and most_queries is None:
            raise WorkError(
                f"evaluate.judge: {cfg.model} calls no document relevant to any of {len(rows)} dev queries, so they "
                "measure nothing; ask it by hand, name another model, or leave evaluate.judge out"
            )
        write_json(work.folder / JUDGED, {"model": cfg.model, "split": split, "grades": grades})
        work.counts.update(pairs=len(pairs), queries=len(rows), answered=relevant, **chat.counts("judged"))

    pool = run.config.evaluate.teacher_depth
    identity = {"model": cfg.model, "prompt": JUDGING, "pool": pool, "queries": most_queries, "seed": run.config.seed}
    inputs = [vectors, index, lexical, collection.filtered]
    return run.runner.stage(f"0/judge:{split}", 1, {"split": split, **identity}, inputs, build)


def judged_pool(
    run: Run, collection: Collection, lexical: Lexical, vectors: Vectors, index: Artifact, split: str,
    most_queries: int | None = None,
) -> tuple[Array, Ragged]:  # fmt: skip
    """Rows of a split's queries (of `most_queries`, by a hash), and of the documents of each that are judged: the best
    of the student and of BM25, and those that are called relevant already, the source of a synthetic query for one.

    They are as many as the teacher reranks, so that the probe meets none without a grade. One that neither system found
    counts as not relevant, as in any pooled collection: a smaller pool is unkind to other students, and leaving such
    documents out flatters them (docs/ablations/synthetic_queries.md).
    """
    corpus, rows, depth = collection.corpus, collection.rows_of(split), run.config.evaluate.teacher_depth
    dense = dense_hits(collection, split, vectors, open_index(run, index), depth).rows_Qk
    words = lexical_hits(collection, split, lexical.index, depth).rows_Qk
    own = collection.own_documents(rows)
    ranks = [hash_rank(run.config.seed, corpus.query_ids[row]) for row in rows.tolist()]
    chosen = sorted(np.argsort(np.asarray(ranks, dtype=np.uint64), kind="stable")[:most_queries].tolist())
    lists = []
    for q in chosen:
        known = sorted(corpus.positives(split, int(rows[q])), key=lambda row: hash_rank(run.config.seed, row))[:depth]
        found = dict.fromkeys([*known, *dense[q].tolist(), *words[q].tolist()])
        lists.append(np.asarray([row for row in found if row >= 0 and row != own[q]], dtype=np.int64))
    return rows[chosen], Ragged.of(lists, np.int64)


def agreement_of(checked: Artifact, collection: Collection) -> tuple[str, Agreement | None]:
    """The split, and how far the grades of its pairs agree with people's judgements. A pair that nobody judged counts
    as not relevant, as in every measure."""
    record = read_json(checked.path / JUDGED)
    qrels = collection.corpus.qrels[record["split"]]
    pairs = [(q, d, grade) for q, grades in record["grades"].items() for d, grade in grades.items()]
    people = [qrels.get(query, {}).get(document, 0) > 0 for query, document, _ in pairs]
    model = [grade >= RELEVANT for _, _, grade in pairs]
    return record["split"], agreement(people, model, len(record["grades"]))
