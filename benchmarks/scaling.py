"""How cost grows: seconds of each stage over ever more documents, queries, candidates and tokens, and the exponent.

    python -m benchmarks.scaling [--documents 1000 10000 100000 1000000] [--student MODEL] [--out DIR]

Passages of at most 64 tokens are cut from what is installed (`benchmarks/passages.py`). One thing grows at a time, from
the same small start. An exponent of 1 means: twice as much takes twice as long; it is the slope of log seconds over
log size, and says little where all times are below a second. A cross-encoder scores the lists of every 100th query and
every 10th is trained on: all of them would be hours of one thing whose cost is plain.
"""

from __future__ import annotations

import argparse
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.inputs import Asked
from benchmarks.passages import passages
from benchmarks.record import Record, update_readme
from sdretrieval.encode.encoder import encode_texts
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.tokens import tokenize_into
from sdretrieval.encode.views import View
from sdretrieval.errors import SdretrievalError
from sdretrieval.indexes import Hits, LexicalIndex, exact_search
from sdretrieval.mining.candidates import Candidates
from sdretrieval.mining.mine import duplicate_groups, mine
from sdretrieval.ragged import Ragged
from sdretrieval.store.memory import peak_of_work
from sdretrieval.targets.build import build_targets
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher, load_cross_encoder
from sdretrieval.teachers.pairs import PairCache
from sdretrieval.training.batches import Collator
from sdretrieval.training.batches import Side as TextSide
from sdretrieval.training.distillation import ListwiseDistillation
from sdretrieval.training.train import TrainSettings, train

logger = logging.getLogger("sdretrieval")

HOME = Path(__file__).parent
TOKENS = 64
START = {"documents": 5_000, "queries": 500, "candidates": 50, "tokens": 32}
GROWTH = {"queries": (500, 1_000, 2_000, 4_000), "candidates": (25, 50, 100, 200), "tokens": (16, 32, 64, 128)}
SCORED, TRAINED = 100, 10
"""Of so many queries one is scored by the cross-encoder, one trained on."""
SEED = 13


@dataclass
class Measured:
    """Seconds and peak bytes of each stage at one size."""

    size: int
    seconds: dict[str, float]
    peak_bytes: dict[str, int]


class Models(NamedTuple):
    """What each size is measured with; both are as they were before after it."""

    student: str
    reranker: str


def measure(models: Models, texts: Sequence[str], queries: int, candidates: int, tokens: int) -> Measured:
    """All stages from texts to a trained student; documents stand in for queries."""
    found = Measured(0, {}, {})
    student = load_student(models.student, max_tokens=tokens, device="cpu")

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        with peak_of_work() as peak:
            start = time.perf_counter()
            result = work()
            found.seconds[stage] = time.perf_counter() - start
        found.peak_bytes[stage] = peak.rss_bytes
        return result

    folder = Path(tempfile.mkdtemp(prefix="sdretrieval-scaling-"))
    try:
        ids, _ = timed("tokenize", lambda: tokenize_into(folder, texts, student.model.tokenizer))
        view = type(student.view)(tokens)
        encoded = timed("encode", lambda: encode_texts(student.model, ids, view, student.document_specials, folder))
        vectors_ND = encoded.embeddings.vectors_WD
        lexical = timed("bm25", lambda: LexicalIndex.build(texts))
        rows = np.sort(np.random.default_rng(SEED).choice(len(texts), min(queries, len(texts)), replace=False))
        asked_QD, depth = np.asarray(vectors_ND[rows]), 2 * candidates
        dense = timed("search", lambda: exact_search(vectors_ND, asked_QD, depth))
        words = timed("bm25 search", lambda: lexical.search([texts[row] for row in rows], depth))
        lists = timed("mine", lambda: _mine(rows, dense, words, vectors_ND, candidates, texts))
        score = _scoring(models.reranker, lists.take(np.arange(0, len(lists), SCORED)), texts, tokens, folder)
        timed(f"score, 1 query of {SCORED}", score)
        learn = _training(student, lists.take(np.arange(0, len(lists), TRAINED)), ids, view, folder)
        timed(f"train, 1 query of {TRAINED}", learn)
    finally:
        shutil.rmtree(folder)
    return found


def _mine(rows: Any, dense: Hits, words: Hits, vectors_ND: Any, candidates: int, texts: Sequence[str]) -> Candidates:
    return mine(
        rows, dense, words, [[] for _ in rows], lambda q, some: np.asarray(vectors_ND[some]) @ vectors_ND[rows[q]],
        depth=2 * candidates, keep=candidates, duplicate_group_N=duplicate_groups(texts), own_document_Q=rows,
        seed=SEED,
    )[0]  # fmt: skip


