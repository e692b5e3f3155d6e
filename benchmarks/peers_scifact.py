"""A student distilled with sentence-transformers' own parts, as their documentation shows them: one plain script.

    python -m benchmarks.peers_scifact CORPUS [--rounds 3] [--until-dev 0.74] [--limit-minutes 60] [--out FILE]

Each round: `mine_hard_negatives` with the student as it stands, `CrossEncoder.predict` on the lists that come out,
`SentenceTransformerTrainer` with `DistillKLDivLoss` (or `--loss margin_mse`), `InformationRetrievalEvaluator` on dev.
It ends when dev nDCG@10 is reached, when rounds or minutes are over; the best round by dev is measured on test. What is
shared with a run of ours is the collection: the same documents, and the same dev queries carved off train.

Defaults are those of the documentation's examples: batches of 16, rate 2e-5, 0.1 of warm-up, one epoch, five negatives.
Cosines are divided by 0.05 (times 20: what MultipleNegativesRankingLoss does by default), since the softmax of bare
cosines is nearly even whatever the student thinks; DistillKLDivLoss' own `student_temperature` of 0.05 would shrink its
gradients to a 400th.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.inputs import Asked, folder_of
from sdretrieval.corpus import Corpus, carve_dev, open_corpus, training_queries
from sdretrieval.errors import SdretrievalError
from sdretrieval.store import peak_rss_bytes

BEGAN = time.perf_counter()
TEMPERATURE = 0.05
STOP = "stop"
"""A file of this name in `--folder` ends the script after its round."""


@dataclass
class Found:
    """What the script says in the end, and after each round."""

    seconds: dict[str, float] = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    test: float | None = None
    test_seconds: float = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds what is done inside to the step's seconds."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @property
    def best(self) -> dict[str, Any]:
        """The round that is best on dev, the earliest of equals."""
        return max(self.rounds, key=lambda one: one["dev"])

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "seconds": {name: round(taken, 2) for name, taken in self.seconds.items()},
            "total_seconds": round(time.perf_counter() - BEGAN, 2),
            "peak_rss_bytes": peak_rss_bytes(),
            "rounds": self.rounds,
            "best_round": self.best["round"],
            "dev": self.best["dev"],
            "test": self.test,
            "test_seconds": round(self.test_seconds, 2),
        }


def read_corpus(source: str, max_documents: int | None, seed: int, dev_share: float) -> Corpus:
    """The collection as a run of ours reads it: dev is carved off train where there is none."""
    corpus = open_corpus(source, max_documents=max_documents)
    return corpus if corpus.qrels.get("dev") else carve_dev(corpus, seed, dev_share)


def train_pairs(corpus: Corpus) -> Any:
    """A data set of training queries, each with a known positive."""
    from datasets import Dataset

    rows = training_queries(corpus)
    texts = list(corpus.document_texts())
    pairs = [
        (query, texts[positive])
        for row, query in zip(rows, corpus.query_texts(rows), strict=True)
        for positive in corpus.positives("train", row)
    ]
    return Dataset.from_dict({"query": [query for query, _ in pairs], "positive": [text for _, text in pairs]})


def evaluator_of(corpus: Corpus, split: str) -> Any:
    """The documentation's evaluator over the queries of a split."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    rows = corpus.split_rows(split)
    judged = corpus.qrels[split]
    return InformationRetrievalEvaluator(
        queries={corpus.query_ids[row]: text for row, text in zip(rows, corpus.query_texts(rows), strict=True)},
        corpus=dict(zip(corpus.document_ids, corpus.document_texts(), strict=True)),
        relevant_docs={query: {d for d, grade in judged[query].items() if grade > 0} for query in judged},
        write_csv=False,
    )


def mine(pairs: Any, student: Any, documents: list[str], asked: argparse.Namespace) -> Any:
    """Rows of query, positive, negative_1, ..., by the student's own ranking."""
    from sentence_transformers.util import mine_hard_negatives

    return mine_hard_negatives(
        pairs, student, corpus=documents, num_negatives=asked.negatives, range_max=asked.range_max,
        relative_margin=asked.relative_margin, sampling_strategy="top", output_format="n-tuple", verbose=False,
    )  # fmt: skip


def predict(lists: Any, teacher: Any) -> Any:
    """The lists with a column `label`: the cross-encoder's logits of the query with each of its documents."""
    names = [name for name in lists.column_names if name != "query"]
    pairs = [(row["query"], row[name]) for row in lists for name in names]
    scores = teacher.predict(pairs).reshape(len(lists), len(names))
    return lists.add_column("label", scores.tolist())


def over_temperature(one: Any, other: Any) -> Any:
    """Cosines as the losses see them: of the size of logits."""
    from sentence_transformers.util import pairwise_cos_sim

    return pairwise_cos_sim(one, other) / TEMPERATURE


