"""What is where in a bundle; `bundle.json`: what the bundle is, sealed, with the digest of every other file.

A bundle may come from anyone: whatever is read of it is checked, and is a DamagedArtifact if it is not what it must be.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from sdretrieval.digests import digest_file, sealed, unsealed
from sdretrieval.encode.model_files import MODULES
from sdretrieval.encode.prompts import Prompts
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.export.documents import TEXTS, VECTORS
from sdretrieval.files import read_as, read_json, record_of, write_json
from sdretrieval.formatting import encodable
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.probability import Probabilities, ProbabilityMap
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.store.whole_folder import set_aside

Format = Literal["torch", "onnx", "onnx-int8", "openvino"]
"""What `--format` takes. Every bundle holds `torch`, the sentence-transformers folder; the others are added to it."""
FORMATS: tuple[Format, ...] = get_args(Format)

KIND, SCHEMA = "sdretrieval bundle", 4
MANIFEST, IDS, CARD, CANARIES = "bundle.json", "ids.json", "README.md", "canaries.safetensors"
INDEX, LEXICAL, PROBABILITY = "index", "lexical", "probability.json"
"""The vectors' index; BM25, which holds the documents' words and is left out with the texts; the map from scores to
probabilities."""
STUDENT = "student"
"""The part of all other files: the bundle's root is the model's folder, as every library and server looks for it."""
GRAPHS: Mapping[str, str] = {
    "onnx": "onnx/model.onnx",
    "onnx-int8": "onnx/model_quantized.onnx",
    "openvino": "openvino/openvino_model.xml",
}
"""The graph of each added format, by the names that are usual for them."""
DOCUMENT_GRAPHS: Mapping[str, str] = {format: path.replace("model", "document") for format, path in GRAPHS.items()}
"""The same of the documents' encoder, if it is another than the queries'."""


Count = Annotated[int, Field(ge=1, lt=2**31)]


@dataclass(frozen=True)
class Agreement:
    """How near a format's canaries come to torch's: the lowest cosine, and the share of top-k hits in common."""

    cosine: float
    shared: float


@dataclass(frozen=True)
class CanaryTexts:
    """A few texts of both sides, and the best `k` documents of each query as they were at export."""

    k: Count
    queries: Sequence[str]
    documents: Sequence[str]
    top_ids: Sequence[Sequence[str]]
    top_scores: Sequence[Sequence[float]]
    top_probabilities: Sequence[Sequence[float]]
    """Empty if the bundle has no map to probabilities."""


NO_CANARIES = CanaryTexts(1, (), (), (), (), ())
"""Before they are made, by the encoder that a manifest opens."""


@dataclass(frozen=True)
class Manifest:
    """bundle.json. `files` maps the path inside the bundle -> blake2b; `agreement` holds what each format measured."""

    name: str
    formats: Sequence[Format]
    dims: Count
    documents: Count
    max_tokens: Count
    query_tokens: Count | None
    prompts: Prompts
    canaries: CanaryTexts
    lineage: Mapping[str, Any]
    spread: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Of the student's scores: the mean over queries of the standard deviation of the 100 best. Hybrid search measures
    them in it."""
    agreement: Mapping[str, Agreement] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write bundle.json into `folder`."""
        text = json.dumps({"kind": KIND, "schema": SCHEMA, **asdict(self)}, ensure_ascii=False)
        write_json(folder / MANIFEST, sealed(json.loads(encodable(text))))


def read_manifest(folder: Path) -> Manifest:
    """The bundle's manifest.

    Raises RequestError if `folder` is no bundle or one of another schema, DamagedArtifact if it is not as it was
    written, or not what a manifest is.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise RequestError(
            f"{folder} is no bundle: it has no {MANIFEST} ({_content(folder)}); "
            "give a folder that `sdretrieval export RUN DIR` wrote"
        )
    try:
        record = read_json(path)
        kind, schema = record.get("kind"), record.get("schema")
        if kind == KIND and schema != SCHEMA:
            raise RequestError(f"{path} is of schema {schema!r:.40}, expected {SCHEMA}; export the run again")
        if kind != KIND:
            raise RequestError(f"{path} is of kind {kind!r:.40}, expected {KIND!r}; give a folder that was exported")
        # What is huge, not finite or too deep is nothing that an export writes.
        fields = {name: value for name, value in unsealed(record).items() if name not in ("kind", "schema")}
        return record_of(json.dumps(fields), Manifest, path)
    except DamagedArtifact as damage:
        raise DamagedArtifact(f"{damage}; export the run again") from damage
    except (ValueError, RecursionError) as error:
        raise DamagedArtifact(f"{path} is not as it was exported: {error}; export the run again") from error


def _content(folder: Path) -> str:
    """What is at `folder` instead of a bundle."""
    old = set_aside(folder.resolve())
    if old is not None and (old / MANIFEST).is_file():
        return f"an export is replacing it, or was killed while it did; the earlier one is {old}: export again"
    if not folder.is_dir():
        return "it is a file" if folder.exists() else "no such folder"
    names = sorted(path.name for path in folder.iterdir())
    return f"it holds {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "it is empty"


