"""Does a reranker teach better if it and the student learn together?

    python -m benchmarks.joint DATA/COLLECTION --vectors FOLDER --reranker MODEL --out OUT [--queries N] [--rounds R]
        [--candidates C] [--rate R] [--tokens T]

FOLDER as in `benchmarks.mixing`. The student is all-MiniLM-L6-v2 with an adapter of queries and documents: InfoNCE on
the judgements of N train queries (weight 2) and, in all rows but the first, KL to the reranker over lists of C
documents. Each row has R rounds of `UPDATES` updates of the student; before each, in the rows below the second, the
reranker (upper half of its layers) has one pass over the lists, except in "fitted first", which has all R passes
before the first round. *Each other*: the reranker's target is half its labels, half the student's distribution
(RocketQAv2, Ren et al. 2021). *Anew*: after each round the lists are those that the student finds now (AR2, Zhang
et al. 2022). A reranker scores the queries whose judgements it has learned, as in both papers.

Prints nDCG@10 of all test queries, and of `DEV` dev queries whose best `DEPTH` the reranker ranks in the end; p is of
the paired test against "as it was". One JSON file a row in OUT: a second call goes on where the first was stopped.
Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.fitted_reranker import (
    BATCH,
    DEPTH,
    LIST_TEMPERATURE,
    RATE,
    SEED,
    TEMPERATURE,
    Case,
    as_values,
    gains,
    load,
    ranked,
    relevant,
)
from benchmarks.lexical_half import ndcg
from benchmarks.served_scores import z_scores
from sdretrieval.evaluation import paired_test
from sdretrieval.files import read_json, write_json
from sdretrieval.ragged import Array
from sdretrieval.stages.fit_teacher import lower_half
from sdretrieval.teachers.cross_encoder import load_cross_encoder
from sdretrieval.teachers.pair_windows import PairWindows
from sdretrieval.training.speed import frozen_names

UPDATES, LABEL_WEIGHT, LISTS, PAIRS, POOL = 40, 2.0, 8, 32, 40
"""Updates of the student in a round; lists of an update of the reranker; pairs that it scores at once."""


class Row(NamedTuple):
    """One way to teach."""

    teaches: bool = True
    first: bool = False
    """All passes of the reranker are before the first round."""
    learns: bool = True
    other: float = 0.0
    """Share of the student's distribution in the reranker's target."""
    anew: bool = False


ROWS = {
    "labels alone": Row(teaches=False, learns=False),
    "as it was": Row(learns=False),
    "fitted first": Row(first=True),
    "jointly": Row(),
    "jointly, each other": Row(other=0.5),
    "jointly, lists anew": Row(anew=True),
    "jointly, each other, lists anew": Row(other=0.5, anew=True),
}


class Reranker:
    """A cross-encoder that scores and learns lists."""

    def __init__(self, case: Case, asked: argparse.Namespace) -> None:
        self.case, self.asked = case, asked
        self.model, _ = load_cross_encoder(asked.reranker, max_tokens=asked.tokens, device="cpu")
        self.windows = PairWindows(self.model, asked.tokens)
        self.texts, self.documents = case.corpus.query_texts(), case.corpus.document_texts()
        names = [name for name, _ in self.model.named_parameters()]
        frozen = frozen_names(names, lower_half(self.model))
        for name, weight in self.model.named_parameters():
            weight.requires_grad_(name not in frozen)
        learned = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.optimiser, self.updates = torch.optim.AdamW(learned, lr=asked.rate), 0
        self.all_updates = asked.rounds * -(-len(case.train) // LISTS)

    def logits(self, rows: list[int], lists_QL: Array) -> Tensor:
        """(Q, L). A document longer than the limit is cut."""
        pairs = [
            (self.texts[row], self.documents[int(one)]) for row, of in zip(rows, lists_QL, strict=True) for one in of
        ]
        parts = []
        for start in range(0, len(pairs), PAIRS):
            [(encoded, _)] = self.windows.blocks(pairs[start : start + PAIRS])
            parts.append(self.model(self.windows.features(encoded))["scores"].reshape(-1))
        return torch.cat(parts).reshape(lists_QL.shape)

    @torch.no_grad()
    def scores(self, rows: list[int], lists_QL: Array) -> Array:
        """Logits (Q, L), in evaluation mode."""
        self.model.eval()
        return np.concatenate([
            self.logits(rows[q : q + LISTS], lists_QL[q : q + LISTS]).numpy() for q in range(0, len(rows), LISTS)
        ])  # fmt: skip

    def learn(self, lists_QL: Array, target_QL: Tensor, chance: np.random.Generator) -> None:
        """One pass: cross-entropy between a list's target and the softmax over its logits."""
        self.model.train()
        order = chance.permutation(len(lists_QL))
        for start in range(0, len(order), LISTS):
            chosen = order[start : start + LISTS]
            logits_BL = self.logits([self.case.train[q] for q in chosen], lists_QL[chosen])
            loss = -(target_QL[chosen] * logits_BL.log_softmax(1)).sum(1).mean()
            self.optimiser.param_groups[0]["lr"] = self.asked.rate * (1 - self.updates / self.all_updates)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.updates += 1


