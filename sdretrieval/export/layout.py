"""What is where in a bundle; `bundle.json`: what the bundle is, and the digest of every other file; its documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from sdretrieval.corpus.types import Corpus, Texts, joined
from sdretrieval.digests import digest_file
from sdretrieval.encode.prompts import Prompts
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.ragged import Array

Format = Literal["torch", "onnx", "onnx-int8", "openvino"]
"""What `--format` takes. Every bundle holds `torch`, the sentence-transformers folder; the others are added to it."""
FORMATS: tuple[Format, ...] = get_args(Format)

SCHEMA = 1
MANIFEST, IDS, TEXTS, CARD, CANARIES = "bundle.json", "ids.json", "documents.jsonl", "README.md", "canaries.safetensors"
STUDENT, INDEX = "student", "index"
GRAPHS: Mapping[str, str] = {
    "onnx": "onnx/model.onnx",
    "onnx-int8": "onnx-int8/model.onnx",
    "openvino": "openvino/model.xml",
}
"""The graph of each added format, in the folder named after it."""
DOCUMENT_GRAPHS: Mapping[str, str] = {format: path.replace("model.", "document.") for format, path in GRAPHS.items()}
"""The same of the documents' encoder, if it is another than the queries'."""


@dataclass(frozen=True)
class Agreement:
    """How near a format's canaries come to torch's: the lowest cosine, and the share of top-k hits in common."""

    cosine: float
    shared: float


@dataclass(frozen=True)
class Manifest:
    """bundle.json. `files` maps the path inside the bundle -> blake2b; `agreement` holds what each format measured."""

    name: str
    formats: Sequence[str]
    dims: int
    documents: int
    max_tokens: int
    query_tokens: int | None
    prompts: Prompts
    canaries: Mapping[str, Any]
    lineage: Mapping[str, Any]
    agreement: Mapping[str, Agreement] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write bundle.json into `folder`."""
        record = {"kind": "sdretrieval bundle", "schema": SCHEMA, **asdict(self)}
        (folder / MANIFEST).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf8")


def read_manifest(folder: Path) -> Manifest:
    """The bundle's manifest.

    Raises RequestError if `folder` is no bundle or one of another schema, DamagedArtifact if it is unreadable.
    """
    if not (folder / MANIFEST).is_file():
        content = "no such folder"
        if folder.is_dir():
            names = sorted(path.name for path in folder.iterdir())
            content = f"it holds {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "it is empty"
        raise RequestError(
            f"{folder} is no bundle: it has no {MANIFEST} ({content}); "
            "give a folder that `sdretrieval export RUN DIR` wrote"
        )
    try:
        record = json.loads((folder / MANIFEST).read_text(encoding="utf8"))
        kind, schema = record.pop("kind"), record.pop("schema")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedArtifact(f"{folder / MANIFEST} cannot be read ({error!r}); export the run again") from error
    if kind != "sdretrieval bundle" or schema != SCHEMA:
        raise RequestError(
            f"{folder / MANIFEST} is {kind!r} of schema {schema}, expected 'sdretrieval bundle' of {SCHEMA}"
        )
    try:
        record["prompts"] = Prompts(**record["prompts"])
        record["agreement"] = {name: Agreement(**measured) for name, measured in record["agreement"].items()}
        return Manifest(**record)
    except (KeyError, AttributeError, TypeError) as error:
        raise DamagedArtifact(f"{folder / MANIFEST} is incomplete ({error!r}); export the run again") from error


def is_bundle(folder: Path) -> bool:
    """Whether `folder` holds a bundle's manifest, whatever became of the rest."""
    try:
        return bool(json.loads((folder / MANIFEST).read_text(encoding="utf8")).get("kind") == "sdretrieval bundle")
    except (OSError, ValueError, AttributeError):
        return False


def digests(folder: Path) -> dict[str, str]:
    """blake2b of every file below `folder` but the manifest and hidden ones, by its path with forward slashes.

    A file browser or a version control system may leave its own files in a bundle: no part of it, no damage to it.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    hidden = {name for name in named if any(part.startswith(".") for part in name.split("/"))}
    return {name: digest_file(path) for name, path in named.items() if name != MANIFEST and name not in hidden}


def read_ids(folder: Path) -> list[str]:
    """Document ids by index row. Raises DamagedArtifact if they cannot be read."""
    try:
        return list(json.loads((folder / IDS).read_text(encoding="utf8")))
    except (OSError, ValueError, TypeError) as error:
        raise DamagedArtifact(f"{folder / IDS} cannot be read ({error}); export the run again") from error


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """`torch` and then the formats asked for, each once. Raises RequestError for an unknown one."""
    for name in formats:
        if name not in FORMATS:
            raise RequestError(f"export format {name!r} is unknown; expected one of {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(("torch", *formats)))


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
            record = json.loads(stream.readline())
        return record["title"], record["text"]
