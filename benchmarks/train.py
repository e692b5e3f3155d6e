"""Training on the same lists, the same number of updates: ours against the trainer with `DistillKLDivLoss`.

Each round trains with a seed of its own, the same on all sides: quality is that of several trainings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks.ceiling import SIDE, at_most, described, operations, products
from benchmarks.inputs import Asked, folder_of, read_texts, stdlib, write_texts
from benchmarks.judge import mean, ndcg_by_query
from benchmarks.record import Record, compared
from benchmarks.sides import Side, Work
from sdretrieval.config import parse_config
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.student import load_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.evaluation import paired_test
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Ragged
from sdretrieval.run import api
from sdretrieval.run.loop import mine_base, mixture_weights, score_base
from sdretrieval.run.loop import prepare as prepare_base
from sdretrieval.stages.targets import temper
from sdretrieval.targets.build import Targets
from sdretrieval.training.batches import visiting_order
from sdretrieval.training.speed import faster_precision

if TYPE_CHECKING:
    from sdretrieval.training.batches import Collator

ROUNDS = 3
DOCUMENTS = 1000
UPDATES = 12
QUERIES, LIST = 16, 8
"""Queries a batch, documents a list."""
RATE, TEMPERATURE = 1e-4, 0.05
TOKENS = 128
WORSE = 0.005


def prepare(folder: Path, asked: Asked) -> None:
    """Lists and targets of our own teacher (average and BM25), made once: both sides learn from the same."""
    config = parse_config({
        "name": "train", "seeds": [asked.seed],
        "corpus": {"source": "python-stdlib", "max_documents": asked.count(DOCUMENTS)},
        "student": {"model": asked.student, "max_tokens": TOKENS},
        "train": {"candidates_per_query": LIST},
        "mine": {"keep": LIST, "depth": 50, "split_identifiers": True},
        "teacher": {"kind": "ensemble", "members": [{"kind": "ema"}, {"kind": "lexical"}]},
    })  # fmt: skip
    with api.open_run(config, runs=folder / "runs") as run:
        base = prepare_base(run)
        mined = mine_base(base)
        weights = mixture_weights(base)
        targets = temper(run, base.collection, "1/targets", mined, score_base(base, mined), weights)
        shutil.copytree(mined.path, folder / "mined")
        shutil.copytree(targets.path, folder / "targets")
    corpus = stdlib(asked.count(DOCUMENTS))
    write_texts(folder / "documents.json", corpus.document_texts())
    write_texts(folder / "queries.json", corpus.query_texts())


def _lists(folder: Path) -> tuple[Candidates, Targets]:
    """The lists that have all LIST documents: the peer's examples have one column a document."""
    candidates, targets = Candidates.load(folder / "mined"), Targets.load(folder / "targets")
    whole = np.flatnonzero(candidates.rows.lengths == LIST)
    kept = {"log_probs": targets.log_probs, "hard_negative": targets.hard_negative}
    parts = {name: Ragged.of([of[q] for q in whole], of.values_T.dtype) for name, of in kept.items()}
    return candidates.take(whole), replace(targets, **parts, weight_Q=targets.weight_Q[whole])


def peer(*, tuned: bool) -> Callable[[Path], Work]:
    """`SentenceTransformerTrainer` with `DistillKLDivLoss`; its defaults, or `tuned`: what we freeze is frozen and
    dropout off, too."""

    def side(folder: Path) -> Work:
        rounds = count()
        return lambda: _train_peer(folder, tuned, next(rounds))

    return side


def _train_peer(folder: Path, tuned: bool, number: int) -> str:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss

    asked = Asked.load(folder)
    model = SentenceTransformer(folder_of(asked.student), device="cpu")
    model.max_seq_length = TOKENS
    if tuned:
        model[0].auto_model.embeddings.word_embeddings.weight.requires_grad_(False)
        for module in model.modules():
            if type(module).__name__ == "Dropout":
                module.p = 0.0
    target = folder / f"peer-{tuned}-{number}"
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(target / "trainer"), max_steps=UPDATES, per_device_train_batch_size=QUERIES, learning_rate=RATE,
        save_strategy="no", report_to="none", disable_tqdm=True, seed=asked.seed + number, use_cpu=True,
        logging_steps=1000,
    )  # fmt: skip
    loss = DistillKLDivLoss(model, similarity_fct=_over_temperature)
    SentenceTransformerTrainer(model=model, args=arguments, train_dataset=_examples(folder), loss=loss).train()
    model.save_pretrained(str(target / "student"), create_model_card=False)
    return str(target / "student")


def _over_temperature(one: Any, other: Any) -> Any:
    """The student's scores as both losses see them."""
    from sentence_transformers.util import pairwise_dot_score

    return pairwise_dot_score(one, other) / TEMPERATURE


def _examples(folder: Path) -> Any:
    from datasets import Dataset

    candidates, targets = _lists(folder)
    documents, queries = read_texts(folder / "documents.json"), read_texts(folder / "queries.json")
    columns: dict[str, list[Any]] = {"query": [queries[row] for row in candidates.query_rows_Q]}
    for n in range(LIST):
        name = "positive" if n == 0 else f"negative_{n}"
        columns[name] = [documents[rows[n]] for rows in candidates.rows]
    return Dataset.from_dict({**columns, "label": [probs.tolist() for probs in targets.log_probs]})


