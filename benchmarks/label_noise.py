"""Targets made of labels and a teacher, of which some labels are wrong: which one still teaches?

    python -m benchmarks.label_noise DATA --vectors FOLDER [--collections a,b] [--seeds N] [--rows NAME] [--split SPLIT]

DATA and FOLDER as of `benchmarks.mixing`; each collection has a train split, of which at most `MOST_TRAIN` queries are
used. A share of them has wrong labels: `plausible` ones (another document of the base's 20 best) or `random` ones. An
adapter (a linear map of queries and documents that starts as the identity) follows a target over all documents of a
batch: `UPDATES` of Adam at `RATE`, `BATCH` queries with `SAMPLED` candidates each. The teacher is the softmax at
`TEMPERATURE` of cos + 2 sigma BM25 / norm. The split `unseen` is the test queries none of whose relevant documents is a
train label: what an adapter remembers does not help there.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.label_targets import FREE, TARGETS, Step, Target
from benchmarks.lexical_half import ndcg
from benchmarks.mixing import load_vectors
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.types import Corpus
from sdretrieval.evaluation import paired_test
from sdretrieval.evaluation.calibration import expected_calibration_error
from sdretrieval.ragged import Array
from sdretrieval.stages.lexical import build_lexical
from sdretrieval.targets.calibrate import EVIDENCE

UPDATES, RATE, WARMUP, BATCH, SAMPLED = 100, 1e-3, 0.1, 128, 6
LISTED, WRONG_TOP, MOST_TRAIN, MOST_DEV, SEED = 16, 20, 1500, 500, 13
TEMPERATURE, UNIT_HITS = 0.05, 100
COLLECTIONS, MODEL = "feedbackqa,scifact,wikiqa", "all-MiniLM-L6-v2"
NOISES = (("none", 0.0), ("plausible", 0.2), ("plausible", 0.4), ("random", 0.2), ("random", 0.4))

NOISE_OF = {
    "noise": NOISES,
    "relabelled": (NOISES[0], NOISES[2]),
    "smoothing": NOISES[:2],
    "schedule": (NOISES[0], NOISES[2]),
}


Lesson = tuple[Target, Tensor | None]
"""A target, and how much each train query counts, if not all alike."""


@dataclass(frozen=True)
class Judged:
    """Queries of a split with their gains (Q, N)."""

    ids: list[str]
    queries_QD: Tensor
    gain_QN: Array


@dataclass(frozen=True)
class Case:
    """A collection's train queries, their logits over all documents, and what they are measured on."""

    name: str
    documents_ND: Tensor
    queries_QD: Tensor
    base_QN: Tensor
    teacher_QN: Tensor
    labels: list[Array]
    splits: dict[str, Judged]


def load(folder: Path, vectors: Path) -> Case:
    """A collection, its vectors and BM25's scores."""
    corpus = open_corpus(str(folder))
    arrays = load_vectors(corpus, MODEL, vectors / MODEL / folder.name)
    documents_ND, all_QD = (torch.from_numpy(np.array(one)) for one in arrays)
    chance = np.random.default_rng(SEED)
    drawn = {name: [int(row) for row in chance.permutation(corpus.split_rows(name))] for name in corpus.qrels}
    train = drawn.pop("train")
    if "dev" not in drawn:
        fifth = len(train) // 5
        drawn["dev"], train = train[:fifth], train[fifth:]
    train = train[:MOST_TRAIN]
    labels = [relevant(corpus, row, "train") for row in train]
    index = build_lexical(corpus.document_texts(), False, "english")
    texts = corpus.query_texts(train)
    words_QN = index.scores(texts, range(index.count)) / np.maximum(index.norm(texts), 1e-6)[:, None]
    cosines_QN = all_QD[train] @ documents_ND.T
    sigma = float(torch.topk(cosines_QN, UNIT_HITS).values.std(dim=1, unbiased=False).mean())
    teacher_QN = cosines_QN + EVIDENCE * sigma * torch.from_numpy(np.asarray(words_QN, dtype=np.float32))
    splits = {}
    for name, rows in drawn.items():
        rows = rows[:MOST_DEV] if name == "dev" else rows
        split = name if name in corpus.qrels else "train"
        gain_QN = np.zeros((len(rows), len(documents_ND)), dtype=np.float32)
        for q, row in enumerate(rows):
            gain_QN[q, relevant(corpus, row, split)] = 1
        splits[name] = Judged([corpus.query_ids[row] for row in rows], all_QD[rows], gain_QN)
    seen = sorted({document for of in labels for document in of.tolist()})
    fresh_Q = ~(splits["test"].gain_QN[:, seen] > 0).any(1)
    of = splits["test"]
    ids = [query for query, fresh in zip(of.ids, fresh_Q, strict=True) if fresh]
    splits["unseen"] = Judged(ids, of.queries_QD[torch.from_numpy(fresh_Q)], of.gain_QN[fresh_Q])
    return Case(
        folder.name, documents_ND, all_QD[train], cosines_QN / TEMPERATURE, teacher_QN / TEMPERATURE, labels, splits
    )