def is_bundle(folder: Path) -> bool:
    """Whether `folder` holds a bundle, be it damaged: its manifest, or one that nobody can read beside its parts."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        return read_json(folder / MANIFEST).get("kind") == KIND
    except (OSError, DamagedArtifact):
        return all((folder / name).exists() for name in (IDS, INDEX, MODULES))


def digests(folder: Path, parts: Collection[str] | None = None) -> dict[str, str]:
    """blake2b of every file below `folder` but the manifest and hidden ones, by its path with forward slashes.

    `parts`: only of these (see `part_of`). A file browser or a version control system may leave its own hidden files in
    a bundle: no part of it, no damage to it. Raises DamagedArtifact for a pipe or a device: a library that opens one
    would wait for ever.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name == MANIFEST or not _counts(name, parts):
            continue
        if path.is_file():
            found[name] = digest_file(path)
        elif path.exists():  # else a link to nowhere
            raise DamagedArtifact(f"{folder}: {name} is a pipe or a device, expected a file; export the run again")
    return found


def _counts(name: str, parts: Collection[str] | None) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and (parts is None or part_of(name) in parts)


def part_of(name: str) -> str:
    """Which part of a bundle a file is: one of the names above, a format, or `STUDENT`."""
    first, last = name.split("/")[0], name.split("/")[-1]
    if last == CARD or first in (INDEX, LEXICAL, PROBABILITY, IDS, TEXTS, CANARIES, *VECTORS.values()):
        return CARD if last == CARD else first
    if first == "onnx":
        return "onnx-int8" if "quantized" in last else "onnx"
    return first if first in GRAPHS else STUDENT


NAMED = 5


def differences(folder: Path, manifest: Manifest, parts: Collection[str] | None = None) -> tuple[int, str]:
    """How many files were looked at (`parts`: see `digests`), and which are not as they were exported, as text."""
    actual = digests(folder, parts)
    exported = {name: digest for name, digest in manifest.files.items() if _counts(name, parts)}
    missing = [name for name in exported if name not in actual]
    changed = [name for name, digest in exported.items() if actual.get(name, digest) != digest]
    added = [name for name in actual if name not in exported]
    faults = [
        f"{what}: {', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}"
        for what, names in (("missing", missing), ("changed since the export", changed), ("not of the export", added))
        if names
    ]
    return len(actual), "; ".join(faults)


@contextmanager
def _exported() -> Iterator[None]:
    """Nobody can build a part of a bundle again: the remedy is another."""
    try:
        yield
    except DamagedArtifact as damage:
        found, _, _ = str(damage).rpartition("; build ")
        raise DamagedArtifact(f"{found or damage}; export the run again") from damage


def open_index(folder: Path, manifest: Manifest, device: str) -> tuple[VectorIndex, list[str]]:
    """The index, and the document id of each of its rows. Raises DamagedArtifact if they are not the manifest's."""
    with _exported():
        index = VectorIndex.load(folder / INDEX, device)
    try:
        ids = json.loads((folder / IDS).read_text(encoding="utf8"))
    except (FileNotFoundError, ValueError, RecursionError) as error:
        raise DamagedArtifact(f"{folder / IDS} cannot be read ({error}); export the run again") from error
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise DamagedArtifact(f"{folder / IDS} is no list of texts; export the run again")
    if not index.card.count == len(ids) == manifest.documents or index.card.dims != manifest.dims:
        raise DamagedArtifact(
            f"{folder / INDEX} holds {index.card.count} vectors of {index.card.dims} dims and {IDS} {len(ids)} ids, "
            f"expected {manifest.documents} of {manifest.dims}; export the run again"
        )
    return index, ids


def open_lexical(folder: Path, documents: int) -> LexicalIndex | None:
    """BM25 over an index of so many documents; None if the bundle has none. Raises DamagedArtifact if it is something
    else."""
    if not (folder / LEXICAL).exists():
        return None
    with _exported():
        lexical = LexicalIndex.load(folder / LEXICAL)
    if lexical.count != documents:
        raise DamagedArtifact(
            f"{folder / LEXICAL} holds {lexical.count} documents, expected {documents}; export the run again"
        )
    return lexical


@dataclass(frozen=True)
class ProbabilityCard:
    """probability.json: the map, whether it needs BM25, and whether other collections taught it."""

    map: ProbabilityMap
    words: bool
    estimate: bool


def write_probabilities(probabilities: Probabilities, folder: Path) -> None:
    """Write probability.json."""
    words = probabilities.lexical is not None
    write_json(folder / PROBABILITY, asdict(ProbabilityCard(probabilities.map, words, probabilities.estimate)))


def open_probabilities(folder: Path, lexical: LexicalIndex | None) -> Probabilities | None:
    """What `write_probabilities` wrote, with the bundle's BM25; None if it has none.

    Raises DamagedArtifact if it is something else.
    """
    if not (folder / PROBABILITY).is_file():
        return None
    try:
        card = read_as(folder / PROBABILITY, ProbabilityCard)
        card.map.check()
    except DamagedArtifact as error:
        raise DamagedArtifact(f"{folder / PROBABILITY} cannot be read ({error}); export the run again") from error
    if card.words and lexical is None:
        raise DamagedArtifact(f"{folder / LEXICAL} is missing: {PROBABILITY} needs it; export the run again")
    return Probabilities(card.map, lexical if card.words else None, card.estimate)


def check_formats(formats: Sequence[str]) -> tuple[Format, ...]:
    """`torch` and then the formats asked for, each once. Raises RequestError for an unknown one."""
    for name in formats:
        if name not in FORMATS:
            raise RequestError(f"export format {name!r} is unknown; expected one of {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name == "torch" or name in formats)