def ours(precision: Literal["float32", "auto"]) -> Callable[[Path], Work]:
    """`train` with `ListwiseDistillation` over the same lists: in float32 as the peer, or in what `auto` takes."""

    def side(folder: Path) -> Work:
        chosen, rounds = _chosen(precision, Asked.load(folder)), count()
        return lambda: _train_ours(folder, precision, chosen, next(rounds))

    return side


def _chosen(precision: Literal["float32", "auto"], asked: Asked) -> Precision:
    if precision == "float32":
        return precision
    return faster_precision(load_student(asked.student, max_tokens=TOKENS, device="cpu").model, training=True)[0]


def _train_ours(folder: Path, name: str, precision: Precision, number: int) -> str:
    from sdretrieval.training.distillation import ListwiseDistillation
    from sdretrieval.training.train import TrainSettings, train

    seed = Asked.load(folder).seed + number
    batches = _batches(folder, seed)
    target = folder / f"ours-{name}-{precision}-{number}"
    settings = TrainSettings(
        epochs=UPDATES * QUERIES / len(batches.candidates), queries_per_batch=QUERIES, learning_rate=RATE, warmup=0.0,
        weight_decay=0.0, seed=seed, precision=precision,
    )  # fmt: skip
    loss = ListwiseDistillation(batches.model, student_temperature=TEMPERATURE)
    done = train(batches.model, batches, loss, settings, target)
    assert done.updates == UPDATES, done.updates
    return str(target / "student")


def _batches(folder: Path, seed: int) -> Collator:
    """Of a fresh student, over the lists that both sides learn from."""
    from sdretrieval.training.batches import Collator
    from sdretrieval.training.batches import Side as TextSide

    candidates, targets = _lists(folder)
    student = load_student(Asked.load(folder).student, max_tokens=TOKENS, device="cpu")
    texts = [
        tokenize(read_texts(folder / f"{name}.json"), student.model.tokenizer) for name in ("queries", "documents")
    ]
    return Collator(
        student.model, TextSide(texts[0], student.query_view, student.query_specials),
        TextSide(texts[1], student.view, student.document_specials), candidates, targets, LIST, seed,
    )  # fmt: skip


def ceiling(folder: Path) -> Work:
    """Products, beside the operations that our updates need: forward, and twice as many backward."""
    batches = _batches(folder, Asked.load(folder).seed)
    positions, visits = visiting_order(len(batches.candidates), UPDATES * QUERIES, batches.seed)
    pairs = [{"position": p, "visit": v} for p, v in zip(positions.tolist(), visits.tolist(), strict=True)]
    lengths: list[int] = []
    for start in range(0, len(pairs), QUERIES):
        batch = batches(pairs[start : start + QUERIES])
        masks = [values for name, values in batch.items() if name.endswith("attention_mask")]
        lengths += [length for mask in masks for length in mask.sum(dim=1).tolist()]
    return products(3 * operations(batches.model[0].auto_model.config, lengths))


SIDES: dict[str, Callable[[Path], Work]] = {
    "trainer, defaults": peer(tuned=False),
    "trainer, frozen, no dropout": peer(tuned=True),
    "ours": ours("float32"),
    "ours, precision auto": ours("auto"),
    SIDE: ceiling,
}
ROWS = (
    ("trainer, defaults", "ours", 3.0),
    ("trainer, frozen, no dropout", "ours", 1.3),
    ("trainer, defaults", "ours, precision auto", 3.0),
)
"""The peer, our side, the target."""


def report(sides: Mapping[str, Side], asked: Asked) -> Record:
    """Ratios and dev nDCG@10 of what came out."""
    found = {name: _dev(side.results, asked) for name, side in sides.items() if name != SIDE}
    base = _dev([asked.student], asked)
    rows = []
    for name, own, target in ROWS:
        test = paired_test(found[own], found[name], asked.seed)
        low, high = test.interval95
        means = f"{mean(found[own]):.4f} against {mean(found[name]):.4f}, {low:+.3f} to {high:+.3f}"
        agreement = f"dev nDCG@10 {means} (base {mean(base):.4f})"
        what = f"against {name}" + own.removeprefix("ours")
        rows.append(compared(what, sides[own], sides[name], target, agreement))
    title = f"{UPDATES} updates of {QUERIES} queries x {LIST} documents of at most {TOKENS} tokens"
    trainings = len(sides["ours"].results)
    took = "bfloat16" if "bfloat16" in sides["ours, precision auto"].result else "float32"
    note = (
        f"dev nDCG@10 may be at most {WORSE} worse. Means over {trainings} trainings of each with seeds of their own, "
        f"{len(base)} dev queries; the interval is the paired 95 % one of the difference, over queries. All minimise "
        f"the same divergence; batches are drawn in another order. `train.precision: auto` took {took} here."
    )
    shares = described(sides, ("ours", "ours, precision auto"), "our batches' operations (each document once)")
    return Record("train", title, rows, [note, f"{shares} {at_most(sides, 'ours', ROWS[0][0])}"], sides)


def _dev(models: Sequence[str], asked: Asked) -> dict[str, float]:
    """nDCG@10 of each dev query, the mean over trainings."""
    corpus = stdlib(asked.count(DOCUMENTS))
    found = [ndcg_by_query(model, corpus, "dev", TOKENS) for model in models]
    return {query: sum(values[query] for values in found) / len(found) for query in found[0]}
