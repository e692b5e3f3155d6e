"""What the benchmarks work on: this Python's standard library as a collection, the same on both sides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.types import Corpus
from sdretrieval.encode.locate import locate_model


@dataclass(frozen=True)
class Asked:
    """Models and sizes of a benchmark; `scale` 1 is what the published tables are measured at."""

    student: str = "sentence-transformers/all-MiniLM-L6-v2"
    reranker: str = "cross-encoder/ms-marco-MiniLM-L12-v2"
    max_tokens: int = 256
    scale: float = 1.0
    seed: int = 13

    def count(self, usual: int) -> int:
        """A size at this scale, 8 at least."""
        return max(8, round(usual * self.scale))

    def save(self, folder: Path) -> None:
        """Leave it for the sides' processes."""
        (folder / "asked.json").write_text(json.dumps(asdict(self)), encoding="utf8")

    @staticmethod
    def load(folder: Path) -> Asked:
        """What `save` left."""
        return Asked(**json.loads((folder / "asked.json").read_text(encoding="utf8")))


def folder_of(model: str) -> str:
    """Where a model lies: the peers would look for it elsewhere."""
    return str(locate_model(model))


@lru_cache(maxsize=1)  # a dozen seconds
def stdlib(documents: int) -> Corpus:
    """The standard library's functions and classes, and their docstrings as queries."""
    return open_corpus("python-stdlib", max_documents=documents)


def write_texts(path: Path, texts: Sequence[str]) -> None:
    """As JSON."""
    path.write_text(json.dumps(list(texts)), encoding="utf8")


def read_texts(path: Path) -> list[str]:
    """What `write_texts` wrote."""
    return list(json.loads(path.read_text(encoding="utf8")))
