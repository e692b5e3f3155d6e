"""A cross-encoder that learns the train judgements before it teaches: what does it learn, and what does a student?

    python -m benchmarks.fitted_reranker DATA/COLLECTION --vectors FOLDER --reranker MODEL --out OUT [--queries N]
        [--rate R] [--epochs E] [--candidates C] [--tokens T]

FOLDER as in `benchmarks.mixing`. Two models are fitted as a run does it (`teacher.fit`), each to one half of N train
queries, on lists that all-MiniLM-L6-v2 and BM25 find. Prints three tables. First, nDCG@10 of some dev queries whose
best 10 the first model reranks, alone and mixed with cosines and BM25, with the difference to the model as it was.
Second, how it ranks the lists (6 documents) of 80 train queries that it has learned and of 80 others. Third, what a
student keeps of scores by the model that has learned a query's judgements (in fold), and by the other (out of fold): an
adapter of queries and documents, 100 updates of 128 queries, follows teachers over these lists, with and without labels
(InfoNCE over the batch, weight 2); nDCG@10 over all documents, three seeds, with the difference to the first row.

Everything dear is kept in OUT: a second call goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.lexical_half import ndcg
from benchmarks.mixing import load_vectors
from benchmarks.served_scores import STUDENT, z_scores
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.text import hash_rank
from sdretrieval.corpus.types import Corpus
from sdretrieval.evaluation import paired_test
from sdretrieval.mining.candidates import FIELDS, Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.fit_teacher import fit_model
from sdretrieval.stages.lexical import build_lexical
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher, load_cross_encoder
from sdretrieval.teachers.pairs import PairCache

SEED, LISTED, DEV, DEPTH, MEMORY = 13, 6, 100, 10, 80
UPDATES, RATE, BATCH, TEMPERATURE, LIST_TEMPERATURE = 100, 1e-3, 128, 0.05, 0.5


@dataclass(frozen=True)
class Case:
    """A collection, with train queries (Q) and, of each, its labels and a list of `LISTED` documents, a label first."""

    corpus: Corpus
    documents_ND: Array
    all_QD: Array
    train: list[int]
    labels: list[list[int]]
    lists_QL: Array
    dev: list[int]
    shown: Array
    words_QN: Array
    """BM25's scores of the train queries."""
    dev_words_QK: Array


def relevant(corpus: Corpus, split: str, row: int) -> list[int]:
    """Rows of a query's relevant documents."""
    place, grades = corpus.document_row, corpus.qrels[split][corpus.query_ids[row]]
    return sorted(place[document] for document, grade in grades.items() if grade > 0 and document in place)


