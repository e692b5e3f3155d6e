"""Does a bundle still do what it did at export? Digests, canary vectors and top hits, in every format it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from sdretrieval.errors import DamagedArtifact, MissingPackageError
from sdretrieval.export.canaries import TOP, Canaries, agreement, read_canaries
from sdretrieval.export.encoders import open_encoder
from sdretrieval.export.layout import CANARIES, IDS, INDEX, Agreement, Manifest, digests, read_ids, read_manifest
from sdretrieval.indexes.vector import VectorIndex

SAME = Agreement(cosine=0.9999, shared=1.0)
"""What float32 formats must reach, on any machine."""
INT8_SLACK = Agreement(cosine=0.01, shared=0.1)
"""8-bit arithmetic differs between CPUs: how far below what was measured at export it may lie."""
NAMED = 5

Found = TypeVar("Found")


@dataclass(frozen=True)
class Check:
    """One thing that was checked, and what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Verification:
    """All checks of one bundle, in the order in which they were made."""

    folder: str
    checks: list[Check]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"folder": self.folder, "ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def verify_bundle(folder: Path, device: str = "cpu") -> Verification:
    """Check `folder`; what fails is a check that is not ok, never an exception.

    Raises RequestError only where `folder` is no bundle, DamagedArtifact where its bundle.json cannot be read.
    """
    manifest = read_manifest(folder)
    checks = [_files(folder, manifest)]
    opened, check = _attempt("index", lambda: _open(folder, manifest))
    checks.append(
        check or Check("index", True, f"{manifest.documents} documents of {manifest.dims} dims, each with its id")
    )
    canaries, check = _attempt("canaries", lambda: read_canaries(folder, manifest.canaries))
    if check:
        checks.append(check)
    if opened and canaries:
        for format in manifest.formats:
            checks += _format(folder, manifest, format, canaries, *opened, device)
    return Verification(str(folder), checks)


def _files(folder: Path, manifest: Manifest) -> Check:
    found = digests(folder)
    missing = [name for name in manifest.files if name not in found]
    changed = [name for name, digest in manifest.files.items() if found.get(name, digest) != digest]
    added = [name for name in found if name not in manifest.files]
    faults = [
        f"{what}: {', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}"
        for what, names in (("missing", missing), ("changed since the export", changed), ("not of the export", added))
        if names
    ]
    return Check("files", not faults, "; ".join(faults) or f"{len(found)} files, digests as exported")


def _open(folder: Path, manifest: Manifest) -> tuple[VectorIndex, list[str]]:
    index, ids = VectorIndex.load(folder / INDEX, "cpu"), read_ids(folder)
    if not index.card.count == len(ids) == manifest.documents or index.card.dims != manifest.dims:
        raise DamagedArtifact(
            f"{INDEX}/ holds {index.card.count} vectors of {index.card.dims} dims and {IDS} {len(ids)} ids, expected "
            f"{manifest.documents} of {manifest.dims}; export the run again"
        )
    return index, ids


def _format(
    folder: Path, manifest: Manifest, format: str, canaries: Canaries, index: VectorIndex, ids: list[str], device: str
) -> list[Check]:
    least = _least(manifest, format)

    def measure() -> Agreement:
        encoder = open_encoder(folder, manifest, format, device)
        return agreement(canaries, encoder, index, ids, exact=format != "onnx-int8")

    near, check = _attempt(format, measure)
    if near is None:
        assert check is not None
        return [check]
    texts, hits = len(canaries.queries) + len(canaries.documents), len(canaries.queries)
    return [
        Check(
            f"{format}: vectors",
            near.cosine >= least.cosine,
            f"lowest cosine {near.cosine:.6f} with {CANARIES} over {texts} texts (at least {least.cosine:.4f})",
        ),
        Check(
            f"{format}: top {TOP}",
            near.shared >= least.shared,
            f"{near.shared:.1%} of the hits of {hits} queries as exported (at least {least.shared:.0%})",
        ),
    ]


def _least(manifest: Manifest, format: str) -> Agreement:
    measured = manifest.agreement.get(format)
    if format != "onnx-int8" or measured is None:
        return SAME
    return Agreement(
        round(measured.cosine - INT8_SLACK.cosine, 6), round(max(measured.shared - INT8_SLACK.shared, 0.0), 4)
    )


def _attempt(name: str, work: Callable[[], Found]) -> tuple[Found | None, Check | None]:
    """What `work` gives, or a failed check: a damaged file can make a library raise anything."""
    try:
        return work(), None
    except MissingPackageError:  # says nothing of the bundle
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or "no reason given"
        return None, Check(name, False, f"{type(error).__name__}: {reason}")
