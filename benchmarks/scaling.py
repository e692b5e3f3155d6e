"""How cost grows: seconds of each stage over ever more documents, queries, candidates and tokens, and the exponent.

    python -m benchmarks.scaling [--documents 1000 10000 100000 1000000] [--student MODEL] [--out FILE]

Passages of at most 64 tokens are cut from what is installed (`benchmarks/passages.py`). One thing grows at a time, from
the same small start. An exponent of 1 means: twice as much takes twice as long; it is the slope of log seconds over
log size, and says little where all times are below a second.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.passages import passages
from benchmarks.record import measured_with
from sdretrieval.encode.encoder import encode_texts
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.tokens import tokenize_into
from sdretrieval.indexes import Hits, LexicalIndex, exact_search
from sdretrieval.mining.mine import mine
from sdretrieval.mining.report import duplicate_groups
from sdretrieval.run.store.memory import peak_of_work

TOKENS = 64
START = {"documents": 5_000, "queries": 500, "candidates": 50, "tokens": 32}
GROWTH = {"queries": (500, 1_000, 2_000, 4_000), "candidates": (25, 50, 100, 200), "tokens": (16, 32, 64, 128)}


@dataclass
class Measured:
    """Seconds and peak bytes of each stage at one size."""

    size: int
    seconds: dict[str, float]
    peak_bytes: dict[str, int]


def measure(student: Student, texts: Sequence[str], queries: int, candidates: int, tokens: int) -> Measured:
    """All stages from texts to mined lists; documents stand in for queries."""
    found = Measured(0, {}, {})

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
        rows = np.sort(np.random.default_rng(13).choice(len(texts), min(queries, len(texts)), replace=False))
        asked_QD, depth = np.asarray(vectors_ND[rows]), 2 * candidates
        dense = timed("search", lambda: exact_search(vectors_ND, asked_QD, depth))
        words = timed("bm25 search", lambda: lexical.search([texts[row] for row in rows], depth))
        timed("mine", lambda: _mine(rows, dense, words, vectors_ND, candidates, texts))
    finally:
        shutil.rmtree(folder)
    return found


def _mine(rows: Any, dense: Hits, words: Hits, vectors_ND: Any, candidates: int, texts: Sequence[str]) -> None:
    mine(
        rows, dense, words, [[] for _ in rows], lambda q, some: np.asarray(vectors_ND[some]) @ vectors_ND[rows[q]],
        depth=2 * candidates, keep=candidates, duplicate_group_N=duplicate_groups(texts), own_document_Q=rows, seed=13,
    )  # fmt: skip


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


def run(student_name: str, documents: Sequence[int]) -> dict[str, list[Measured]]:
    """Each thing grown by itself."""
    student = load_student(student_name, max_tokens=max(TOKENS, *GROWTH["tokens"]), device="cpu")
    texts = passages(max(*documents, START["documents"]))
    measure(student, texts[:500], 10, 10, TOKENS)  # what is only done once is done
    grown: dict[str, list[Measured]] = {"documents": []}
    for count in documents:
        found = measure(student, texts[:count], START["queries"], START["candidates"], TOKENS)
        grown["documents"].append(Measured(count, found.seconds, found.peak_bytes))
    for name, sizes in GROWTH.items():
        grown[name] = []
        for size in sizes:
            asked = {**START, name: size}
            some = texts[: START["documents"]]
            if name == "tokens":  # longer texts, not only a wider view: several passages in one
                some = [" ".join(texts[(n + k) % len(texts)] for k in range(4)) for n in range(len(some))]
            found = measure(student, some, asked["queries"], asked["candidates"], asked["tokens"])
            grown[name].append(Measured(size, found.seconds, found.peak_bytes))
    return grown


def main() -> None:
    """The command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--student", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=None, help="JSON of all figures")
    given = parser.parse_args()
    grown = run(given.student, given.documents)
    for name, runs in grown.items():
        print(table(name, runs), end="\n\n", flush=True)
    if given.out is not None:
        record = {name: [vars(one) for one in runs] for name, runs in grown.items()}
        given.out.write_text(json.dumps({"grown": record, **measured_with()}, indent=2) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
