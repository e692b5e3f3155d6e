"""What judging a pool costs, if the judge is right: the difference to the base of systems that were not pooled, by the
judged pool beside the truth.

python -m benchmarks.judged_pools DATA VECTORS COLLECTION ...

DATA: a folder of BEIR folders. VECTORS: MODEL/COLLECTION/{documents,queries}.npy below it, unit length, in the order of
corpus.jsonl and queries.jsonl. The base is all-MiniLM-L6-v2; the pool are its and BM25's best documents, graded by the
collection's own test judgements (`sdretrieval.stages.judge` asks a language model instead). `--misses` and `--false`:
the shares of relevant and of other documents that a judge errs on, by chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.z_scores import fuse
from sdretrieval.corpus import Corpus, open_corpus
from sdretrieval.evaluation import Run, evaluate, run_from_hits
from sdretrieval.indexes.exact import exact_search
from sdretrieval.indexes.lexical import LexicalIndex

BASE, OTHERS = "all-MiniLM-L6-v2", ("paraphrase-MiniLM-L3", "bge-small-en-v1.5")
MEASURE, DEPTH, POOLS, SEED = "nDCG@10", 100, (10, 20), 13


def main(arguments: Sequence[str] | None = None) -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("data", type=Path)
    made.add_argument("vectors", type=Path)
    made.add_argument("collections", nargs="+")
    made.add_argument("--misses", type=float, default=0.0)
    made.add_argument("--false", type=float, default=0.0)
    asked = made.parse_args(arguments)
    heads = [f"pool of {pool}{how}" for pool in POOLS for how in ("", ", unjudged left out")]
    print("| collection | system | truth | " + " | ".join(heads) + " |")
    print("|---|---|---|" + "---|" * len(heads))
    for name in asked.collections:
        for line in rows(open_corpus(str(asked.data / name)), asked.vectors, name, asked.misses, asked.false):
            print(line, flush=True)


def rows(corpus: Corpus, vectors: Path, name: str, misses: float, false: float) -> list[str]:
    queries = corpus.split_rows("test")
    runs = {
        model: dense(corpus, vectors / model / name, queries)
        for model in (BASE, *OTHERS)
        if known(vectors, model, name)
    }
    hits = LexicalIndex.build(corpus.document_texts()).search(corpus.query_texts(queries), DEPTH)
    ids = [corpus.query_ids[row] for row in queries]
    runs["BM25"] = run_from_hits(ids, corpus.document_ids, *hits)
    runs["even mix"] = fuse([runs[BASE], runs["BM25"]], [0.5, 0.5], DEPTH)
    truth = corpus.qrels["test"]
    judged = {pool: graded(truth, [runs[BASE], runs["BM25"]], pool, misses, false) for pool in POOLS}
    lines = []
    for system in runs:
        if system != BASE:
            differences = [difference(truth, runs[system], runs[BASE])]
            for qrels in judged.values():
                pair = runs[system], runs[BASE]
                differences += [difference(qrels, *pair), difference(qrels, *(condensed(qrels, one) for one in pair))]
            lines.append(f"| {name} | {system} | " + " | ".join(f"{one:+.3f}" for one in differences) + " |")
    return lines


def known(vectors: Path, model: str, name: str) -> bool:
    return all((vectors / model / name / f"{side}.npy").exists() for side in ("documents", "queries"))


def dense(corpus: Corpus, folder: Path, queries: Sequence[int]) -> Run:
    documents, asked = (np.load(folder / f"{side}.npy", mmap_mode="r") for side in ("documents", "queries"))
    hits = exact_search(documents, np.asarray(asked[queries]), DEPTH)
    return run_from_hits([corpus.query_ids[row] for row in queries], corpus.document_ids, *hits)


def graded(
    truth: dict[str, dict[str, int]], pooled: Sequence[Run], depth: int, misses: float, false: float
) -> dict[str, dict[str, int]]:
    """What a judge of the pool says: queries without a relevant document are left out, as the stage does."""
    chance = np.random.default_rng(SEED)
    qrels: dict[str, dict[str, int]] = {}
    for query, grades in truth.items():
        pool = {d for run in pooled for d in sorted(run[query], key=lambda d: (-run[query][d], d))[:depth]}
        said = {}
        for document in sorted(pool):
            relevant = grades.get(document, 0) > 0
            wrong = chance.random() < (misses if relevant else false)
            said[document] = int(relevant != wrong)
        if any(said.values()):
            qrels[query] = said
    return qrels


def condensed(qrels: dict[str, dict[str, int]], run: Run) -> Run:
    """A run without the documents that nobody judged (Sakai, SIGIR 2007)."""
    return {query: {d: score for d, score in hits.items() if d in qrels.get(query, {})} for query, hits in run.items()}


def difference(qrels: dict[str, dict[str, int]], run: Run, base: Run) -> float:
    return evaluate(qrels, run, [MEASURE]).mean(MEASURE) - evaluate(qrels, base, [MEASURE]).mean(MEASURE)


if __name__ == "__main__":
    main()