def relevant(corpus: Corpus, row: int, split: str) -> Array:
    """Rows of a query's relevant documents."""
    place, grades = corpus.document_row, corpus.qrels[split][corpus.query_ids[row]]
    return np.asarray(sorted(place[d] for d, grade in grades.items() if grade > 0 and d in place), dtype=np.int64)


def corrupted(case: Case, kind: str, share: float, seed: int) -> tuple[list[Array], Array]:
    """Labels of which a share of the queries has wrong ones, and which queries (Q,)."""
    chance = np.random.default_rng([seed, int(100 * share)])
    wrong_Q = np.zeros(len(case.labels), dtype=bool)
    wrong_Q[chance.permutation(len(case.labels))[: round(share * len(case.labels))]] = True
    top_Qk = torch.topk(case.base_QN, WRONG_TOP).indices.numpy()
    labels = list(case.labels)
    for q in np.flatnonzero(wrong_Q).tolist():
        pool = top_Qk[q] if kind == "plausible" else np.arange(len(case.documents_ND))
        pool = np.setdiff1d(pool, case.labels[q])
        labels[q] = np.sort(chance.choice(pool, size=max(1, len(case.labels[q])), replace=False))
    return labels, wrong_Q


def batches(case: Case, labels: Sequence[Array], seed: int) -> Iterator[tuple[Array, Array, Tensor]]:
    """(query positions, document rows, which pairs are labelled) of each update."""
    chance = np.random.default_rng([seed, len(labels)])
    listed_Qk = torch.topk(case.teacher_QN, LISTED).indices.numpy()
    positive_QN = np.zeros(case.teacher_QN.shape, dtype=bool)
    for q, of in enumerate(labels):
        positive_QN[q, of] = True
    order: list[int] = []
    for _ in range(UPDATES):
        while len(order) < BATCH:
            order += chance.permutation(len(labels)).tolist()
        chosen, order = np.asarray(order[:BATCH]), order[BATCH:]
        parts = [labels[q] for q in chosen]
        for q in chosen:
            front, behind = listed_Qk[q, : SAMPLED // 2], listed_Qk[q, SAMPLED // 2 :]
            parts += [front, chance.choice(behind, SAMPLED - len(front) - 1, replace=False)]
        rows = np.unique(np.concatenate(parts))
        yield chosen, rows, torch.from_numpy(positive_QN[np.ix_(chosen, rows)])


def fit(case: Case, labels: Sequence[Array], lessons: Mapping[str, Lesson], seed: int) -> dict[str, Tensor]:
    """The map (D, D) of each target, all learned from the same batches."""
    maps = {name: torch.eye(case.documents_ND.shape[1], requires_grad=True) for name in lessons}
    optimisers = {name: torch.optim.Adam([map_DD], lr=RATE) for name, map_DD in maps.items()}
    warm = round(WARMUP * UPDATES)
    for number, (chosen, rows, positive_BM) in enumerate(batches(case, labels, seed)):
        rate = RATE * min((number + 1) / warm, (UPDATES - number) / (UPDATES - warm))
        shown_MD, asked_BD, pairs = case.documents_ND[rows], case.queries_QD[chosen], np.ix_(chosen, rows)
        teacher_BM, base_BM = case.teacher_QN[pairs], case.base_QN[pairs]
        for name, (target, weight_Q) in lessons.items():
            map_DD, optimiser = maps[name], optimisers[name]
            optimiser.param_groups[0]["lr"] = rate
            logits_BM = normalize(asked_BD @ map_DD, dim=1) @ normalize(shown_MD @ map_DD, dim=1).T / TEMPERATURE
            step = Step(teacher_BM, base_BM, logits_BM.detach(), positive_BM, number / UPDATES)
            loss_B = -(target(step) * logits_BM.log_softmax(1)).sum(1)
            optimiser.zero_grad()
            (loss_B if weight_Q is None else loss_B * weight_Q[chosen]).mean().backward()
            optimiser.step()
    return {name: map_DD.detach() for name, map_DD in maps.items()}


def first_hits(case: Case, split: str, map_DD: Tensor) -> tuple[Tensor, Array]:
    """Cosines of a split's queries (Q, N), and whether the first document is relevant (Q,)."""
    of = case.splits[split]
    scores_QN = normalize(of.queries_QD @ map_DD, dim=1) @ normalize(case.documents_ND @ map_DD, dim=1).T
    return scores_QN, of.gain_QN[np.arange(len(scores_QN)), scores_QN.argmax(1).numpy()] > 0


def fitted_temperature(case: Case, map_DD: Tensor) -> float:
    """At which the probability of the first document is most likely on dev, in place of `TEMPERATURE`."""
    scores_QN, hit_Q = first_hits(case, "dev", map_DD)

    def loss(log_heat: float) -> float:
        first_Q = (scores_QN / np.exp(log_heat)).softmax(1).amax(1).clamp(1e-6, 1 - 1e-6).numpy()
        return float(-np.log(np.where(hit_Q, first_Q, 1 - first_Q)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.005), np.log(0.5)), method="bounded").x))


