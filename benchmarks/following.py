"""Does a student gain that follows its teacher on queries that training did not see? Judged test queries tell.

    python -m benchmarks.following DATA --vectors FOLDER [--models a,b] [--collections a,b] [--half DIMS [--strength S]]
      [--plain-teacher]

DATA and FOLDER as of `benchmarks.mixing`. An adapter (`benchmarks.adapter`) learns from the texts of train queries (of
half of the test queries where there is no train split), at most `MOST`, without their judgements; the teacher is the
base and BM25 on the absolute scale, with BM25's weight at 0.25, 0.5 and 0.75. A fifth of the texts is kept out: there
the share of the way to the teacher is 1 - KL(teacher || student) / KL(teacher || base) over all documents, as the stage
`N/follow` of a run has it. Both gains are in nDCG@10 over at most `MOST` judged test queries. `--half`: a lexical half
of so many dims is behind the vectors of base, teacher and student; it does not learn.
`--plain-teacher`: the teacher is without, as in runs until 2026-11-30.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.adapter import SEED, TEMPERATURE, UNIT_HITS, figures_of, fit, scores_of
from benchmarks.mixing import load_vectors
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.evaluation import paired_test
from sdretrieval.evaluation.gate import FOLLOWS
from sdretrieval.indexes.lexical_half import LexicalHalf
from sdretrieval.stages.corpus import HELD_OUT_SHARE
from sdretrieval.stages.follow import divergence
from sdretrieval.stages.lexical import build_lexical
from sdretrieval.targets.calibrate import EVIDENCE

MOST, LEAST = 600, 100
COLLECTIONS = "scifact,feedbackqa,covidqa_passage,wikiqa,climate_fever_sent"
MODELS, WEIGHTS = "all-MiniLM-L6-v2,paraphrase-MiniLM-L3", (0.25, 0.5, 0.75)
STRENGTH = 4.0


def measure(folder: Path, model: str, vectors: Path, half_dims: int, strength: float, plain_teacher: bool) -> None:
    """Print a row for each weight of BM25."""
    corpus, chance = open_corpus(str(folder)), np.random.default_rng(SEED)
    test = [int(row) for row in chance.permutation(corpus.split_rows("test"))][:MOST]
    asked = (
        [int(row) for row in chance.permutation(corpus.split_rows("train"))][:MOST] if "train" in corpus.qrels else []
    )
    if len(asked) < LEAST:
        asked, test = test[: len(test) // 2], test[len(test) // 2 :]
    kept_out = int(HELD_OUT_SHARE * len(asked))
    train, held_out = asked[kept_out:], asked[:kept_out]
    index = build_lexical(corpus.document_texts(), False, "english")
    arrays = load_vectors(corpus, model, vectors / model / folder.name)
    documents_ND, all_QD = (torch.from_numpy(np.array(one)) for one in arrays)
    best = torch.topk(all_QD[train] @ documents_ND.T, min(UNIT_HITS, len(documents_ND))).values
    sigma = float(best.std(dim=1, unbiased=False).mean())

    half = LexicalHalf.fit(index, half_dims, strength * sigma) if half_dims else None

    def sides(rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The base's scores, what BM25 adds if both count alike, and what of the scores is the half's (Q, N)."""
        texts = corpus.query_texts(rows)
        words_QN = index.scores(texts, range(index.count)) / np.maximum(index.norm(texts), 1e-6)[:, None]
        halves_QN = half.queries(texts) @ half.of_weights(index.weights_NV).T if half else np.zeros_like(words_QN)
        added_QN = torch.from_numpy(halves_QN.astype(np.float32))
        evidence_QN = torch.from_numpy((EVIDENCE * sigma * words_QN).astype(np.float32))
        return all_QD[rows] @ documents_ND.T + added_QN, evidence_QN, added_QN

    figures = figures_of(corpus, test)
    base_QN, words_QN, train_half_QN = sides(train)
    held_QN, held_words_QN, held_half_QN = sides(held_out)
    test_QN, test_words_QN, test_half_QN = sides(test)
    without = float(plain_teacher)  # of the half, in what teaches
    before, none = figures(test_QN), np.zeros(held_QN.shape, dtype=bool)
    for weight in WEIGHTS:
        odds = weight / (1 - weight)
        target_QN = torch.log_softmax((base_QN - without * train_half_QN + odds * words_QN) / TEMPERATURE, dim=1)
        map_DD = fit(all_QD[train], documents_ND, train_half_QN, target_QN, both=True)
        wanted = ((held_QN - without * held_half_QN + odds * held_words_QN) / TEMPERATURE).numpy()
        after_QN = scores_of(all_QD[held_out], documents_ND, map_DD, both=True) + held_half_QN
        ways = [divergence(wanted, (one / TEMPERATURE).numpy(), none).mean() for one in (after_QN, held_QN)]
        share = 1 - ways[0] / ways[1]
        taught = figures(scores_of(all_QD[test], documents_ND, map_DD, both=True) + test_half_QN)
        teacher = paired_test(figures(test_QN - without * test_half_QN + odds * test_words_QN), before, SEED)
        student = paired_test(taught, before, SEED)
        low, high = student.interval95
        print(
            f"| {folder.name} | {model} | {weight:g} | {share:.0%}{'' if share >= FOLLOWS else ' (refused)'} "
            f"| {teacher.difference:+.3f} | {student.difference:+.3f} | {low:+.3f} to {high:+.3f} |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--collections", default=COLLECTIONS)
    parser.add_argument("--half", type=int, default=0, help="dims of a lexical half; 0: none")
    parser.add_argument("--plain-teacher", action="store_true")
    parser.add_argument("--strength", type=float, default=STRENGTH)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| collection | model | BM25's weight | of the way | teacher | student | 95 % interval |")
    print("|---|---|---|---|---|---|---|")
    for model in asked.models.split(","):
        for name in asked.collections.split(","):
            measure(asked.data / name, model, asked.vectors, asked.half, asked.strength, asked.plain_teacher)


if __name__ == "__main__":
    main()
