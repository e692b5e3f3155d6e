"""Does a bundle still do what it did at export? Digests, canary vectors and top hits, in every format it holds.

Canaries are a few texts with the vectors and hits they had at export: other vectors or hits mean another bundle.

Legend: C canaries of one side, D dims, k hits a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sdretrieval.chat.client import Trouble
from sdretrieval.chat.embed import EmbedClient
from sdretrieval.errors import DamagedArtifact, MissingPackageError, RequestError, WorkError
from sdretrieval.export.encoders import TextEncoder, open_encoder
from sdretrieval.export.layout import (
    CANARIES,
    IDS,
    INDEX,
    Agreement,
    CanaryTexts,
    Manifest,
    differences,
    open_index,
    open_lexical,
    open_probabilities,
    read_manifest,
)
from sdretrieval.indexes.hits import PADDING_ROW
from sdretrieval.indexes.probability import Probabilities
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array

SAME = Agreement(cosine=0.9999, shared=1.0)
"""What float32 formats must reach, on any machine."""
SERVED = Agreement(cosine=0.999, shared=0.9)
"""What another server must reach: some compute in 16 bits. A wrong pooling, prompt or length is far below."""
INT8_SLACK = Agreement(cosine=0.01, shared=0.1)
"""8-bit arithmetic differs between CPUs: how far below what was measured at export it may be."""

Result = TypeVar("Result")


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

    Raises RequestError only if `folder` is no bundle, DamagedArtifact if its bundle.json is not as it was written.
    """
    manifest = read_manifest(folder)
    count, faults = differences(folder, manifest)
    checks = [Check("files", not faults, faults or f"{count} files, digests as exported")]
    opened, check = _attempt("index", lambda: open_index(folder, manifest, "cpu"))
    checks.append(
        check or Check("index", True, f"{manifest.documents} documents of {manifest.dims} dims, each with its id")
    )
    canaries, check = _attempt("canaries", lambda: read_canaries(folder, manifest.canaries))
    if check:
        checks.append(check)
    if opened and canaries:
        for format in manifest.formats:
            checks += _format(folder, manifest, format, canaries, *opened, device)
        if canaries.texts.top_probabilities:
            checks.append(_probabilities(folder, canaries, opened[0]))
    return Verification(str(folder), checks)


def verify_server(folder: Path, client: EmbedClient, format: str = "torch") -> Verification:
    """Does a server give the vectors that were measured, and find what was found? The canary texts of the bundle
    `folder` are sent to it, as queries and as documents; `format`: what it runs, which says how near it must come.

    Raises RequestError if `folder` is no bundle or lacks the format, DamagedArtifact if what it takes to ask was
    changed, WorkError if the server cannot be used.
    """
    manifest = read_manifest(folder)
    if format not in manifest.formats:
        raise RequestError(f"bundle {folder} holds no format {format!r}, it holds {', '.join(manifest.formats)}")
    _, faults = differences(folder, manifest, {INDEX, IDS, CANARIES})
    if faults:
        raise DamagedArtifact(f"{folder} is not as it was exported: {faults}; export the run again")
    client.prompts = {"query": manifest.prompts.query, "document": manifest.prompts.document}
    (index, ids), canaries = open_index(folder, manifest, "cpu"), read_canaries(folder, manifest.canaries)
    with client.session() as session:
        try:
            served = Served(
                canaries.texts,
                client.vectors(session, canaries.texts.queries, "query"),
                client.vectors(session, canaries.texts.documents, "document"),
            )
        except Trouble as trouble:
            raise WorkError(
                f"{client.model.url}: found {trouble.found}; expected /embed or /v1/embeddings to give vectors: does "
                "the server run, and is this its address?"
            ) from trouble
    dims = served.queries_CD.shape[1]
    if dims != manifest.dims:
        found = Check("dims", False, f"{dims} from the server, {manifest.dims} in the bundle: another model, or a part")
        return Verification(client.model.url, [found])
    least = _least(manifest, format, SERVED)
    near = agreement(canaries, served, index, ids, exact=False)
    return Verification(client.model.url, _checks(f"served ({client.shape})", near, least, canaries))


