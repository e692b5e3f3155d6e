"""The kinds of vector index and what can be set on each; `None` means "fitted to the data", see the field's text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from sdretrieval.errors import RequestError

Kind = Literal["exact", "ivf", "hnsw"]
Storage = Literal["auto", "float32", "float16"]
TARGET_RECALL = 0.97
"""`probes` and `ef_search` left open take the smallest power of two whose recall@100 on the sample reaches this.
It is asked of the top 100 because mining draws its candidates from there."""


@dataclass(frozen=True)
class ExactSettings:
    """Every document is compared with every query: no setting."""

    def checked(self) -> ExactSettings:
        """Itself: nothing can be out of range."""
        return self


@dataclass(frozen=True)
class IvfSettings:
    """Inverted lists around k-means centroids: a query looks into the nearest lists only.

    lists: number of centroids; None = 4 sqrt(N), but at least 39 vectors a list, which faiss asks for training.
    probes: lists that a query looks into; None = fitted to the target recall.
    storage: float16 halves memory; auto = float16 where the vectors are float16 (lossless) or the index is on a GPU.
    """

    lists: int | None = None
    probes: int | None = None
    storage: Storage = "auto"

    def checked(self) -> IvfSettings:
        """Itself. Raises RequestError where a value is out of range."""
        _at_least_one(self)
        if self.storage not in get_args(Storage):
            raise RequestError(f"ivf storage {self.storage!r} is unknown; one of {', '.join(get_args(Storage))}")
        return self


@dataclass(frozen=True)
class HnswSettings:
    """A graph of near neighbours (Malkov and Yashunin, 2016), on the CPU only.

    links: neighbours kept per vector and layer. ef_construction: breadth of the search while building.
    ef_search: breadth while searching (never below k); None = fitted to the target recall.
    Built by several threads the graph differs a little from run to run: `threads=1` makes it repeatable.
    """

    links: int = 32
    ef_construction: int = 100
    ef_search: int | None = None

    def checked(self) -> HnswSettings:
        """Itself. Raises RequestError where a value is out of range."""
        _at_least_one(self)
        if self.links < 2:
            raise RequestError(f"hnsw links is {self.links}; expected at least 2, usual are 16 to 64")
        return self


Settings = ExactSettings | IvfSettings | HnswSettings
_KINDS: dict[str, type[Settings]] = {"exact": ExactSettings, "ivf": IvfSettings, "hnsw": HnswSettings}


def settings_of(kind: str) -> tuple[str, ...]:
    """Names of what can be set on an index of `kind`. Raises KeyError where there is no such kind."""
    return tuple(field.name for field in fields(_KINDS[kind]))


def index_settings(kind: str, given: Mapping[str, Any]) -> Settings:
    """Settings of `kind` from keywords. Raises RequestError for an unknown kind or key, or a value out of range."""
    if kind not in _KINDS:
        raise RequestError(f"index kind {kind!r} is unknown; expected one of {', '.join(_KINDS)}{_meant(kind, _KINDS)}")
    known = {field.name: None for field in fields(_KINDS[kind])}
    for key in given:
        if key not in known:
            listed = ", ".join(known) or "none"
            raise RequestError(f"{kind} index has no setting {key!r}; it has: {listed}{_meant(key, known)}")
    return _KINDS[kind](**given).checked()


def as_record(settings: Settings) -> dict[str, Any]:
    """The settings as a JSON object, for the card."""
    return asdict(settings)


def _meant(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _at_least_one(settings: Settings) -> None:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "storage" or (value is None and field.default is None):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RequestError(f"index setting {field.name} is {value!r}; expected a whole number of at least 1")
