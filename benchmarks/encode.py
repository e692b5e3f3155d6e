"""Texts to vectors: ours against `SentenceTransformer.encode`, and against what matrix products alone would take.

Legend: N texts, D dims.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.ceiling import SIDE, described, operations, products
from benchmarks.inputs import Asked, folder_of, read_texts, stdlib, write_texts
from benchmarks.record import Record, compared
from benchmarks.sides import Side, Work
from sdretrieval.encode.encoder import encode_texts
from sdretrieval.encode.student import load_student
from sdretrieval.encode.tokens import tokenize

ROUNDS = 5
DOCUMENTS = 600


def prepare(folder: Path, asked: Asked) -> None:
    """The texts: of all lengths, as they stand in the collection."""
    folder_of(asked.student)  # where it is missing, say so before any work
    corpus = stdlib(4 * asked.count(DOCUMENTS))
    texts = list(corpus.document_texts())
    write_texts(folder / "texts.json", texts[:: max(1, len(texts) // asked.count(DOCUMENTS))][: asked.count(DOCUMENTS)])


def peer(folder: Path) -> Work:
    """`SentenceTransformer.encode`, as its documentation shows."""
    from sentence_transformers import SentenceTransformer

    asked, texts = Asked.load(folder), read_texts(folder / "texts.json")
    model = SentenceTransformer(folder_of(asked.student), device="cpu")
    model.max_seq_length = asked.max_tokens
    model.encode(texts[:32])
    return lambda: model.encode(texts)


def ours(precision: Literal["float32", "bfloat16"], *, tokens_cached: bool) -> Callable[[Path], Work]:
    """`encode_texts`; the tokens made in the round, or before as every encoding but a corpus' first finds them."""

    def side(folder: Path) -> Work:
        asked, texts = Asked.load(folder), read_texts(folder / "texts.json")
        student = load_student(asked.student, max_tokens=asked.max_tokens, device="cpu")
        cached = tokenize(texts, student.model.tokenizer) if tokens_cached else None
        target = folder / f"vectors-{precision}-{tokens_cached}"

        def work() -> Any:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            tokens = cached if cached is not None else tokenize(texts, student.model.tokenizer)
            found = encode_texts(
                student.model, tokens, student.view, student.document_specials, target, precision=precision
            )
            return np.array(found.embeddings.vectors_WD)

        work()
        return work

    return side


def ceiling(folder: Path) -> Work:
    """Products, beside the operations that the texts need."""
    asked, texts = Asked.load(folder), read_texts(folder / "texts.json")
    student = load_student(asked.student, max_tokens=asked.max_tokens, device="cpu")
    tokens = tokenize(texts, student.model.tokenizer)
    lengths = np.minimum(tokens.lengths + student.document_specials.count, student.view.max_tokens)
    return products(operations(student.model[0].auto_model.config, lengths))


SIDES: dict[str, Callable[[Path], Work]] = {
    "SentenceTransformer.encode": peer,
    "ours": ours("float32", tokens_cached=False),
    "ours, tokens cached": ours("float32", tokens_cached=True),
    "ours, bfloat16, tokens cached": ours("bfloat16", tokens_cached=True),
    SIDE: ceiling,
}


def report(sides: Mapping[str, Side], asked: Asked) -> Record:
    """Ratios, cosines, overlap of neighbours, and the share of the machine's ceiling."""
    theirs, again = sides["SentenceTransformer.encode"], sides["ours, tokens cached"]
    rows = [
        compared("first encoding, float32", sides["ours"], theirs, 1.2, _cosine(sides["ours"], theirs)),
        compared("again, tokens cached", again, theirs, 1.2, _cosine(again, theirs)),
        compared(
            "for mining only, bfloat16, tokens cached", sides["ours, bfloat16, tokens cached"], theirs, 1.8,
            _overlap(sides["ours, bfloat16, tokens cached"], theirs),
        ),
    ]  # fmt: skip
    names = ("SentenceTransformer.encode", "ours", "ours, tokens cached")
    note = described(sides, names, "the texts' own operations") + " Target 70 %."
    return Record("encode", f"{len(theirs.result)} texts of at most {asked.max_tokens} tokens", rows, [note], sides)


def _cosine(side: Side, other: Side) -> str:
    one, two = _unit(side.result), _unit(other.result)
    return f"least cosine {float((one * two).sum(axis=1).min()):.6f}"


def _overlap(side: Side, other: Side, depth: int = 100) -> str:
    """Share of each text's nearest 100 that both find: texts stand for queries."""
    near = []
    for vectors in (_unit(side.result), _unit(other.result)):
        near.append(np.argsort(-(vectors @ vectors.T), axis=1)[:, :depth])
    shared = [len(np.intersect1d(*pair)) / len(pair[0]) for pair in zip(*near, strict=True)]
    return f"{_cosine(side, other)}, overlap@{depth} {float(np.mean(shared)):.3f}"


def _unit(vectors_ND: Any) -> Any:
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
