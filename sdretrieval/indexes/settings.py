"""The table of index kinds, and the way from keywords to the settings of one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sdretrieval.errors import RequestError
from sdretrieval.indexes.kinds.auto import AutoSettings
from sdretrieval.indexes.kinds.base import Settings
from sdretrieval.indexes.kinds.factory import FactorySettings
from sdretrieval.indexes.kinds.flat import BinarySettings, ExactSettings, OpqSettings, PqSettings, Sq8Settings
from sdretrieval.indexes.kinds.graph import HnswSettings
from sdretrieval.indexes.kinds.lists import IvfPqSettings, IvfSettings

TARGET_RECALL = 0.97
"""`probes` and `ef_search` left open take the smallest power of two whose recall@100 on the sample reaches this share
of what the kind can reach. It is asked of the top 100 because mining draws its candidates from there."""

KINDS: dict[str, type[Settings]] = {
    settings.kind: settings
    for settings in (
        ExactSettings, IvfSettings, HnswSettings, Sq8Settings, PqSettings, OpqSettings, IvfPqSettings, BinarySettings,
        FactorySettings, AutoSettings,
    )
}  # fmt: skip


def settings_of(kind: str) -> tuple[str, ...]:
    """Names of what can be set on an index of `kind`, its own first. Raises KeyError where there is no such kind."""
    return KINDS[kind].names()


def kinds_with(name: str) -> tuple[str, ...]:
    """Kinds on which `name` can be set."""
    return tuple(kind for kind in KINDS if name in settings_of(kind))


def index_settings(kind: str, given: Mapping[str, Any]) -> Settings:
    """Settings of `kind` from keywords. Raises RequestError for an unknown kind or key, or a value out of range."""
    if kind not in KINDS:
        raise RequestError(f"index kind {kind!r} is unknown; expected one of {', '.join(KINDS)}{_meant(kind, KINDS)}")
    known = dict.fromkeys(settings_of(kind))
    for key in given:
        if key not in known:
            listed = ", ".join(known) or "none"
            raise RequestError(f"{kind} index has no setting {key!r}; it has: {listed}{_meant(key, known)}")
    return KINDS[kind](**given).checked()


def as_record(settings: Settings) -> dict[str, Any]:
    """The settings as a JSON object, for the card: those that say something."""
    record = {name: value for name, value in asdict(settings).items() if value is not None}
    if settings.rescoring is None:
        record.pop("rescore_storage", None)
    return record


def _meant(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
