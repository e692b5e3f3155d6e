"""Does a cross-encoder that is fitted to the corpus before it teaches rank better?

    python -m benchmarks.fitted_reranker DATA/COLLECTION --vectors FOLDER --reranker MODEL [--queries N] [--rates a,b]

FOLDER as in benchmarks/mixing.py. The reranker, a BERT, learns from lists of a known positive and others that
all-MiniLM-L6-v2 finds, by the softmax over the list: from labels, and without labels from even z-scores of the cosines
and of BM25. Its lower layers are frozen, and their output is kept, so that an epoch costs a CPU minutes. Prints nDCG@10
of dev queries, whose best 15 are reranked by the cross-encoder, alone and mixed evenly with the cosines, after each
epoch, and the difference to the reranker as it was, with its p (paired, not adjusted).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mixing import MEASURE, SEED, load_vectors
from benchmarks.served_scores import STUDENT, z_scores
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.text import hash_rank
from sdretrieval.corpus.types import Corpus
from sdretrieval.encode.batches import budget_batches
from sdretrieval.evaluation import evaluate, paired_test
from sdretrieval.ragged import Array
from sdretrieval.stages.lexical import build_lexical
from sdretrieval.teachers.cross_encoder import load_cross_encoder

DEPTH, TOKENS, LISTS_AT_ONCE, TEACHER_TEMPERATURE = 15, 96, 16, 0.5


class Halves:
    """A BERT reranker in two: `lower` layers whose output is kept, and the rest, which learns."""

    def __init__(self, reranker: str, frozen: int) -> None:
        model, _ = load_cross_encoder(reranker, max_tokens=TOKENS, device="cpu")
        self.network: Any = model.model
        self.tokenizer, self.frozen = model.tokenizer, frozen

    def lower(self, pairs: Sequence[tuple[str, str]]) -> list[Any]:
        """What the frozen layers make of each pair, bfloat16."""
        import torch

        encoded = [dict(self.tokenizer(q, d, truncation="only_second", max_length=TOKENS)) for q, d in pairs]
        lengths = [len(one["input_ids"]) for one in encoded]
        out: list[Any] = [None] * len(pairs)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            for batch in budget_batches(lengths, 2048):
                x = self.tokenizer.pad([encoded[i] for i in batch], return_tensors="pt")
                states = self.network.bert.embeddings(x["input_ids"], token_type_ids=x["token_type_ids"])
                states = self._through(states, x["attention_mask"], slice(0, self.frozen))
                for row, i in enumerate(batch.tolist()):
                    out[i] = states[row, : lengths[i]].bfloat16().clone()
        return out

    def upper(self, kept: Sequence[Any]) -> Any:
        """Logits of pairs from what `lower` made of them."""
        import torch

        states = torch.nn.utils.rnn.pad_sequence([one.float() for one in kept], batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(one)) for one in kept], batch_first=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = self._through(states, mask, slice(self.frozen, None))
            return self.network.classifier(self.network.bert.pooler(states)).float()[:, 0]

    def _through(self, states: Any, mask: Any, layers: slice) -> Any:
        blocked = (1 - mask[:, None, None, :].float()) * -1e4
        for layer in self.network.bert.encoder.layer[layers]:
            states = layer(states, blocked.to(states.dtype))
            states = states[0] if isinstance(states, tuple) else states
        return states

    def learning(self) -> list[Any]:
        """The parameters of the upper half."""
        bert = self.network.bert
        parts = (*bert.encoder.layer[self.frozen :], bert.pooler, self.network.classifier)
        return [parameter for part in parts for parameter in part.parameters()]

    def fit(self, kept: Sequence[Any], targets_LC: Array, rate: float, epochs: int) -> Iterator[int]:
        """Learn the targets of lists, of which `kept` holds the pairs one after another; yields after each epoch."""
        import torch

        parameters, chance = self.learning(), np.random.default_rng(SEED)
        torch.manual_seed(SEED)
        lists, width = targets_LC.shape
        optimizer = torch.optim.AdamW(parameters, lr=rate)
        steps = epochs * -(-lists // LISTS_AT_ONCE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1, pct_start=0.1)
        for epoch in range(epochs):
            self.network.train()
            order = chance.permutation(lists)
            for start in range(0, lists, LISTS_AT_ONCE):
                some = order[start : start + LISTS_AT_ONCE]
                logits = self.upper([kept[i * width + j] for i in some for j in range(width)]).reshape(-1, width)
                target = torch.from_numpy(targets_LC[some])
                loss = -(target * logits.log_softmax(1)).sum(1).mean()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
            yield epoch + 1


def sample(corpus: Corpus, split: str, count: int) -> list[int]:
    """Rows of some queries of a split."""
    return sorted(corpus.split_rows(split), key=lambda row: hash_rank(SEED, corpus.query_ids[row]))[:count]


def measure(folder: Path, vectors: Path, reranker: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows: what it learned from, rate, epoch, nDCG@10 alone and mixed, differences to the reranker as it was, p."""
    import torch

    corpus = open_corpus(str(folder))
    documents_ND, queries_QD = load_vectors(corpus, STUDENT, vectors / STUDENT / folder.name)
    train, dev, chance = (
        sample(corpus, "train", asked.queries),
        sample(corpus, "dev", asked.dev),
        np.random.default_rng(0),
    )

    def best(row: int, count: int) -> list[int]:
        return np.argsort(-(documents_ND @ queries_QD[row]), kind="stable")[:count].tolist()

    lists = []
    for row in train:
        positives = corpus.positives("train", row)
        others = [one for one in best(row, 20) if one not in positives]
        lists.append([positives[0], *chance.choice(others, asked.candidates - 1, replace=False).tolist()])
    texts = corpus.query_texts()
    halves, shown = Halves(reranker, asked.frozen), {row: best(row, DEPTH) for row in dev}
    pairs = [(texts[row], corpus.document_text(one)) for row, of in zip(train, lists, strict=True) for one in of]
    kept = halves.lower(pairs)
    kept_dev = halves.lower([(texts[row], corpus.document_text(one)) for row in dev for one in shown[row]])
    cosine_QK = z_scores(np.stack([documents_ND[shown[row]] @ queries_QD[row] for row in dev]))

    def by_query(logits_QK: Array) -> tuple[Mapping[str, float], Mapping[str, float]]:
        found = []
        for scores_QK in (logits_QK, z_scores(logits_QK) + cosine_QK):
            run = {
                corpus.query_ids[row]: dict(
                    zip(map(corpus.document_ids.__getitem__, shown[row]), of.tolist(), strict=True)
                )
                for row, of in zip(dev, scores_QK, strict=True)
            }
            found.append(evaluate({q: corpus.qrels["dev"][q] for q in run}, run, [MEASURE]).of(MEASURE))
        return found[0], found[1]

    def logits() -> Array:
        halves.network.eval()
        with torch.inference_mode():
            blocks = [halves.upper(kept_dev[start : start + 60]).numpy() for start in range(0, len(kept_dev), 60)]
        return np.concatenate(blocks).reshape(len(dev), DEPTH)

    before, own = halves.network.state_dict(), by_query(logits())
    before = {name: weights.clone() for name, weights in before.items()}
    hard_LC = np.zeros((len(lists), asked.candidates), dtype=np.float32)
    hard_LC[:, 0] = 1
    teachers = {"labels": hard_LC, "cosines + BM25": soft_targets(corpus, documents_ND, queries_QD, train, lists)}
    out = [row_of("as it was", 0.0, 0, own, own)]
    for name, targets_LC in teachers.items():
        for rate in asked.rates if name == "labels" else asked.rates[:1]:
            halves.network.load_state_dict(before)
            for epoch in halves.fit(kept, targets_LC, rate, asked.epochs):
                out.append(row_of(name, rate, epoch, by_query(logits()), own))
                print(table(out[-1:]).splitlines()[-1], flush=True)
    return out


