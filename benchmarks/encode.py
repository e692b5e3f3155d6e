"""Texts to vectors: ours against `SentenceTransformer.encode`, and against what matrix products alone would take.

Legend: N texts, D dims.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.inputs import Asked, folder_of, read_texts, stdlib, write_texts
from benchmarks.record import Record, compared
from benchmarks.sides import Side, Work
from sdretrieval.encode.encoder import encode_texts
from sdretrieval.encode.student import load_student
from sdretrieval.encode.tokens import tokenize

ROUNDS = 5
DOCUMENTS = 600
PRODUCT = 1024
PRODUCTS = 60
"""Of square matrices of that side: what the machine multiplies in a second, beside which encoding is put."""


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


def products(folder: Path) -> Work:
    """float32 matrix products alone; gives the operations of a round, and those that the texts need."""
    import torch

    asked, texts = Asked.load(folder), read_texts(folder / "texts.json")
    student = load_student(asked.student, max_tokens=asked.max_tokens, device="cpu")
    needed = operations(student.model[0].auto_model.config, _lengths(student, texts))
    one, other = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)

    def work() -> tuple[float, float]:
        for _ in range(PRODUCTS):
            one @ other
        return 2.0 * PRODUCTS * PRODUCT**3, needed

    return work


def _lengths(student: Any, texts: list[str]) -> Any:
    tokens = tokenize(texts, student.model.tokenizer)
    return np.minimum(tokens.lengths + student.document_specials.count, student.view.max_tokens)


def operations(config: Any, lengths_N: Any) -> float:
    """Floating-point operations of a BERT encoder over sequences without padding: four D x D products and two D x F
    a token and layer, and the two products of attention, which grow with the square of the length."""
    size, wide, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    lengths = np.asarray(lengths_N, dtype=np.float64)
    return float(layers * (lengths.sum() * 2 * (4 * size**2 + 2 * size * wide) + 4 * size * (lengths**2).sum()))


SIDES: dict[str, Callable[[Path], Work]] = {
    "SentenceTransformer.encode": peer,
    "ours": ours("float32", tokens_cached=False),
    "ours, tokens cached": ours("float32", tokens_cached=True),
    "ours, bfloat16, tokens cached": ours("bfloat16", tokens_cached=True),
    "products": products,
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
    count = len(theirs.result)
    return Record("encode", f"{count} texts of at most {asked.max_tokens} tokens", rows, [_ceiling(sides)], sides)


def _ceiling(sides: Mapping[str, Side]) -> str:
    done, needed = sides["products"].result
    parts = []
    for name in ("SentenceTransformer.encode", "ours", "ours, tokens cached"):
        pairs = zip(sides["products"].seconds, sides[name].seconds, strict=True)
        shares = [needed / (done / product) / taken for product, taken in pairs]
        parts.append(f"{name} {100 * float(np.median(shares)):.0f} %")
    speed = float(np.median([done / seconds for seconds in sides["products"].seconds])) / 1e9
    return (
        f"Share of the machine's ceiling ({speed:.0f} GFLOP/s, float32 products of {PRODUCT} x {PRODUCT} in the same "
        f"rounds) that the texts' own operations reach: {', '.join(parts)}. Target 70 %."
    )


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
