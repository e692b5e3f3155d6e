"""What is known about a built index: recall against exact search, bytes, seconds. Written beside it as card.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sdretrieval.errors import DamagedArtifact
from sdretrieval.files import read_as
from sdretrieval.indexes.settings import IndexSettings

CARD_FILE = "card.json"


@dataclass(frozen=True)
class IndexCard:
    """Facts of one build.

    Recall is measured against exact search on `recall_queries` sampled queries, each depth by a search of its own;
    these are real queries if the caller gave some, else documents of the index itself (easier: each finds itself).
    factory is the FAISS factory string of what was built, settings its other settings as resolved; device is `cpu` or
    `cuda x GPUs`; reason says why `auto` chose it.
    bytes_per_vector is the size of the saved index, which is what it takes in memory; rescore_bytes_per_vector that of
    the vectors on the disk that hits are rescored with.
    search_ms_per_query: milliseconds, the whole sample searched as one batch, 100 hits each; single_ms_per_query: one
    query after the other, 10 hits each.
    """

    factory: str
    count: int
    dims: int
    device: str
    settings: dict[str, Any] = field(default_factory=dict)
    build_seconds: float = 0.0
    bytes_per_vector: float = 0.0
    recall_at_100: float = 0.0
    recall_queries: int = 0
    recall_source: Literal["queries", "documents"] = "documents"
    search_ms_per_query: float = 0.0
    recall_at_10: float = 0.0
    single_ms_per_query: float = 0.0
    rescore_bytes_per_vector: int = 0
    reason: str = ""

    def index_settings(self) -> IndexSettings:
        """What it was built by. Raises TypeError for a setting that no index has."""
        return IndexSettings(self.factory, **self.settings)

    def write(self, folder: Path) -> None:
        """Write card.json into `folder`."""
        (folder / CARD_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf8")


def read_card(folder: Path) -> IndexCard:
    """The card in `folder`. Raises DamagedArtifact if it is missing or unreadable."""
    path = folder / CARD_FILE
    try:
        card = read_as(path, IndexCard)
        problems = [f"{path}: settings.{name}: {text}" for name, text in card.index_settings().problems()]
        if problems:
            raise DamagedArtifact(problems[0])
    except (OSError, TypeError, DamagedArtifact) as error:
        raise DamagedArtifact(f"{folder} holds no readable vector index ({error}); build the index again") from error
    return card