def load(folder: Path, vectors: Path, queries: int) -> Case:
    """Lists are a label, and others by the even mixture of cosines and BM25: half the best, half from the first 40."""
    corpus = open_corpus(str(folder))
    documents_ND, all_QD = (np.array(one) for one in load_vectors(corpus, STUDENT, vectors / STUDENT / folder.name))
    drawn = {
        split: sorted(corpus.split_rows(split), key=lambda row: hash_rank(SEED, corpus.query_ids[row]))
        for split in ("train", "dev")
        if split in corpus.qrels
    }
    train = [row for row in drawn["train"] if relevant(corpus, "train", row)]
    if "dev" not in drawn:
        drawn["dev"], train = train[-len(train) // 5 :], train[: -len(train) // 5]
    train, dev = train[:queries], drawn["dev"][:DEV]
    index, chance = build_lexical(corpus.document_texts(), False, "english"), np.random.default_rng(SEED)
    words_QN, dev_QN = (
        np.asarray(index.scores(corpus.query_texts(rows), range(index.count)), dtype=np.float32)
        for rows in (train, dev)
    )
    lists = []
    for q, row in enumerate(train):
        labels = relevant(corpus, "train", row)
        mixed_N = z_scores(np.stack([documents_ND @ all_QD[row], words_QN[q]])).sum(0)
        others = [one for one in np.argsort(-mixed_N, kind="stable")[:40].tolist() if one not in labels]
        half = LISTED // 2
        lists.append([labels[0], *others[:half], *chance.choice(others[half:], LISTED - half - 1, replace=False)])
    shown = np.stack([np.argsort(-(documents_ND @ all_QD[row]), kind="stable")[:DEPTH] for row in dev])
    return Case(
        corpus, documents_ND, all_QD, train, [relevant(corpus, "train", row) for row in train],
        np.asarray(lists, dtype=np.int64), dev, shown, words_QN, np.take_along_axis(dev_QN, shown, axis=1),
    )  # fmt: skip


class Reranker:
    """The model as it was, and fitted to each half of the train queries."""

    def __init__(self, case: Case, asked: argparse.Namespace) -> None:
        self.case, self.asked = case, asked
        self.second_Q = np.arange(len(case.train)) % 2 == 1  # they come in a random order

    def folder(self, half: int) -> Path:
        """Of one half's model, fitted now if it was not."""
        asked, case = self.asked, self.case
        name = f"{Path(asked.reranker).name}-{asked.queries}-{asked.candidates}-{asked.rate:g}-{asked.epochs:g}"
        folder = asked.out / f"{name}-{asked.tokens}" / f"half{half}"
        if not (folder / "student").exists():
            chosen = np.flatnonzero(self.second_Q == bool(half))
            rows = Ragged.of(case.lists_QL[chosen].tolist(), np.int64)
            labels = [np.isin(case.lists_QL[q], case.labels[q]) for q in chosen]
            fields = {name: rows.with_values(np.zeros(len(rows.values_T), kind)) for name, kind in FIELDS.items()}
            fields |= {"rows": rows, "positive": Ragged.of(labels, np.bool_)}
            lists = Candidates(np.asarray(case.train, dtype=np.int64)[chosen], **fields)
            model, _ = load_cross_encoder(asked.reranker, max_tokens=asked.tokens, device="cpu")
            fit_model(
                model, case.corpus, lists, folder, epochs=asked.epochs, learning_rate=asked.rate,
                candidates=asked.candidates, max_tokens=asked.tokens, precision="bfloat16", seed=SEED,
            )  # fmt: skip
        return folder / "student"

    def scores(self, half: int | None, rows: Sequence[int], lists_QL: Array) -> Array:
        """Logits by one half's model, or by the model as it was."""
        model, digest = load_cross_encoder(
            self.asked.reranker if half is None else str(self.folder(half)), max_tokens=self.asked.tokens, device="cpu"
        )
        texts, documents = self.case.corpus.query_texts(), self.case.corpus.document_texts()
        teacher = CrossEncoderTeacher(
            model, name="reranker", query_text=texts.__getitem__, document_text=documents.__getitem__,
            cache=PairCache(self.asked.out / f"pairs-{digest}-{self.asked.tokens}"), max_tokens=self.asked.tokens,
        )  # fmt: skip
        pairs = [(texts[row], documents[int(one)]) for row, of in zip(rows, lists_QL, strict=True) for one in of]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return teacher.score_texts(pairs).reshape(lists_QL.shape)


def gains(case: Case, split: str, rows: Sequence[int], lists_QL: Array) -> Array:
    """1 for each relevant document of a list."""
    found = [np.isin(of, relevant(case.corpus, split, row)) for row, of in zip(rows, lists_QL, strict=True)]
    return np.asarray(found, dtype=np.float32)


def as_values(values: Array) -> dict[str, float]:
    """By query, as the paired test takes them."""
    return {str(q): float(value) for q, value in enumerate(values)}


def ranked(scores_QL: Array, gain_QL: Array) -> Array:
    """nDCG of short lists."""
    more = ((0, 0), (0, 12 - scores_QL.shape[1]))
    return np.asarray(ndcg(np.pad(scores_QL, more, constant_values=scores_QL.min() - 1), np.pad(gain_QL, more)))


def on_dev(case: Case, reranker: Reranker) -> Iterator[str]:
    """The first table. A relevant document that is not among the best counts in the ideal order."""
    split = "dev" if "dev" in case.corpus.qrels else "train"
    gain_QK, all_relevant = (
        gains(case, split, case.dev, case.shown),
        [relevant(case.corpus, split, r) for r in case.dev],
    )
    missing = max(map(len, all_relevant))
    padded = np.concatenate([gain_QK, np.zeros((len(case.dev), missing), dtype=np.float32)], axis=1)
    for q, of in enumerate(all_relevant):
        padded[q, DEPTH : DEPTH + len(of) - int(gain_QK[q].sum())] = 1
    cosines = z_scores(
        np.stack([case.documents_ND[of] @ case.all_QD[r] for r, of in zip(case.dev, case.shown, strict=True)])
    )
    words = z_scores(case.dev_words_QK)

    def measured(scores_QK: Array) -> Array:
        low = np.full((len(scores_QK), missing), scores_QK.min() - 1)
        return np.asarray(ndcg(np.concatenate([scores_QK, low], axis=1), padded))

    before: dict[str, Array] = {}
    yield "| model | alone | p | with cosines and BM25 | p |\n|---|---|---|---|---|"
    untaught = [f"{measured(one).mean():.4f} | " for one in (cosines, cosines + words)]
    yield f"| (cosines; cosines and BM25) | {' | '.join(untaught)} |"
    for half in (None, 0):
        logits = reranker.scores(half, case.dev, case.shown)
        cells = []
        for way, scores_QK in (("alone", logits), ("mixed", 2 * z_scores(logits) + cosines + words)):
            values = measured(scores_QK)
            test = paired_test(as_values(values), as_values(before.setdefault(way, values)), SEED, samples=2000)
            cells.append(f"{values.mean():.4f} ({test.difference:+.4f}) | {test.p:.3f}")
        yield f"| {'as it was' if half is None else 'fitted to one half'} | {' | '.join(cells)} |"


def by_fold(case: Case, reranker: Reranker) -> dict[str, Array]:
    """Logits of the train lists: as it was, in fold, out of fold."""
    both = [reranker.scores(half, case.train, case.lists_QL) for half in (0, 1)]
    second_Q1 = reranker.second_Q[:, None]
    return {
        "as it was": reranker.scores(None, case.train, case.lists_QL),
        "in fold": np.where(second_Q1, both[1], both[0]),
        "out of fold": np.where(second_Q1, both[0], both[1]),
    }


def on_train(case: Case, reranker: Reranker) -> Iterator[str]:
    """The second table: nDCG of the lists, and the share of the softmax that is on labels, by the first model."""
    yield (
        "| queries | model | nDCG of the lists | label first | softmax on labels, mean | above 0.9 |\n"
        + "|---" * 6
        + "|"
    )
    for what, of_Q in (("learned", ~reranker.second_Q), ("others", reranker.second_Q)):
        chosen = np.flatnonzero(of_Q)[:MEMORY]
        rows, lists_QL = [case.train[q] for q in chosen], case.lists_QL[chosen]
        gain_QL = gains(case, "train", rows, lists_QL)
        for name, half in (("as it was", None), ("fitted", 0)):
            logits_QL = reranker.scores(half, rows, lists_QL)
            share = (torch.from_numpy(logits_QL).softmax(1).numpy() * gain_QL).sum(1)
            first = gain_QL[np.arange(len(gain_QL)), logits_QL.argmax(1)].mean()
            cells = [f"{ranked(logits_QL, gain_QL).mean():.4f}", f"{first:.2f}", f"{share.mean():.3f}"]
            yield f"| {what} | {name} | {' | '.join(cells)} | {(share > 0.9).mean():.2f} |"


def targets(case: Case, logits: Mapping[str, Array]) -> dict[str, Tensor | None]:
    """Distributions over the lists: even mixtures of z-scores, as `targets.calibrate: zscore` makes them."""
    cosines = np.stack(
        [case.documents_ND[of] @ case.all_QD[r] for r, of in zip(case.train, case.lists_QL, strict=True)]
    )
    own = z_scores(cosines) + z_scores(np.take_along_axis(case.words_QN, case.lists_QL, axis=1))
    mixed = {"cosines and BM25": own / 2}
    for name, logits_QL in logits.items():
        mixed[f"cross-encoder {name}"] = z_scores(logits_QL)
        mixed[f"all three, {name}"] = (own + 2 * z_scores(logits_QL)) / 4
    soft = {name: (torch.from_numpy(one) / LIST_TEMPERATURE).softmax(1).float() for name, one in mixed.items()}
    return {"nothing": None, **soft}


def student(case: Case, target_QL: Tensor | None, labels: bool, seed: int) -> Tensor:
    """The map (D, D) of queries and documents."""
    chance, documents_ND = np.random.default_rng(seed), torch.from_numpy(case.documents_ND)
    queries_QD = torch.from_numpy(case.all_QD[case.train])
    map_DD = torch.eye(documents_ND.shape[1], requires_grad=True)
    optimiser, warm, order = torch.optim.Adam([map_DD], lr=RATE), UPDATES // 10 + 1, []
    for number in range(UPDATES):
        while len(order) < BATCH:
            order += chance.permutation(len(case.train)).tolist()
        chosen, order = np.asarray(order[:BATCH]), order[BATCH:]
        optimiser.param_groups[0]["lr"] = RATE * min((number + 1) / warm, (UPDATES - number) / (UPDATES - warm))
        rows, where = np.unique(case.lists_QL[chosen], return_inverse=True)
        mapped_MD = normalize(documents_ND[rows] @ map_DD, dim=1)
        logits_BM = normalize(queries_QD[chosen] @ map_DD, dim=1) @ mapped_MD.T / TEMPERATURE
        loss = torch.zeros(())
        if target_QL is not None:
            lists_BL = logits_BM.gather(1, torch.from_numpy(where.reshape(len(chosen), -1)))
            loss = loss - (target_QL[chosen] * lists_BL.log_softmax(1)).sum(1).mean()
        if labels:
            known_BM = torch.from_numpy(np.stack([np.isin(rows, case.labels[q]) for q in chosen]))
            loss = (
                loss + 2 * (logits_BM.logsumexp(1) - logits_BM.masked_fill(~known_BM, -torch.inf).logsumexp(1)).mean()
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return map_DD.detach()


def on_students(case: Case, logits: Mapping[str, Array], splits: Sequence[str]) -> Iterator[str]:
    """The third table."""
    names = [f"{split}, {what}" for what in ("teacher alone", "with labels") for split in splits]
    yield f"| teacher | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}"
    documents_ND, against = torch.from_numpy(case.documents_ND), {}
    for name, target_QL in targets(case, logits).items():
        cells = []
        for labels in (False, True):
            if target_QL is None and not labels:
                cells += [""] * len(splits)
                continue
            maps = [student(case, target_QL, labels, seed) for seed in range(SEED, SEED + 3)]
            for split in splits:
                rows = case.corpus.split_rows(split)
                gain_QN = np.zeros((len(rows), len(documents_ND)), dtype=np.float32)
                for q, row in enumerate(rows):
                    gain_QN[q, relevant(case.corpus, split, row)] = 1
                asked_QD = torch.from_numpy(case.all_QD[rows])
                scores = [normalize(asked_QD @ m, dim=1) @ normalize(documents_ND @ m, dim=1).T for m in maps]
                values = np.mean([ndcg(one.numpy(), gain_QN) for one in scores], axis=0)
                test = paired_test(as_values(values), as_values(against.setdefault((split, labels), values)), SEED)
                p = "" if target_QL is None else f" ({test.difference:+.4f}, p {test.p:.2g})"
                cells.append(f"{values.mean():.4f}{p}")
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--reranker", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--splits", default="dev,test")
    asked = parser.parse_args()
    case: Any = load(asked.data, asked.vectors, asked.queries)
    reranker = Reranker(case, asked)
    for line in on_dev(case, reranker):
        print(line, flush=True)
    print()
    for line in on_train(case, reranker):
        print(line, flush=True)
    print()
    for line in on_students(case, by_fold(case, reranker), asked.splits.split(",")):
        print(line, flush=True)


if __name__ == "__main__":
    main()
