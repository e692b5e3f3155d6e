"""What training holds in memory, and how long an update takes: whole batches, pieces, and other ways to hold less.

    python -m benchmarks.held CORPUS MODEL --batches 16,64,256 --ways whole,pieces,layers [--precision bfloat16]

Each row trains for an update in a process of its own, with the loss, the batches and the trainer of a run, over
random lists (memory and time do not depend on what is relevant): `CANDIDATES` documents a query, `TOKENS` tokens of
each. `pieces` is `train.batch_tokens: 2048`, `small` 512; `layers` keeps the inputs of the transformer's layers and
computes each layer again on the way back (transformers' gradient checkpointing); `lora` lets matrices of rank 16
beside the linear layers learn (peft). Ways join with `+`. Printed: the most resident memory of the training beside
what the process held before it, and the update's CPU seconds.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdretrieval.corpus.sources import open_corpus
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.student import load_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Ragged
from sdretrieval.store.memory import peak_of_work, resident_bytes
from sdretrieval.targets.build import build_targets
from sdretrieval.training.batches import Collator, Side
from sdretrieval.training.distillation import ListwiseDistillation
from sdretrieval.training.train import TrainSettings, train

CANDIDATES, TOKENS, RANK, MOST = 4, 64, 16, 2000
PIECES = {"pieces": 2048, "small": 512}


def batches_of(corpus: str, model: str) -> Collator:
    """Random lists of a collection's own texts."""
    texts = open_corpus(corpus)
    student = load_student(model, max_tokens=TOKENS, device="cpu")
    documents = texts.document_texts(range(min(MOST, len(texts.documents))))
    queries = texts.query_texts(range(min(MOST, len(texts.queries))))
    asked, shown = (tokenize(some, student.tokenizer) for some in (queries, documents))
    chance = np.random.default_rng(13)
    rows = Ragged.of([chance.permutation(len(documents))[:CANDIDATES] for _ in queries], np.int64)
    scores = rows.with_values(chance.normal(size=len(rows.values_T)).astype(np.float32))
    positive = rows.with_values(np.zeros(len(rows.values_T), dtype=bool))
    ranks = rows.with_values(np.zeros(len(rows.values_T), dtype=np.int32))
    candidates = Candidates(np.arange(len(queries)), rows, scores=scores, positive=positive, dense_rank=ranks)
    targets, _ = build_targets(scores, positive, temperature=1.0)
    return Collator(
        student.model, Side(asked, student.query_view, student.query_specials),
        Side(shown, student.view, student.document_specials), candidates, targets, CANDIDATES, 13,
    )  # fmt: skip


def one(corpus: str, model: str, batch: int, way: str, precision: Precision) -> None:
    """Print a row."""
    torch.set_num_threads(1)
    batches, ways = batches_of(corpus, model), way.split("+")
    encoder: Any = batches.model[0].auto_model
    if "layers" in ways:
        encoder.gradient_checkpointing_enable({"use_reentrant": False})
    if "lora" in ways:
        from peft import LoraConfig, inject_adapter_in_model

        inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"), encoder)
    tokens = next((PIECES[way] for way in ways if way in PIECES), None)
    loss = ListwiseDistillation(batches.model, student_temperature=0.05, batch_tokens=tokens)
    spent: list[float] = []

    def seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    forward = loss.forward

    def timed(*given: Any) -> Any:
        spent.append(seconds())
        return forward(*given)

    loss.forward = timed  # type: ignore[method-assign]
    settings = TrainSettings(
        epochs=batch / len(batches), queries_per_batch=batch, precision=precision,
        freeze=() if "lora" in ways else ("word_embeddings",),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        before = resident_bytes()
        with peak_of_work() as peak:
            train(batches.model, batches, loss, settings, Path(folder))
            update = seconds() - spent[-1]
        held = (peak.rss_bytes - before) / 1e9
    print(f"| {Path(model).name} | {batch} | {way} | {held:.2f} GB | {update:.0f} |", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Start a process a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("model")
    parser.add_argument("--batches", default="16,64,256")
    parser.add_argument("--ways", default="whole,pieces,layers")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--here", action="store_true", help="one row, in this process")
    asked = parser.parse_args(arguments)
    model = str(locate_model(asked.model))
    if asked.here:
        one(asked.corpus, model, int(asked.batches), asked.ways, asked.precision)
        return
    for batch in asked.batches.split(","):
        for way in asked.ways.split(","):
            began = time.monotonic()
            row = [asked.corpus, model, "--batches", batch, "--ways", way, "--precision", asked.precision, "--here"]
            subprocess.run([sys.executable, "-m", "benchmarks.held", *row], check=False)
            print(f"  {time.monotonic() - began:.0f} s in all", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