def figures(case: Case, split: str, map_DD: Tensor) -> dict[str, Any]:
    """nDCG@10 by query, and the calibration of the softmax's first hit, as trained and with the temperature fitted."""
    of, (scores_QN, hit_Q) = case.splits[split], first_hits(case, split, map_DD)
    heats = {"ece": TEMPERATURE, "fitted": fitted_temperature(case, map_DD)}
    return {
        "ndcg": dict(zip(of.ids, ndcg(scores_QN.numpy(), of.gain_QN).tolist(), strict=True)),
        **{
            name: expected_calibration_error((scores_QN / heat).softmax(1).amax(1).numpy(), hit_Q)
            for name, heat in heats.items()
        },
    }


def divergence(case: Case) -> Array:
    """Jensen-Shannon divergence of the base's and the teacher's distribution of each train query (Q,)."""
    both = [of.softmax(1).double() for of in (case.base_QN, case.teacher_QN)]
    middle_QN = (both[0] + both[1]) / 2
    entropies = [-(of * of.clamp_min(1e-30).log()).sum(1) for of in (*both, middle_QN)]
    return np.asarray(entropies[2] - (entropies[0] + entropies[1]) / 2)


def agreement(case: Case) -> Array:
    """The share of the base's ten best documents that are among the teacher's (Q,)."""
    tops = [torch.topk(of, 10).indices.numpy() for of in (case.base_QN, case.teacher_QN)]
    return np.asarray([len(np.intersect1d(*pair)) / 10 for pair in zip(*tops, strict=True)])


def ranked(trust_Q: Array, silenced: float = 0.0) -> Tensor:
    """Weights by rank with mean 1 over the queries that are not among the `silenced` share trusted least."""
    order_Q = np.argsort(np.argsort(trust_Q, kind="stable"), kind="stable") / len(trust_Q)
    kept_Q = order_Q >= silenced
    weight_Q = np.where(kept_Q, 0.5 + (order_Q - silenced) / (1 - silenced), 0.0)
    return torch.from_numpy((weight_Q / weight_Q.mean()).astype(np.float32))


