"""Search a bundle: text in, documents out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdretrieval.errors import DamagedArtifact, RequestError, SdretrievalError
from sdretrieval.export.documents import TEXTS, IndexedDocuments, Passages
from sdretrieval.export.encoders import open_encoder
from sdretrieval.export.layout import (
    IDS,
    INDEX,
    LEXICAL,
    PROBABILITY,
    STUDENT,
    Manifest,
    differences,
    open_index,
    open_lexical,
    open_probabilities,
    read_manifest,
)
from sdretrieval.export.text_search import Keep, Mode, Passage, SearchHit, TextSearch
from sdretrieval.ragged import Array


@dataclass(frozen=True, kw_only=True)
class Searcher(TextSearch):
    """An opened bundle, which does not change: another one in the same folder needs another `open`."""

    folder: Path
    manifest: Manifest
    format: str

    @classmethod
    def open(
        cls, folder: Path, *, documents: IndexedDocuments | None = None, format: str = "torch", device: str = "auto"
    ) -> Searcher:
        """Open the bundle `folder` in one of its formats.

        `documents` show the results if the bundle was exported without texts; else its own passages do.
        Every file that is read is compared with its digest at export. Raises RequestError (no bundle, a format it does
        not hold), DamagedArtifact, MissingPackageError, ModelError.
        """
        manifest = read_manifest(folder)
        if format not in manifest.formats:
            raise RequestError(
                f"bundle {folder} holds no format {format!r}, it holds {', '.join(manifest.formats)}; "
                f"export the run again with --format {format}"
            )
        with _of_a_bundle(folder):
            _, faults = differences(folder, manifest, {STUDENT, INDEX, IDS, TEXTS, PROBABILITY, LEXICAL, format})
            if faults:
                raise DamagedArtifact(f"{folder} is not as it was exported: {faults}; export the run again")
            index, ids = open_index(folder, manifest, device)
            lexical = open_lexical(folder, len(ids))
            return cls(
                encoder=open_encoder(folder, manifest, format, device), index=index, ids=ids,
                passage=_passages(folder, ids, documents), probabilities=open_probabilities(folder, lexical),
                lexical=lexical, spread=manifest.spread, folder=folder, manifest=manifest, format=format,
            )  # fmt: skip

    def search(
        self, query: str, k: int = 10, mode: Mode = "dense", vector_D: Array | None = None, keep: Keep | None = None
    ) -> list[SearchHit]:
        """See `TextSearch`. Raises DamagedArtifact, too, if the bundle is not what it claims."""
        with _of_a_bundle(self.folder):
            return super().search(query, k, mode, vector_D, keep)


@contextmanager
def _of_a_bundle(folder: Path) -> Iterator[None]:
    """A bundle that someone made up and signed can make a library raise anything: that is damage too."""
    try:
        yield
    except SdretrievalError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) is not None:  # of the file system, and says which file
            raise
        reason = " ".join(str(error).split())[:300]
        raise DamagedArtifact(
            f"{folder} cannot be searched ({type(error).__name__}: {reason}); export the run again"
        ) from error


def _passages(folder: Path, ids: Sequence[str], documents: IndexedDocuments | None) -> Passage:
    if documents is not None:
        row_of = {identifier: row for row, identifier in enumerate(documents.ids)}
        absent = [identifier for identifier in ids if identifier not in row_of]
        if absent:
            raise RequestError(
                f"{len(absent)} of the bundle's {len(ids)} documents are not among the documents given, the first is "
                f"{absent[0]!r}; give the corpus that was exported"
            )
        return lambda row: documents.passage(row_of[ids[row]])
    if not (folder / TEXTS).is_file():
        return lambda row: ("", "")
    stored = Passages(folder)
    if len(stored) != len(ids):
        raise DamagedArtifact(f"{folder / TEXTS} has {len(stored)} rows for {len(ids)} documents; export the run again")
    return stored.passage
