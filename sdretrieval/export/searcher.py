"""Search a bundle: text in, documents out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdretrieval.errors import DamagedArtifact, RequestError, SdretrievalError
from sdretrieval.export.encoders import TextEncoder, open_encoder
from sdretrieval.export.layout import (
    IDS,
    INDEX,
    LEXICAL,
    PROBABILITY,
    STUDENT,
    TEXTS,
    IndexedDocuments,
    Manifest,
    Snippets,
    differences,
    open_index,
    open_probabilities,
    read_manifest,
)
from sdretrieval.formatting import encodable
from sdretrieval.indexes.hits import PADDING_ROW
from sdretrieval.indexes.probability import Probabilities, hits_needed
from sdretrieval.indexes.vector import VectorIndex

Snippet = Callable[[int], tuple[str, str]]
"""Index row -> (title, beginning of the text)."""


@dataclass(frozen=True)
class SearchHit:
    """One document found; rank counts from 1. Title and text are empty if the bundle holds no texts; `probability` is
    that it is relevant, None if no dev queries could tell."""

    rank: int
    document_id: str
    score: float
    title: str = ""
    text: str = ""
    probability: float | None = None


class Searcher:
    """An opened bundle. `encoder` gives vectors as the bundle's student does, `index` finds rows, `ids` names them,
    `probabilities` says how probably a hit is relevant (None: unknown)."""

    def __init__(
        self, folder: Path, manifest: Manifest, encoder: TextEncoder, index: VectorIndex, ids: Sequence[str],
        snippet: Snippet, probabilities: Probabilities | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.manifest, self.encoder, self.index, self.ids = folder, manifest, encoder, index, ids
        self._snippet, self.probabilities = snippet, probabilities

    @classmethod
    def open(
        cls, folder: Path, *, documents: IndexedDocuments | None = None, format: str = "torch", device: str = "auto"
    ) -> Searcher:
        """Open the bundle `folder` in one of its formats.

        `documents` show the results if the bundle was exported without texts; else its own snippets do.
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
            encoder = open_encoder(folder, manifest, format, device)
            snippet, probabilities = _snippets(folder, ids, documents), open_probabilities(folder, len(ids))
            return cls(folder, manifest, encoder, index, ids, snippet, probabilities)

    def search(self, query: str, k: int = 10) -> list[SearchHit]:
        """The best k documents, best first; all, if there are fewer.

        Raises RequestError for an empty query or k below 1, DamagedArtifact if the bundle is not what it claims.
        """
        if not query.strip():
            raise RequestError("the query is empty; expected at least one word")
        with _of_a_bundle(self.folder):
            query = encodable(query)
            hits = self.index.search(self.encoder.queries([query]), min(hits_needed(k), len(self.ids)))
            none: list[float | None] = [None] * hits.rows_Qk.shape[1]
            found = self.probabilities.of([query], hits)[0].tolist() if self.probabilities else none
            ranked = list(zip(hits.rows_Qk[0].tolist(), hits.scores_Qk[0].tolist(), found, strict=True))[:k]
            return [
                SearchHit(n, self.ids[row], score, *self._snippet(row), probability)
                for n, (row, score, probability) in enumerate(ranked, 1)
                if row != PADDING_ROW
            ]


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


def _snippets(folder: Path, ids: Sequence[str], documents: IndexedDocuments | None) -> Snippet:
    if documents is not None:
        row_of = {identifier: row for row, identifier in enumerate(documents.ids)}
        absent = [identifier for identifier in ids if identifier not in row_of]
        if absent:
            raise RequestError(
                f"{len(absent)} of the bundle's {len(ids)} documents are not among the documents given, the first is "
                f"{absent[0]!r}; give the corpus that was exported"
            )
        return lambda row: documents.snippet(row_of[ids[row]])
    if not (folder / TEXTS).is_file():
        return lambda row: ("", "")
    stored = Snippets(folder / TEXTS)
    if len(stored) != len(ids):
        raise DamagedArtifact(
            f"{folder / TEXTS} has {len(stored)} lines for {len(ids)} documents; export the run again"
        )
    return stored.snippet
