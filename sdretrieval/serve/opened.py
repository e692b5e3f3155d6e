"""What is served, and how another takes its place while requests run.

Whatever was opened does not change: index, encoder and texts of one version are one object, and a request is answered
by one object from its vector to its last passage, so that those of two versions never meet.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdretrieval.digests import digest_file
from sdretrieval.errors import SdretrievalError
from sdretrieval.export.layout import MANIFEST, Manifest, read_manifest
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.text_search import TextSearch
from sdretrieval.formatting import quantity

logger = logging.getLogger("sdretrieval")

LEAST_COSINE, LEAST_SHARED = 0.98, 0.9
"""How near 8-bit weights must have come to the certified vectors at export to be served unasked: the lowest cosine of
the sample texts, and the share of their top hits in common."""
LOOK_EVERY = 2.0
"""Seconds between two looks at a bundle's manifest."""


@dataclass(frozen=True)
class Opened:
    """One version of what is served. `base`: what the page shows beside it, if anything."""

    name: str
    version: str
    search: TextSearch
    format: str
    why_format: str
    dims: int
    documents: int
    max_tokens: int
    unit_length: bool
    base: TextSearch | None = None
    lineage: Mapping[str, Any] | None = None


def choose_format(manifest: Manifest) -> tuple[str, str]:
    """The format to serve unasked, and why: the fastest that gives the certified vectors."""
    near = manifest.agreement.get("onnx-int8")
    if "onnx-int8" in manifest.formats and near is not None:
        found = f"lowest cosine {near.cosine:.3f}, {near.shared:.0%} of the top hits"
        if near.cosine >= LEAST_COSINE and near.shared >= LEAST_SHARED:
            return "onnx-int8", f"near enough to what was measured ({found})"
        why = f"onnx-int8 is too far from what was measured ({found}; expected {LEAST_COSINE} and {LEAST_SHARED:.0%})"
    else:
        why = "the bundle holds no onnx-int8"
    return ("onnx" if "onnx" in manifest.formats else "torch"), why


def open_bundle(folder: Path, format: str | None = None, against: Path | None = None, device: str = "cpu") -> Opened:
    """The bundle `folder`, every file that is read compared with its digest. `format`: None chooses (`choose_format`).

    `against`: the bundle of another student over the same documents. Raises what `Searcher.open` raises.
    """
    manifest = read_manifest(folder)
    chosen, why = (format, "asked for") if format else choose_format(manifest)
    searcher = Searcher.open(folder, format=chosen, device=device)
    base = None
    if against is not None:
        other = read_manifest(against)
        base = Searcher.open(against, format=format or choose_format(other)[0], device=device)
    manifest = searcher.manifest
    return Opened(
        manifest.name, digest_file(folder / MANIFEST), searcher, chosen, why, manifest.dims, manifest.documents,
        manifest.max_tokens, _unit_length(folder), base, manifest.lineage,
    )  # fmt: skip


def _unit_length(folder: Path) -> bool:
    from sdretrieval.encode.model_files import modules_of

    modules = modules_of(folder)
    return bool(modules) and modules[-1]["type"].rpartition(".")[2] == "Normalize"


class Current:
    """The version that is served now, and a thread that opens the next one beside it when its files change."""

    def __init__(self, open_it: Callable[[], Opened], watched: Path | None = None) -> None:
        """Opens the first. `watched`: the bundle's folder; None: what is served never changes. Raises as `open_it`."""
        self._open, self._watched = open_it, watched
        self._seen = self._stamp()
        self.now = open_it()
        self.swaps = 0
        self._stop, self._wanted = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="look for a new bundle", daemon=True)
        if watched is not None:
            self._thread.start()

    def look_now(self) -> None:
        """Look at once, without waiting for the next look: SIGHUP."""
        self._wanted.set()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._wanted.set()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._wanted.wait(LOOK_EVERY)
            self._wanted.clear()
            stamp = self._stamp()
            if self._stop.is_set() or stamp is None or stamp == self._seen:
                continue
            try:
                opened = self._open()
            except (SdretrievalError, OSError) as problem:
                self._seen = stamp  # said once; the next change is looked at again
                logger.warning("the new bundle is not served, the one before goes on: %s", problem)
                continue
            if self._stamp() != stamp:  # an export went on meanwhile: the next look opens what it left
                continue
            self._seen, self.now, self.swaps = stamp, opened, self.swaps + 1
            logger.info(
                "%s: version %s is served now, %s, %s", opened.name, opened.version[:12], opened.format,
                quantity(opened.documents, "documents"),
            )  # fmt: skip

    def _stamp(self) -> tuple[int, int, int] | None:
        if self._watched is None:
            return None
        try:
            found = (self._watched / MANIFEST).stat()
        except OSError:  # between the old bundle and the new one
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
