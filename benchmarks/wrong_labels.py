"""A copy of a collection of whose train queries a share has wrong labels, for runs.

    python -m benchmarks.wrong_labels SOURCE TARGET --share 0.4 --vectors FOLDER [--kind random]

SOURCE is a collection in BEIR's layout, FOLDER holds its vectors as of `benchmarks.mixing` (MODEL/COLLECTION). Wrong
labels are plausible (another document of the base's 20 best) or random. Documents, queries and other splits are links.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.label_noise import MODEL, SEED, WRONG_TOP
from benchmarks.mixing import load_vectors
from sdretrieval.corpus.sources import open_corpus


def write(source: Path, target: Path, share: float, kind: str, vectors: Path) -> int:
    """Write the copy; how many queries have wrong labels."""
    corpus, chance = open_corpus(str(source)), np.random.default_rng(SEED)
    documents_ND, queries_QD = (np.array(one) for one in load_vectors(corpus, MODEL, vectors / MODEL / source.name))
    query_row = {query: row for row, query in enumerate(corpus.query_ids)}
    head, *lines = (source / "qrels" / "train.tsv").read_text(encoding="utf8").splitlines()
    pairs = [line.split("\t") for line in lines]
    known: dict[str, set[int]] = {}
    for query, document, *_ in pairs:
        known.setdefault(query, set()).add(corpus.document_row[document])
    queries = sorted(known)
    wrong = set(chance.permutation(queries)[: round(share * len(queries))].tolist())
    for pair in pairs:
        if (query := pair[0]) not in wrong:
            continue
        best = np.argpartition(-(documents_ND @ queries_QD[query_row[query]]), WRONG_TOP)[:WRONG_TOP]
        pool = best if kind == "plausible" else np.arange(len(documents_ND))
        row = int(chance.choice(np.setdiff1d(pool, sorted(known[query]))))
        known[query].add(row)
        pair[1] = corpus.document_ids[row]
    (target / "qrels").mkdir(parents=True)
    for file in [*source.glob("*.jsonl"), *source.glob("qrels/*.tsv")]:
        if file.name != "train.tsv":
            (target / file.relative_to(source)).symlink_to(file.resolve())
    text = "\n".join([head, *map("\t".join, pairs)]) + "\n"
    (target / "qrels" / "train.tsv").write_text(text, encoding="utf8")
    return len(wrong)


def main() -> None:
    """Write and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--share", type=float, required=True)
    parser.add_argument("--kind", choices=("plausible", "random"), default="plausible")
    parser.add_argument("--vectors", type=Path, required=True)
    asked = parser.parse_args()
    count = write(asked.source, asked.target, asked.share, asked.kind, asked.vectors)
    print(f"{count} train queries of {asked.target} have wrong labels")


if __name__ == "__main__":
    main()
