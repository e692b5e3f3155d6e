"""Fewer dims: the first ones of a vector, the principal ones, and a map that learned to keep what texts score.

    python -m benchmarks.short_dims DATA --vectors FOLDER [--collections a,b] [--model NAME]

DATA and FOLDER as of `benchmarks.mixing`. The map begins at the principal dims of the documents, and follows the
scores of whole vectors among batches of documents and of queries that are not tested, as `smaller: [{dims: N}]` does:
`STEPS` updates of Adam at `RATE`, `BATCH` texts each. Prints nDCG@10 on at most `MOST_TEST` test queries, and the
paired test of the map against whole vectors.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.lexical_half import ndcg
from benchmarks.mixing import COLLECTIONS, load_vectors
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.evaluation import paired_test
from sdretrieval.training.smaller import divergence, principal_dims

STEPS, RATE, BATCH, MOST_TEST, SEED = 150, 1e-3, 512, 400, 13
TEMPERATURE = 0.05
DIMS = (192, 128, 64)
MODEL = "all-MiniLM-L6-v2"


def learned(texts_ND: Tensor, first_DE: Tensor) -> Tensor:
    """The map (D, E), from where it begins."""
    chance = np.random.default_rng(SEED)
    map_DE = first_DE.clone().requires_grad_()
    optimiser = torch.optim.Adam([map_DE], lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / STEPS)
    for _ in range(STEPS):
        batch_BD = texts_ND[torch.from_numpy(chance.integers(0, len(texts_ND), BATCH))]
        loss = divergence(normalize(batch_BD @ map_DE, dim=1), batch_BD, TEMPERATURE)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return map_DE.detach()


def measure(folder: Path, vectors: Path, model: str) -> list[str]:
    """Rows of one collection, one for each number of dims."""
    corpus = open_corpus(str(folder))
    judged = [int(row) for row in np.random.default_rng(SEED).permutation(corpus.split_rows("test"))[:MOST_TEST]]
    documents_ND, all_QD = (
        torch.from_numpy(np.array(one)) for one in load_vectors(corpus, model, vectors / model / folder.name)
    )
    gain_QN = np.zeros((len(judged), len(documents_ND)))
    for q, row in enumerate(judged):
        for document, grade in corpus.qrels["test"][corpus.query_ids[row]].items():
            if document in corpus.document_row:
                gain_QN[q, corpus.document_row[document]] = max(grade, 0)

    def found(map_DE: Tensor) -> Mapping[str, float]:
        mapped_ND, mapped_QD = normalize(documents_ND @ map_DE, dim=1), normalize(all_QD[judged] @ map_DE, dim=1)
        values = ndcg((mapped_QD @ mapped_ND.T).numpy(), gain_QN)
        return dict(zip((corpus.query_ids[row] for row in judged), values.tolist(), strict=True))

    wide = documents_ND.shape[1]
    others = np.setdiff1d(np.arange(len(all_QD)), judged)
    texts_ND = torch.cat([documents_ND, all_QD[torch.from_numpy(others)]])
    whole, rows = found(torch.eye(wide)), []
    for dims in DIMS:
        principal_DE = torch.from_numpy(principal_dims(documents_ND.numpy(), dims))
        maps = [torch.eye(wide)[:, :dims], principal_DE, learned(texts_ND, principal_DE)]
        kept = [found(map_DE) for map_DE in maps]
        first, principal, after = (float(np.mean(list(one.values()))) for one in kept)
        test = paired_test(kept[-1], whole, SEED)
        low, high = test.interval95
        before = float(np.mean(list(whole.values())))
        rows.append(
            f"| {folder.name} | {dims} | {before:.3f} | {first:.3f} | {principal:.3f} | {after:.3f} | "
            f"{after / before:.1%} | {low:+.3f} to {high:+.3f} |"
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--model", default=MODEL)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| collection | dims | whole | first | principal | learned | kept | 95 % interval of what is lost |")
    print("|---|---|---|---|---|---|---|---|")
    for name in asked.collections.split(","):
        print("\n".join(measure(asked.data / name, asked.vectors, asked.model)), flush=True)


if __name__ == "__main__":
    main()
