"""What is where in a bundle; `bundle.json`: what the bundle is, sealed, with the digest of every other file; documents.

A bundle may come from anyone: whatever is read of it is checked, and is a DamagedArtifact if it is not what it must be.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field

from sdretrieval.corpus.types import Corpus, Texts, joined
from sdretrieval.digests import digest_file, sealed, unsealed
from sdretrieval.encode.prompts import Prompts
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.files import read_as, read_json, record_of, write_json
from sdretrieval.formatting import encodable
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.probability import Probabilities, ProbabilityMap
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array
from sdretrieval.store.whole_folder import set_aside

Format = Literal["torch", "onnx", "onnx-int8", "openvino"]
"""What `--format` takes. Every bundle holds `torch`, the sentence-transformers folder; the others are added to it."""
FORMATS: tuple[Format, ...] = get_args(Format)

KIND, SCHEMA = "sdretrieval bundle", 3
MANIFEST, IDS, TEXTS, CARD, CANARIES = "bundle.json", "ids.json", "documents.jsonl", "README.md", "canaries.safetensors"
STUDENT, INDEX = "student", "index"
LEXICAL, PROBABILITY = "lexical", "probability.json"
"""BM25, which holds the documents' words and is left out with the texts; the map from scores to probabilities."""
GRAPHS: Mapping[str, str] = {
    "onnx": "onnx/model.onnx",
    "onnx-int8": "onnx-int8/model.onnx",
    "openvino": "openvino/model.xml",
}
"""The graph of each added format, in the folder named after it."""
DOCUMENT_GRAPHS: Mapping[str, str] = {format: path.replace("model.", "document.") for format, path in GRAPHS.items()}
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
        return all((folder / name).exists() for name in (IDS, INDEX, STUDENT))


def digests(folder: Path, parts: Collection[str] | None = None) -> dict[str, str]:
    """blake2b of every file below `folder` but the manifest and hidden ones, by its path with forward slashes.

    `parts`: only of these files and folders in it, without cards. A file browser or a version control system may leave
    its own files in a bundle: no part of it, no damage to it. Raises DamagedArtifact for a pipe or a device: a library
    that opens one would wait for ever.
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
    names = name.split("/")
    hidden = any(part.startswith(".") for part in names)
    return not hidden and (parts is None or (names[0] in parts and names[-1] != CARD))


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


@dataclass(frozen=True)
class ProbabilityCard:
    """probability.json: the map, whether BM25 lies beside it, and whether other collections taught it."""

    map: ProbabilityMap
    words: bool
    estimate: bool


def write_probabilities(probabilities: Probabilities, folder: Path) -> None:
    """Write probability.json, and lexical/ if there is BM25."""
    words = probabilities.lexical is not None
    write_json(folder / PROBABILITY, asdict(ProbabilityCard(probabilities.map, words, probabilities.estimate)))
    if probabilities.lexical is not None:
        probabilities.lexical.save(folder / LEXICAL)


def open_probabilities(folder: Path, documents: int) -> Probabilities | None:
    """What `write_probabilities` wrote, for an index of so many documents; None if the bundle has none.

    Raises DamagedArtifact if it is something else.
    """
    if not (folder / PROBABILITY).is_file():
        return None
    try:
        card = read_as(folder / PROBABILITY, ProbabilityCard)
        card.map.check()
    except DamagedArtifact as error:
        raise DamagedArtifact(f"{folder / PROBABILITY} cannot be read ({error}); export the run again") from error
    with _exported():
        lexical = LexicalIndex.load(folder / LEXICAL) if card.words else None
    if lexical is not None and lexical.count != documents:
        raise DamagedArtifact(
            f"{folder / LEXICAL} holds {lexical.count} documents, expected {documents}; export the run again"
        )
    return Probabilities(card.map, lexical, card.estimate)


def check_formats(formats: Sequence[str]) -> tuple[Format, ...]:
    """`torch` and then the formats asked for, each once. Raises RequestError for an unknown one."""
    for name in formats:
        if name not in FORMATS:
            raise RequestError(f"export format {name!r} is unknown; expected one of {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name == "torch" or name in formats)


SNIPPET = 300
"""Characters of a document's text that a bundle keeps: enough to judge a result by."""


@dataclass(frozen=True)
class IndexedDocuments:
    """The documents as a bundle knows them: ids, titles and texts by index row, in lists or an Arrow table."""

    ids: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]

    @staticmethod
    def of(corpus: Corpus) -> IndexedDocuments:
        """All documents of `corpus`, in row order."""
        table = corpus.documents
        return IndexedDocuments(corpus.document_ids, Texts(table, "title"), Texts(table, "text"))

    def __len__(self) -> int:
        return len(self.ids)

    def full_text(self, row: int) -> str:
        """Title and text as the student saw them."""
        return joined(self.titles[row], self.texts[row])

    def snippet(self, row: int) -> tuple[str, str]:
        """(title, beginning of the text)."""
        return self.titles[row], self.texts[row][:SNIPPET]


def write_snippets(documents: IndexedDocuments, folder: Path) -> None:
    """Write documents.jsonl: id, title and the first `SNIPPET` characters of the text, one line a row."""
    with (folder / TEXTS).open("w", encoding="utf8", newline="\n") as stream:
        for identifier, title, text in zip(documents.ids, documents.titles, documents.texts, strict=True):
            record = {"id": identifier, "title": title, "text": text[:SNIPPET]}
            # ASCII: half of a character pair, which some corpora hold, cannot be written as UTF-8.
            stream.write(json.dumps(record) + "\n")


class Snippets:
    """documents.jsonl, read line by line on demand, so that a large corpus is not held in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _starts(self) -> Array:
        with self._path.open("rb") as stream:
            lengths = np.fromiter((len(line) for line in stream), dtype=np.int64)
        return np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def snippet(self, row: int) -> tuple[str, str]:
        """(title, beginning of the text) of a row."""
        with self._path.open("rb") as stream:
            stream.seek(int(self._starts[row]))
            line = stream.readline()
        try:
            record = json.loads(line)
            title, text = record["title"], record["text"]
            if not (isinstance(title, str) and isinstance(text, str)):
                raise TypeError(f"title {title!r:.40}, text {text!r:.40}")
            return title, text
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise DamagedArtifact(
                f"{self._path}:{row + 1}: no title and text ({error!r}); export the run again"
            ) from None