@dataclass(frozen=True)
class Served:
    """What a server made of the canary texts, as an encoder of these alone."""

    texts: CanaryTexts
    queries_CD: Array
    documents_CD: Array

    def queries(self, texts: Sequence[str]) -> Array:
        """Of the canary queries."""
        assert texts is self.texts.queries
        return self.queries_CD

    def documents(self, texts: Sequence[str]) -> Array:
        """Of the canary documents."""
        assert texts is self.texts.documents
        return self.documents_CD


def _format(
    folder: Path, manifest: Manifest, format: str, canaries: Canaries, index: VectorIndex, ids: list[str], device: str
) -> list[Check]:
    def measure() -> Agreement:
        encoder = open_encoder(folder, manifest, format, device)
        return agreement(canaries, encoder, index, ids, exact=format != "onnx-int8")

    near, check = _attempt(format, measure)
    if near is None:
        assert check is not None
        return [check]
    return _checks(format, near, _least(manifest, format, SAME), canaries)


def _least(manifest: Manifest, format: str, otherwise: Agreement) -> Agreement:
    """How near a format must come."""
    exported = manifest.agreement.get(format)
    if format != "onnx-int8" or exported is None:
        return otherwise
    cosine, shared = exported.cosine - INT8_SLACK.cosine, max(exported.shared - INT8_SLACK.shared, 0.0)
    return Agreement(round(cosine, 6), round(shared, 4))


def _checks(name: str, near: Agreement, least: Agreement, canaries: Canaries) -> list[Check]:
    hits = len(canaries.texts.queries)
    texts = hits + len(canaries.texts.documents)
    return [
        Check(
            f"{name}: vectors",
            near.cosine >= least.cosine,
            f"lowest cosine {near.cosine:.6f} with {CANARIES} over {texts} texts (at least {least.cosine:.4f})",
        ),
        Check(
            f"{name}: top {TOP}",
            near.shared >= least.shared,
            f"{near.shared:.1%} of the hits of {hits} queries as exported (at least {least.shared:.0%})",
        ),
    ]


def _probabilities(folder: Path, canaries: Canaries, index: VectorIndex) -> Check:
    """Of the canary queries' vectors at export: those of the encoders are another check."""

    def measure() -> float:
        known = open_probabilities(folder, open_lexical(folder, index.card.count))
        found = top_probabilities(known, canaries.texts.queries, canaries.queries_CD, index)
        pairs = zip(found, canaries.texts.top_probabilities, strict=True)
        return max(max(map(abs, np.subtract(*pair).tolist()), default=0.0) for pair in pairs)

    furthest, check = _attempt("probabilities", measure)
    if furthest is None:
        assert check is not None
        return check
    detail = f"largest difference {furthest:.6f} over {len(canaries.texts.queries)} queries (at most {SAME_SCORE})"
    return Check("probabilities", furthest <= SAME_SCORE, detail)


def _attempt(name: str, work: Callable[[], Result]) -> tuple[Result | None, Check | None]:
    """What `work` gives, or a failed check: a damaged file can make a library raise anything."""
    try:
        return work(), None
    except MissingPackageError:  # says nothing of the bundle
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or "no reason given"
        return None, Check(name, False, f"{type(error).__name__}: {reason}")


COUNT = 8
"""Queries, and as many documents."""
TOP = 10
SAME_SCORE = 1e-3
"""Scores this near are the same: another machine adds in another order. Hits may change place within it."""


@dataclass(frozen=True)
class Canaries:
    """What bundle.json holds of them, and their vectors at export, float32."""

    texts: CanaryTexts
    queries_CD: Array
    documents_CD: Array

    def save_vectors(self, folder: Path) -> None:
        """Write canaries.safetensors: queries and documents, float32 (C, D)."""
        from safetensors.numpy import save_file

        save_file({"queries": self.queries_CD, "documents": self.documents_CD}, folder / CANARIES)


def spread(items: Sequence[str], count: int = COUNT) -> list[int]:
    """Up to `count` positions, evenly over `items`, no text twice and none empty."""
    kept = list({item: n for n, item in reversed(list(enumerate(items))) if item.strip()}.values())
    kept.sort()
    if len(kept) <= count:
        return kept
    return [kept[round(position)] for position in np.linspace(0, len(kept) - 1, count)]