class Student:
    """Cached vectors and a map (D, D) of both sides."""

    def __init__(self, case: Case, rounds: int) -> None:
        self.case, self.documents_ND = case, torch.from_numpy(case.documents_ND)
        self.queries_QD = torch.from_numpy(case.all_QD[case.train])
        self.map_DD = torch.eye(self.documents_ND.shape[1], requires_grad=True)
        self.optimiser, self.updates, self.all_updates = torch.optim.Adam([self.map_DD], lr=RATE), 0, rounds * UPDATES

    def learn(self, lists_QL: Array, target_QL: Tensor | None, chance: np.random.Generator) -> None:
        """`UPDATES` updates of `BATCH` queries."""
        order: list[int] = []
        for _ in range(UPDATES):
            while len(order) < BATCH:
                order += chance.permutation(len(self.case.train)).tolist()
            chosen, order = np.asarray(order[:BATCH]), order[BATCH:]
            rows, where = np.unique(lists_QL[chosen], return_inverse=True)
            mapped_MD = normalize(self.documents_ND[rows] @ self.map_DD, dim=1)
            logits_BM = normalize(self.queries_QD[chosen] @ self.map_DD, dim=1) @ mapped_MD.T / TEMPERATURE
            known_BM = torch.from_numpy(np.stack([np.isin(rows, self.case.labels[q]) for q in chosen]))
            known_B = logits_BM.masked_fill(~known_BM, -torch.inf).logsumexp(1)
            loss = LABEL_WEIGHT * (logits_BM.logsumexp(1) - known_B).mean()
            if target_QL is not None:
                lists_BL = logits_BM.gather(1, torch.from_numpy(where.reshape(len(chosen), -1)))
                loss = loss - (target_QL[chosen] * lists_BL.log_softmax(1)).sum(1).mean()
            warm = self.all_updates // 10 + 1
            left = (self.all_updates - self.updates) / (self.all_updates - warm)
            self.optimiser.param_groups[0]["lr"] = RATE * min((self.updates + 1) / warm, left)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.updates += 1

    @torch.no_grad()
    def scores(self, queries_QD: Tensor) -> Tensor:
        """Cosines (Q, N) with all documents."""
        return normalize(queries_QD @ self.map_DD, dim=1) @ normalize(self.documents_ND @ self.map_DD, dim=1).T