def weighed(case: Case) -> dict[str, Lesson]:
    """Queries without labels that count by how far the teacher is trusted, and its best document as a label."""

    def soft(step: Step) -> Tensor:
        return step.teacher_BM.softmax(1)

    def best(step: Step) -> Tensor:
        return torch.nn.functional.one_hot(step.teacher_BM.argmax(1), step.teacher_BM.shape[1]).float()

    sure_Q = np.asarray(case.teacher_QN.softmax(1).max(1).values)
    trust = {"confidence": sure_Q, "agreement": agreement(case), "divergence": -divergence(case)}
    return {
        "all alike": (soft, None),
        **{f"by {name}": (soft, ranked(trust_Q)) for name, trust_Q in trust.items()},
        **{f"by {name}, half silenced": (soft, ranked(trust_Q, 0.5)) for name, trust_Q in trust.items()},
        "the best document as a label": (best, None),
        "the same, of the surer half": (best, (ranked(sure_Q, 0.5) > 0).float()),
    }


def rows_of(case: Case, table: str, seed: int) -> Iterator[dict[str, Any]]:
    """Each target under each noise."""

    def row(kind: str, share: float, name: str, map_DD: Tensor) -> dict[str, Any]:
        found = {split: figures(case, split, map_DD) for split in case.splits}
        return {"noise": kind, "share": share, "target": name, **found}

    yield row("none", 0.0, "base", torch.eye(case.documents_ND.shape[1]))
    if table == "weights":
        nothing = [np.zeros(0, dtype=np.int64)] * len(case.labels)
        for name, map_DD in fit(case, nothing, weighed(case), seed).items():
            yield row("none", 0.0, name, map_DD)
        return
    for kind, share in NOISE_OF[table]:
        labels, _ = corrupted(case, kind, share, seed)
        lessons = {name: (target, None) for name, target in TARGETS[table].items() if share == 0 or name not in FREE}
        for name, map_DD in fit(case, labels, lessons, seed).items():
            yield row(kind, share, name, map_DD)


def table(rows: Sequence[Mapping[str, Any]], split: str, against: str) -> str:
    """nDCG@10 of one collection averaged over seeds, by target and noise, with the difference to the row `against` and
    its p, and the calibration errors."""
    noises = list(dict.fromkeys((row["noise"], row["share"]) for row in rows))
    cells: dict[tuple[str, Any], tuple[dict[str, float], str]] = {}
    for target in dict.fromkeys(row["target"] for row in rows):
        for noise in noises:
            found = [row[split] for row in rows if (row["target"], row["noise"], row["share"]) == (target, *noise)]
            if found:
                ids = found[0]["ndcg"]
                mean = {query: float(np.mean([one["ndcg"][query] for one in found])) for query in ids}
                errors = (np.mean([one[name] for one in found]) for name in ("ece", "fitted"))
                cells[target, noise] = mean, "ECE {:.2f}, fitted {:.2f}".format(*errors)
    lines = ["| target | " + " | ".join(f"{kind} {share:g}" if share else "none" for kind, share in noises) + " |"]
    lines.append("|---" * (len(noises) + 1) + "|")
    for target in dict.fromkeys(target for target, _ in cells):
        shown = []
        for noise in noises:
            if (target, noise) not in cells:
                shown.append("")
                continue
            mean, errors_of = cells[target, noise]
            text = f"{np.mean(list(mean.values())):.3f}"
            if target != against and (other := cells.get((against, noise))):
                test = paired_test(mean, other[0], SEED)
                text += f" ({test.difference:+.3f}, p {test.p:.2g})"
            shown.append(f"{text}, {errors_of}")
        lines.append(f"| {target} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--collections", default=COLLECTIONS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", choices=(*TARGETS, "weights"), default="noise")
    parser.add_argument("--split", choices=("dev", "test", "unseen"), default="test")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    against = next(iter(TARGETS.get(asked.rows, {"all alike": None})))
    for name in asked.collections.split(","):
        case = load(asked.data / name, asked.vectors)
        rows = [row for seed in range(SEED, SEED + asked.seeds) for row in rows_of(case, asked.rows, seed)]
        queries = len(case.splits[asked.split].ids)
        print(f"\n{name}: {len(case.labels)} train queries, {queries} {asked.split} queries\n")
        print(table(rows, asked.split, against), flush=True)


if __name__ == "__main__":
    main()