def make_canaries(
    encoder: TextEncoder, queries: Sequence[str], documents: Sequence[str], index: VectorIndex, ids: Sequence[str],
    probabilities: Probabilities | None,
) -> Canaries:  # fmt: skip
    """Encode both sides and search the queries."""
    queries_CD, documents_CD = encoder.queries(queries), encoder.documents(documents)
    found = top_probabilities(probabilities, queries, queries_CD, index)
    texts = CanaryTexts(TOP, list(queries), list(documents), *top_hits(index, queries_CD, ids), found)
    return Canaries(texts, queries_CD, documents_CD)


def top_probabilities(
    probabilities: Probabilities | None, queries: Sequence[str], queries_CD: Array, index: VectorIndex
) -> list[list[float]]:
    """Of each query's best `TOP` documents, how probably they are relevant; nothing if nobody knows."""
    if probabilities is None:
        return []
    return [row.round(6).tolist() for row in probabilities.of(queries, index.search(queries_CD, TOP))]


def read_canaries(folder: Path, texts: CanaryTexts) -> Canaries:
    """Texts and hits from bundle.json, vectors from `folder`. Raises DamagedArtifact if they do not fit."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        vectors = load_file(folder / CANARIES)
        canaries = Canaries(texts, queries_CD=vectors["queries"], documents_CD=vectors["documents"])
    except (OSError, SafetensorError, KeyError) as error:
        raise DamagedArtifact(f"{folder / CANARIES} cannot be read ({error!r}); export the run again") from error
    queries, documents = len(texts.queries), len(texts.documents)
    counts = (len(canaries.queries_CD), len(canaries.documents_CD), len(texts.top_ids), len(texts.top_scores))
    if counts != (queries, documents, queries, queries) or not queries or not documents:
        raise DamagedArtifact(f"{folder / CANARIES} does not fit the canary texts in bundle.json; export the run again")
    return canaries


def top_hits(index: VectorIndex, queries_CD: Array, ids: Sequence[str]) -> tuple[list[list[str]], list[list[float]]]:
    """Ids and scores of each query's best `TOP` documents."""
    hits = index.search(queries_CD, TOP)
    kept = [(rows[rows != PADDING_ROW], scores) for rows, scores in zip(hits.rows_Qk, hits.scores_Qk, strict=True)]
    return (
        [[ids[row] for row in rows] for rows, _ in kept],
        [[round(float(score), 6) for score in scores[: len(rows)]] for rows, scores in kept],
    )


def agreement(
    canaries: Canaries, encoder: TextEncoder | Served, index: VectorIndex, ids: Sequence[str], exact: bool
) -> Agreement:
    """How near `encoder` comes to the canaries; `exact`: a hit must come with its score as well."""
    texts, queries_CD = canaries.texts, encoder.queries(canaries.texts.queries)
    lowest = min(
        nearness(canaries.queries_CD, queries_CD).min(),
        nearness(canaries.documents_CD, encoder.documents(texts.documents)).min(),
    )
    top_ids, top_scores = top_hits(index, queries_CD, ids)
    expected = [dict(zip(*pair, strict=True)) for pair in zip(texts.top_ids, texts.top_scores, strict=True)]
    shares = [_shared(expected[n], top_ids[n], top_scores[n], exact) for n in range(len(texts.queries))]
    return Agreement(round(float(lowest), 6), round(float(np.mean(shares)), 4))


def nearness(a_CD: Array, b_CD: Array) -> Array:
    """Cosine of each pair of rows, times the shorter length over the longer: 1 means the same vector. 0 for NaN."""
    a_CD, b_CD = a_CD.astype(np.float64), b_CD.astype(np.float64)
    longest = np.maximum((a_CD**2).sum(axis=1), (b_CD**2).sum(axis=1))
    return np.asarray(np.nan_to_num((a_CD * b_CD).sum(axis=1) / np.maximum(longest, 1e-12)))


def _shared(expected: Mapping[str, float], ids: Sequence[str], scores: Sequence[float], exact: bool) -> float:
    """Share of the expected hits found. With `exact`, a newcomer that ties with the last place counts as well."""
    if len(ids) != len(expected):
        return 0.0
    if not exact:
        return len(set(ids) & set(expected)) / max(len(expected), 1)
    last = min(expected.values(), default=0.0)
    same = [
        abs(score - expected.get(identifier, last)) <= SAME_SCORE for identifier, score in zip(ids, scores, strict=True)
    ]
    return sum(same) / max(len(expected), 1)