def soft_targets(
    corpus: Corpus, documents_ND: Array, queries_QD: Array, rows: Sequence[int], lists: Sequence[Sequence[int]]
) -> Array:
    """Softmax of the even mixture of both z-scores over each list."""
    index, texts = build_lexical(corpus.document_texts(), False, "english"), corpus.query_texts(list(rows))
    hits = index.search(texts, min(200, len(corpus.documents)))
    words = [dict(zip(r.tolist(), s.tolist(), strict=True)) for r, s in zip(*hits, strict=True)]
    lexical_LC = np.asarray([[found.get(one, 0.0) for one in of] for found, of in zip(words, lists, strict=True)])
    cosine_LC = np.stack([documents_ND[list(of)] @ queries_QD[row] for row, of in zip(rows, lists, strict=True)])
    mixed_LC = (z_scores(cosine_LC) + z_scores(lexical_LC)) / 2 / TEACHER_TEMPERATURE
    weights_LC = np.exp(mixed_LC - mixed_LC.max(axis=1, keepdims=True))
    return np.asarray(weights_LC / weights_LC.sum(axis=1, keepdims=True), dtype=np.float32)


def row_of(name: str, rate: float, epoch: int, found: Any, own: Any) -> dict[str, Any]:
    """Figures alone and mixed."""
    row: dict[str, Any] = {"from": name, "rate": rate, "epoch": epoch}
    for way, mine, theirs in zip(("alone", "mixed"), found, own, strict=True):
        test = paired_test(mine, theirs, SEED, samples=2000)
        row |= {way: float(np.mean(list(mine.values()))), f"{way}_difference": test.difference, f"{way}_p": test.p}
    return row


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row each."""
    lines = ["| learned from | rate | epoch | alone | | p | mixed with the student | | p |", "|---" * 9 + "|"]
    for row in rows:
        cells = [
            f"{row[way]:.4f} | {row[f'{way}_difference']:+.4f} | {row[f'{way}_p']:.3f}" for way in ("alone", "mixed")
        ]
        lines.append(f"| {row['from']} | {row['rate']:g} | {row['epoch']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--reranker", required=True)
    parser.add_argument("--queries", type=int, default=250)
    parser.add_argument("--dev", type=int, default=120)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--frozen", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rates", type=lambda text: [float(one) for one in text.split(",")], default=[1e-4, 3e-4])
    asked = parser.parse_args()
    print(table(measure(asked.data, asked.vectors, asked.reranker, asked)))


if __name__ == "__main__":
    main()