def _scoring(reranker: str, lists: Candidates, texts: Sequence[str], tokens: int, folder: Path) -> Callable[[], Ragged]:
    """A cross-encoder over whole lists, ready to begin; a pair is a query and a document, each of `tokens`."""
    model, _ = load_cross_encoder(reranker, max_tokens=2 * tokens, device="cpu")
    teacher = CrossEncoderTeacher(
        model, name="reranker", query_text=texts.__getitem__, document_text=texts.__getitem__,
        cache=PairCache(folder / "pairs"), max_tokens=2 * tokens,
    )  # fmt: skip
    return lambda: teacher.score(lists.query_rows_Q, lists.rows)


def _training(student: Student, lists: Candidates, ids: Ragged, view: View, folder: Path) -> Callable[[], Any]:
    """An epoch over whole lists with the student's own scores as targets, ready to begin."""
    targets, _ = build_targets(lists.scores, lists.positive, temperature=0.05)
    sides = [TextSide(ids, view, specials) for specials in (student.query_specials, student.document_specials)]
    batches = Collator(student.model, *sides, lists, targets, int(lists.rows.lengths.max()), SEED)
    loss = ListwiseDistillation(student.model, student_temperature=0.05)
    return lambda: train(student.model, batches, loss, TrainSettings(seed=SEED), folder / "train")


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of log seconds over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(seconds, 1e-6)), 1)[0])


def table(what: str, runs: Sequence[Measured]) -> str:
    """Seconds by stage and size, and exponents."""
    sizes = [run.size for run in runs]
    lines = [
        f"| {what} | {' | '.join(f'{size:,}' for size in sizes)} | exponent | most memory |",
        "|---" * (len(sizes) + 3) + "|",
    ]
    for stage in runs[0].seconds:
        seconds = [run.seconds[stage] for run in runs]
        slope = exponent(sizes, seconds) if len(runs) > 1 else math.nan
        peak = max(run.peak_bytes[stage] for run in runs) / 1e9
        lines.append(f"| {stage} | {' | '.join(f'{s:.2f} s' for s in seconds)} | {slope:.2f} | {peak:.2f} GB |")
    return "\n".join(lines)


def grow(models: Models, documents: Sequence[int]) -> Iterator[tuple[str, list[Measured]]]:
    """Each thing grown by itself, given out when it is done."""
    texts = passages(max(*documents, START["documents"]))
    measure(models, texts[:500], 10, 10, TOKENS)  # what is only done once is done
    given = ((count, texts[:count], {**START, "tokens": TOKENS}) for count in documents)
    yield "documents", [_sized(models, *one) for one in given]
    some = texts[: START["documents"]]
    longer = [" ".join(texts[(n + k) % len(texts)] for k in range(4)) for n in range(len(some))]
    for name, sizes in GROWTH.items():  # tokens: longer texts, not only a wider view
        used = longer if name == "tokens" else some
        yield name, [_sized(models, size, used, {**START, name: size}) for size in sizes]


def _sized(models: Models, size: int, texts: Sequence[str], asked: Mapping[str, int]) -> Measured:
    logger.info("scaling: %s", {**asked, "documents": len(texts)})
    return replace(measure(models, texts, asked["queries"], asked["candidates"], asked["tokens"]), size=size)


def record(grown: Mapping[str, Sequence[Measured]], models: Models) -> Record:
    """Tables of what was grown so far."""
    start = ", ".join(f"{START[name]:,} {name}" for name in START)
    title = (
        f"**scaling**: seconds as one thing grows from {start} ({TOKENS} tokens where documents grow); "
        f"{models.student} and {models.reranker}"
    )
    tables = [title, *(table(name, runs) for name, runs in grown.items())]
    details = {name: [vars(one) for one in runs] for name, runs in grown.items()}
    return Record("scaling", "", [], details=details, text="\n\n".join(tables))


def main() -> None:
    """The command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--student", default=Asked.student)
    parser.add_argument("--reranker", default=Asked.reranker)
    parser.add_argument("--out", type=Path, default=None, help="where scaling.json goes instead of benchmarks/results")
    given = parser.parse_args()
    models, grown = Models(given.student, given.reranker), {}
    try:
        for name, runs in grow(models, given.documents):
            grown[name] = runs
            print(table(name, runs), end="\n\n", flush=True)
            record(grown, models).write(given.out or HOME / "results")  # as it goes: a million takes an hour
    except SdretrievalError as error:
        raise SystemExit(f"scaling: {error}") from error
    if given.out is None:
        update_readme(HOME / "README.md", HOME / "results")


if __name__ == "__main__":
    main()