def train(student: Any, lists: Any, asked: argparse.Namespace, folder: Path) -> int:
    """One training of the documentation's; how many updates it had."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss

    loss = (
        DistillKLDivLoss(student, similarity_fct=over_temperature, teacher_temperature=asked.teacher_temperature)
        if asked.loss == "kl"
        else MarginMSELoss(student, similarity_fct=over_temperature)
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "trainer"), num_train_epochs=asked.epochs, warmup_steps=0.1,
        per_device_train_batch_size=asked.batch_size, learning_rate=asked.learning_rate, seed=asked.seed,
        save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=1000, use_cpu=asked.device == "cpu",
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(model=student, args=arguments, train_dataset=lists, loss=loss)
    return int(trainer.train().global_step)


class Measuring:
    """Documents are encoded once for each student, whatever is measured with it."""

    def __init__(self, corpus: Corpus, split: str, found: Found, folder: Path) -> None:
        self._documents = list(corpus.document_texts())
        self._evaluators = {name: evaluator_of(corpus, name) for name in dict.fromkeys(("dev", split))}
        self._split, self._found, self._folder = split, found, folder
        self._best_vectors: Any = None

    def dev(self, student: Any, **about: Any) -> None:
        """Adds a round; the best student so far is saved."""
        found = self._found
        with found.step("encode"):
            vectors = student.encode_document(self._documents, convert_to_tensor=True)
        with found.step("evaluate"):
            dev = self._ndcg("dev", student, vectors)
        at = round(time.perf_counter() - BEGAN, 2)
        found.rounds.append({"round": len(found.rounds), "at": at, "dev": dev, **about})
        print(f"round {len(found.rounds) - 1}: dev nDCG@10 {dev:.4f} after {at:.0f} s", file=sys.stderr, flush=True)
        if found.best is found.rounds[-1]:
            self._best_vectors = vectors
            student.save_pretrained(str(self._folder / "student"), create_model_card=False)

    def test(self, device: str) -> None:
        """The saved student's nDCG@10 on the report's split."""
        from sentence_transformers import SentenceTransformer

        started = time.perf_counter()
        with self._found.step("evaluate"):
            best = SentenceTransformer(str(self._folder / "student"), device=device)
            self._found.test = self._ndcg(self._split, best, self._best_vectors)
        self._found.test_seconds = time.perf_counter() - started

    def _ndcg(self, split: str, student: Any, vectors: Any) -> float:
        return float(self._evaluators[split](student, corpus_embeddings=vectors)["cosine_ndcg@10"])


def run(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything; the record."""
    found = Found()
    with found.step("import"):
        import torch
        from sentence_transformers import CrossEncoder, SentenceTransformer

    with found.step("load"):
        corpus = read_corpus(asked.corpus, asked.max_documents, asked.seed, asked.dev_share)
        student = SentenceTransformer(folder_of(asked.student), device=asked.device)
        student.max_seq_length = asked.max_tokens
        teacher = CrossEncoder(folder_of(asked.teacher), device=asked.device, activation_fn=torch.nn.Identity())
        pairs, measuring = train_pairs(corpus), Measuring(corpus, asked.split, found, folder)
    measuring.dev(student)
    while not done(found, asked):
        with found.step("mine"):
            lists = mine(pairs, student, list(corpus.document_texts()), asked)
        if not len(lists):
            raise SystemExit(f"no query has {asked.negatives} negatives among {len(corpus.documents)} documents")
        with found.step("predict"):
            lists = predict(lists, teacher)
        with found.step("train"):
            updates = train(student, lists, asked, folder)
        measuring.dev(student, lists=len(lists), updates=updates)
        write(asked.out, found)
    measuring.test(asked.device)
    write(asked.out, found)
    return found.record()


def done(found: Found, asked: argparse.Namespace) -> bool:
    """Whether no further round is begun."""
    reached = asked.until_dev is not None and len(found.rounds) > 1 and found.best["dev"] >= asked.until_dev
    late = asked.limit_minutes is not None and time.perf_counter() - BEGAN >= 60 * asked.limit_minutes
    asked_to = asked.folder is not None and (asked.folder / STOP).exists()
    return reached or late or asked_to or len(found.rounds) > asked.rounds


def write(path: Path | None, found: Found) -> None:
    """The record so far."""
    if path is not None:
        path.write_text(json.dumps(found.record(), indent=2) + "\n", encoding="utf8")


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("corpus", help="a BEIR folder, or whatever a run takes as corpus.source")
    made.add_argument("--max-documents", type=int, default=None)
    made.add_argument("--dev-share", type=float, default=0.2, help="of train, where there is no dev split")
    made.add_argument("--split", default="test", help="measured once, at the end")
    made.add_argument("--student", default=Asked.student)
    made.add_argument("--teacher", default=Asked.reranker)
    made.add_argument("--max-tokens", type=int, default=Asked.max_tokens, help="of the student")
    made.add_argument("--device", default="cpu")
    made.add_argument("--negatives", type=int, default=5, help="a query, the best ranked")
    made.add_argument("--range-max", type=int, default=None, help="of mine_hard_negatives")
    made.add_argument("--relative-margin", type=float, default=None, help="of mine_hard_negatives")
    made.add_argument("--loss", choices=("kl", "margin_mse"), default="kl")
    made.add_argument("--teacher-temperature", type=float, default=1.0)
    made.add_argument("--batch-size", type=int, default=16)
    made.add_argument("--learning-rate", type=float, default=2e-5)
    made.add_argument("--epochs", type=float, default=1.0, help="a round")
    made.add_argument("--seed", type=int, default=Asked.seed)
    made.add_argument("--rounds", type=int, default=1)
    made.add_argument("--until-dev", type=float, default=None, help="no further round once dev nDCG@10 is this")
    made.add_argument("--limit-minutes", type=float, default=None, help="no further round after this")
    made.add_argument("--folder", type=Path, default=None, help="where the best student is left")
    made.add_argument("--out", type=Path, default=None, help="JSON, written after each round")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    asked = parser().parse_args(arguments)
    with TemporaryDirectory(prefix="peers-scifact-") as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            record = run(asked, folder)
        except SdretrievalError as error:
            raise SystemExit(str(error)) from error
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
