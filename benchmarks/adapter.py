"""An adapter: a linear map of cached vectors, fitted to the teacher's scores of the whole corpus, in seconds.

    python -m benchmarks.adapter DATA --vectors FOLDER [--collections a,b] [--half DIMS]

DATA and FOLDER as of `benchmarks.mixing`; each collection has a train split, of whose queries the texts alone are used
(at most `MOST_TRAIN`). A query's target is the softmax at 0.05 of cos + 2 sigma BM25 / norm over all documents. The map
starts as the identity and follows the target's KL: `STEPS` updates of Adam at `RATE`, `BATCH` queries each. `query`
maps queries alone, so that the base's document index stays valid; `both` maps documents as well. `--half`: with a
lexical half of so many dims behind the vectors, in training and in search.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, normalize

from benchmarks.lexical_half import ndcg
from benchmarks.mixing import load_vectors
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.types import Corpus
from sdretrieval.evaluation import paired_test
from sdretrieval.indexes.lexical_half import LexicalHalf
from sdretrieval.stages.lexical import build_lexical
from sdretrieval.targets.calibrate import EVIDENCE

STEPS, RATE, BATCH, MOST_TRAIN, MOST_TEST, SEED = 60, 1e-3, 128, 800, 400, 13
TEMPERATURE, UNIT_HITS, STRENGTH = 0.05, 100, 4
COLLECTIONS, MODEL = "scifact,feedbackqa,wikiqa", "all-MiniLM-L6-v2"


def scores_of(queries_QD: Tensor, documents_ND: Tensor, map_DD: Tensor, *, both: bool) -> Tensor:
    """The mapped student's cosines (Q, N)."""
    mapped_ND = normalize(documents_ND @ map_DD, dim=1) if both else documents_ND
    return normalize(queries_QD @ map_DD, dim=1) @ mapped_ND.T


def fit(queries_QD: Tensor, documents_ND: Tensor, added_QN: Tensor, target_QN: Tensor, *, both: bool) -> Tensor:
    """The map (D, D); `added_QN` is what a lexical half adds to the scores, `target_QN` log-probabilities."""
    chance = np.random.default_rng(SEED)
    map_DD = torch.eye(documents_ND.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([map_DD], lr=RATE)
    for _ in range(STEPS):
        chosen = torch.from_numpy(chance.choice(len(queries_QD), min(BATCH, len(queries_QD)), replace=False))
        logits_BN = scores_of(queries_QD[chosen], documents_ND, map_DD, both=both) + added_QN[chosen]
        found_BN = torch.log_softmax(logits_BN / TEMPERATURE, dim=1)
        loss = kl_div(found_BN, target_QN[chosen], log_target=True, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return map_DD.detach()


def figures_of(corpus: Corpus, test: Sequence[int]) -> Callable[[Tensor], dict[str, float]]:
    """From scores (Q, N) of test queries, by row, to nDCG@10 by their ids."""
    ids = [corpus.query_ids[row] for row in test]
    gain_QN = np.zeros((len(test), len(corpus.documents)))
    for q, query in enumerate(ids):
        for document, grade in corpus.qrels["test"][query].items():
            if document in corpus.document_row:
                gain_QN[q, corpus.document_row[document]] = max(grade, 0)
    return lambda scores_QN: dict(zip(ids, ndcg(scores_QN.numpy(), gain_QN).tolist(), strict=True))


def measure(folder: Path, vectors: Path, half_dims: int) -> None:
    """Print the base, its teacher, and each kind of map."""
    corpus = open_corpus(str(folder))
    chance = np.random.default_rng(SEED)
    train, test = (
        [int(row) for row in chance.permutation(corpus.split_rows(split))[:most]]
        for split, most in (("train", MOST_TRAIN), ("test", MOST_TEST))
    )
    index = build_lexical(corpus.document_texts(), False, "english")
    arrays = load_vectors(corpus, MODEL, vectors / MODEL / folder.name)
    documents_ND, all_QD = (torch.from_numpy(np.array(one)) for one in arrays)
    best = torch.topk(all_QD[train] @ documents_ND.T, min(UNIT_HITS, len(documents_ND))).values
    sigma = float(best.std(dim=1, unbiased=False).mean())
    half = LexicalHalf.fit(index, half_dims, STRENGTH * sigma) if half_dims else None

    def beside(rows: list[int]) -> tuple[Tensor, Tensor]:
        """What the half, and what BM25 adds to the cosines of some queries."""
        texts = corpus.query_texts(rows)
        words_QN = index.scores(texts, range(index.count)) / np.maximum(index.norm(texts), 1e-6)[:, None]
        halves_QN = half.queries(texts) @ half.of_weights(index.weights_NV).T if half else np.zeros_like(words_QN)
        return torch.from_numpy(halves_QN), torch.from_numpy(EVIDENCE * sigma * words_QN)

    figures = figures_of(corpus, test)
    (taught_QN, evidence_QN), (tested_QN, known_QN) = beside(train), beside(test)
    target_QN = torch.log_softmax((all_QD[train] @ documents_ND.T + evidence_QN) / TEMPERATURE, dim=1)
    plain_QN = all_QD[test] @ documents_ND.T
    before = figures(plain_QN + tested_QN)
    rows = [("the teacher itself", figures(plain_QN + known_QN), 0.0)]
    for kind in ("query", "both"):
        began = time.process_time()
        map_DD = fit(all_QD[train], documents_ND, taught_QN, target_QN, both=kind == "both")
        seconds = time.process_time() - began
        mapped_QN = scores_of(all_QD[test], documents_ND, map_DD, both=kind == "both")
        rows.append((kind, figures(mapped_QN + tested_QN), seconds))
    base = float(np.mean(list(before.values())))
    print(f"\n{folder.name}: {len(train)} train queries, {len(test)} test queries, base {base:.3f}\n")
    print("| | difference | 95 % interval | p | CPU seconds |\n|---|---|---|---|---|")
    for name, after, seconds in rows:
        found = paired_test(after, before, SEED)
        low, high = found.interval95
        print(
            f"| {name} | {found.difference:+.3f} | {low:+.3f} to {high:+.3f} | {found.p:.2g} | {seconds:.0f} |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--collections", default=COLLECTIONS)
    parser.add_argument("--half", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.collections.split(","):
        measure(asked.data / name, asked.vectors, asked.half)


if __name__ == "__main__":
    main()
