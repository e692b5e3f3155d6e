"""A cross-encoder's logits of pairs of mixed length: ours against `CrossEncoder.predict`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ceiling import SIDE, at_most, described, operations, products
from benchmarks.inputs import Asked, folder_of, read_texts, stdlib, write_texts
from benchmarks.record import Record, compared
from benchmarks.sides import Side, Work
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher, load_cross_encoder
from sdretrieval.teachers.pairs import PairCache

ROUNDS = 5
PAIRS = 240
TARGET, CLOSE = 1.3, 1e-4


def prepare(folder: Path, asked: Asked) -> None:
    """Each query with eight documents drawn at random: lengths are mixed as in mined lists."""
    folder_of(asked.reranker)  # where it is missing, say so before any work
    corpus = stdlib(max(200, asked.count(1000)))
    chance = np.random.default_rng(asked.seed)
    rows = corpus.split_rows("dev")[: asked.count(PAIRS) // 8]
    documents = list(corpus.document_texts())
    queries = corpus.query_texts(rows)
    pairs = [(query, documents[row]) for query in queries for row in chance.integers(len(documents), size=8)]
    write_texts(folder / "queries.json", [query for query, _ in pairs])
    write_texts(folder / "documents.json", [document for _, document in pairs])


def _pairs(folder: Path) -> list[tuple[str, str]]:
    return list(zip(read_texts(folder / "queries.json"), read_texts(folder / "documents.json"), strict=True))


def peer(folder: Path) -> Work:
    """`CrossEncoder.predict`, asked for raw logits as both sides must give."""
    import torch
    from sentence_transformers import CrossEncoder

    asked, pairs = Asked.load(folder), _pairs(folder)
    model = CrossEncoder(
        folder_of(asked.reranker), device="cpu", activation_fn=torch.nn.Identity(), max_length=asked.max_tokens
    )
    model.predict(pairs[:8])
    return lambda: model.predict(pairs)


def ours(folder: Path) -> Work:
    """A teacher that has scored nothing yet."""
    asked, pairs = Asked.load(folder), _pairs(folder)
    model, _ = load_cross_encoder(asked.reranker, max_tokens=asked.max_tokens, device="cpu")

    def work(pairs: list[tuple[str, str]] = pairs) -> Any:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        teacher = CrossEncoderTeacher(
            model, name="reranker", query_text=str, document_text=str, cache=PairCache(folder / "cache"),
            max_tokens=asked.max_tokens,
        )  # fmt: skip
        return teacher.score_texts(pairs)

    work(pairs[:8])
    return work


def ceiling(folder: Path) -> Work:
    """Products, beside the operations that the pairs need."""
    asked = Asked.load(folder)
    model, _ = load_cross_encoder(asked.reranker, max_tokens=asked.max_tokens, device="cpu")
    network = model.model
    assert network is not None
    tokens = model.tokenizer(
        *map(list, zip(*_pairs(folder), strict=True)), truncation=True, max_length=asked.max_tokens
    )
    return products(operations(network.config, [len(ids) for ids in tokens["input_ids"]]))


SIDES: dict[str, Callable[[Path], Work]] = {"CrossEncoder.predict": peer, "ours": ours, SIDE: ceiling}


def report(sides: Mapping[str, Side], asked: Asked) -> Record:
    """The ratio and the largest difference of logits."""
    theirs, own = sides["CrossEncoder.predict"], sides["ours"]
    apart = float(np.abs(np.asarray(theirs.result).reshape(-1) - own.result).max())
    agreement = f"logits within {apart:.1e} (at most {CLOSE:g})"
    rows = [compared("pairs of mixed length, float32", own, theirs, TARGET, agreement)]
    shares = described(sides, ("CrossEncoder.predict", "ours"), "the pairs' own operations")
    note = f"{shares} {at_most(sides, 'ours', 'CrossEncoder.predict')}"
    return Record("score", f"{len(own.result)} pairs of at most {asked.max_tokens} tokens", rows, [note], sides)