def anew(case: Case, scores_QN: Array, width: int, chance: np.random.Generator) -> Array:
    """Lists (Q, L): a label first; of the others half the student's best, half drawn from its first `POOL`."""
    lists = []
    for labels, scores_N in zip(case.labels, scores_QN, strict=True):
        others = [one for one in np.argsort(-scores_N, kind="stable")[:POOL].tolist() if one not in labels]
        half = width // 2
        lists.append([labels[0], *others[:half], *chance.choice(others[half:], width - half - 1, replace=False)])
    return np.asarray(lists, dtype=np.int64)


def measure(case: Case, row: Row, asked: argparse.Namespace) -> dict[str, list[float]]:
    """nDCG@10 by query: of the student on test, of the reranker on dev (empty where none is in the row)."""
    chance, lists_QL = np.random.default_rng(SEED), case.lists_QL[:, : asked.candidates]
    reranker, student = Reranker(case, asked) if row.teaches else None, Student(case, asked.rounds)

    def taught(lists_QL: Array) -> None:
        assert reranker is not None
        known_QL = torch.from_numpy(np.stack([np.isin(of, case.labels[q]) for q, of in enumerate(lists_QL)])).float()
        target_QL = known_QL / known_QL.sum(1, keepdim=True)
        if row.other:
            own_QL = student.scores(student.queries_QD).gather(1, torch.from_numpy(lists_QL)) / TEMPERATURE
            target_QL = (1 - row.other) * target_QL + row.other * own_QL.softmax(1)
        reranker.learn(lists_QL, target_QL, chance)

    if row.first:
        for _ in range(asked.rounds):
            taught(lists_QL)
    for number in range(asked.rounds):
        if row.anew and number:
            lists_QL = anew(case, student.scores(student.queries_QD).numpy(), asked.candidates, chance)
        target_QL = None
        if reranker is not None:
            if row.learns and not row.first:
                taught(lists_QL)
            scores_QL = z_scores(reranker.scores(case.train, lists_QL))
            target_QL = (torch.from_numpy(scores_QL) / LIST_TEMPERATURE).softmax(1).float()
        student.learn(lists_QL, target_QL, chance)
    rows = case.corpus.split_rows("test")
    gain_QN = np.zeros((len(rows), len(case.documents_ND)), dtype=np.float32)
    for q, one in enumerate(rows):
        gain_QN[q, relevant(case.corpus, "test", one)] = 1
    test = ndcg(student.scores(torch.from_numpy(case.all_QD[rows])).numpy(), gain_QN)
    split = "dev" if "dev" in case.corpus.qrels else "train"
    shown = reranker and ranked(reranker.scores(case.dev, case.shown), gains(case, split, case.dev, case.shown))
    return {"test": test.tolist(), "dev": [] if shown is None else shown.tolist()}


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--reranker", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--tokens", type=int, default=96)
    asked = parser.parse_args()
    case = load(asked.data, asked.vectors, asked.queries)
    print(f"| reranker | student, test nDCG@10 | p | reranker, dev, best {DEPTH} | p |\n|---|---|---|---|---|")
    made: dict[str, dict[str, list[float]]] = {}
    for name, row in ROWS.items():
        torch.manual_seed(SEED)
        parts = (asked.data.name, asked.queries, asked.rounds, asked.candidates, asked.tokens, f"{asked.rate:g}", name)
        file = asked.out / f"{'-'.join(map(str, parts)).replace(', ', '_').replace(' ', '_')}.json"
        if not file.exists():
            asked.out.mkdir(parents=True, exist_ok=True)
            write_json(file, measure(case, row, asked))
        made[name] = read_json(file)
        cells = []
        for where in ("test", "dev"):
            values, against = (
                np.asarray(made[one].get(where, [])) for one in (name, "as it was" if "as it was" in made else name)
            )
            if not len(values):
                cells.append("|")
                continue
            test = paired_test(as_values(values), as_values(against), SEED)
            p = "" if name in ("labels alone", "as it was") else f"{test.difference:+.4f}, p {test.p:.2g}"
            cells.append(f"{values.mean():.4f} | {p}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
