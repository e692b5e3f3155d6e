"""Export: student, index, ids, prompts, card and canaries as one folder that can check itself.

    DIR/
      README.md             the model card
      student/              a plain sentence-transformers folder, prompts and limits inside
      index/                FAISS index and its card
      ids.json              index row -> document id
      documents.jsonl       titles and beginnings of the texts (left out by include_texts=False)
      onnx/ onnx-int8/ openvino/   the formats asked for
      canaries.safetensors  vectors of a few texts at export
      bundle.json           what this is, canary texts and hits, digest of every file; written last

Legend: N documents, D dims.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import Student, load_student, save_student
from sdretrieval.errors import RequestError, WorkError
from sdretrieval.export.canaries import Canaries, agreement, make_canaries, nearness, spread
from sdretrieval.export.card import CardFacts, Served, model_card
from sdretrieval.export.documents import IndexedDocuments, write_snippets
from sdretrieval.export.encoders import open_encoder
from sdretrieval.export.formats import check_graph, check_packages, write_graphs
from sdretrieval.export.layout import CARD, IDS, INDEX, STUDENT, Agreement, Manifest, check_formats, digests, is_bundle
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array

logger = logging.getLogger("sdretrieval")

SAME_VECTORS = 0.999
"""The index's vectors may be float16 and made on another device; those of other weights lie far below."""
LEAST_COSINE = {"onnx": 0.9999, "openvino": 0.9999, "onnx-int8": 0.9}
"""A format that comes less near to torch than this is broken and not written."""
PACKAGES = ("sdretrieval", "torch", "transformers", "sentence-transformers", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True)
class _Parts:
    """What `export_bundle` was given, as its steps share it."""

    student: Student
    documents: IndexedDocuments
    vectors_ND: Array
    index: VectorIndex
    card: CardFacts
    canary_queries: Sequence[str]
    include_texts: bool


def export_bundle(
    folder: Path,
    *,
    student_folder: Path,
    prompts: Prompts,
    max_tokens: int,
    query_tokens: int | None,
    documents: IndexedDocuments,
    vectors_ND: Array,
    index: VectorIndex,
    card: CardFacts,
    canary_queries: Sequence[str],
    formats: Sequence[str] = ("torch",),
    include_texts: bool = True,
) -> Manifest:
    """Write the bundle `folder`; it appears whole or not at all, and replaces a bundle that stands there.

    `vectors_ND` are the documents' vectors that `index` was built from: a few are made anew and compared, so that an
    index of other weights is never shipped. Of `canary_queries` some 8 are taken, and as many documents.
    Raises RequestError (folder taken, counts that do not fit, no canary query, unknown format), MissingPackageError,
    ModelError, WorkError (the index is of another student, or a format's vectors leave torch's).
    """
    names = check_formats(formats)
    check_packages(names)
    _check_target(folder)
    _check_counts(documents, vectors_ND, index, canary_queries)
    student = load_student(
        str(student_folder), max_tokens=max_tokens, query_tokens=query_tokens, prompts=prompts, device="cpu"
    )
    if student.dims != index.card.dims:
        raise RequestError(
            f"the student gives {student.dims} dims, the index holds {index.card.dims}; index its own vectors"
        )
    check_graph(student, names)
    parts = _Parts(student, documents, vectors_ND, index, card, canary_queries, include_texts)
    with _made_whole(folder) as work:
        manifest = _fill(work, parts, names)
        manifest.write(work)
    logger.info("bundle %s: %s, %d documents", folder, ", ".join(names), manifest.documents)
    return manifest


def _fill(work: Path, parts: _Parts, formats: Sequence[str]) -> Manifest:
    student = parts.student
    _write_student(student, work / STUDENT)
    parts.index.save(work / INDEX)
    (work / IDS).write_text(json.dumps(list(parts.documents.ids)) + "\n", encoding="utf8")
    if parts.include_texts:
        write_snippets(parts.documents, work)
    write_graphs(student, work, formats)
    manifest = Manifest(
        name=parts.card.name, formats=formats, dims=student.dims, documents=len(parts.documents),
        max_tokens=student.view.max_tokens, query_tokens=student.query_view.max_tokens, prompts=student.prompts,
        canaries={}, lineage=parts.card.lineage() | {"student_digest": student.digest}, versions=_versions(),
    )  # fmt: skip
    canaries = _canaries(work, manifest, parts)
    canaries.save_vectors(work)
    manifest = replace(manifest, canaries=canaries.record(), agreement=_agreements(work, manifest, parts, canaries))
    _write_cards(work, manifest, parts.card, student.document_encoder is not None)
    return replace(manifest, files=digests(work))


def _write_student(student: Student, folder: Path) -> None:
    """The student with its prompts and length inside, so that `SentenceTransformer(folder)` alone does the same."""
    for encoder in (student.model, student.document_model):
        encoder.max_seq_length = student.view.max_tokens
    save_student(student.model, folder, student.document_encoder)


def _canaries(work: Path, manifest: Manifest, parts: _Parts) -> Canaries:
    """Made by what was written, not by what is in memory; the documents' must be those of the index."""
    rows = _canary_rows(parts.documents)
    queries = [parts.canary_queries[n] for n in spread(parts.canary_queries)]
    texts = [parts.documents.full_text(row) for row in rows]
    made = make_canaries(open_encoder(work, manifest, "torch"), queries, texts, parts.index, parts.documents.ids)
    lowest = float(nearness(np.asarray(parts.vectors_ND[rows], dtype=np.float32), made.documents_CD).min())
    if lowest < SAME_VECTORS:
        raise WorkError(
            "export: the index was not built by this student: its vectors and the student's of the same documents "
            f"have a cosine down to {lowest:.4f}, expected at least {SAME_VECTORS}; encode and index the documents "
            "with this student, its prompts and max_tokens"
        )
    return made


def _canary_rows(documents: IndexedDocuments) -> list[int]:
    # Every document is a candidate, but reading all texts of a large corpus to choose eight would be waste.
    positions = sorted({round(n) for n in np.linspace(0, len(documents) - 1, 64)})
    return [positions[n] for n in spread([documents.full_text(row) for row in positions])]


def _agreements(work: Path, manifest: Manifest, parts: _Parts, canaries: Canaries) -> dict[str, Agreement]:
    found = {}
    for format in manifest.formats[1:]:
        exact = format != "onnx-int8"
        near = agreement(canaries, open_encoder(work, manifest, format), parts.index, parts.documents.ids, exact)
        if near.cosine < LEAST_COSINE[format]:
            raise WorkError(
                f"export: format {format} gives other vectors than torch: lowest cosine {near.cosine:.4f} on the "
                f"canaries, expected at least {LEAST_COSINE[format]}; leave this format out"
            )
        found[format] = near
    return found


def _write_cards(work: Path, manifest: Manifest, facts: CardFacts, two_encoders: bool) -> None:
    served = Served(
        manifest.prompts, manifest.max_tokens, manifest.query_tokens, manifest.dims, agreement=manifest.agreement,
        two_encoders=two_encoders,
    )  # fmt: skip
    (work / CARD).write_text(model_card(facts, served), encoding="utf8")
    (work / STUDENT / CARD).write_text(model_card(facts, served, model_path="."), encoding="utf8")


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"export target {folder} is a file; give a folder that is new, empty or a bundle")
    if folder.is_dir() and any(folder.iterdir()) and not is_bundle(folder):
        names = sorted(path.name for path in folder.iterdir())
        raise RequestError(
            f"export target {folder} is not empty and no bundle (it holds {', '.join(names[:5])}"
            f"{' ...' if len(names) > 5 else ''}); only a bundle is replaced: give a new folder, or empty this one"
        )


def _check_counts(documents: IndexedDocuments, vectors_ND: Array, index: VectorIndex, queries: Sequence[str]) -> None:
    counts = {
        "ids": len(documents), "titles": len(documents.titles), "texts": len(documents.texts),
        "vectors": len(vectors_ND), "index rows": index.card.count,
    }  # fmt: skip
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{count} {what}" for what, count in counts.items())
        raise RequestError(f"export: the documents do not fit together: {found}; all five must be of one corpus")
    if not spread(queries):
        raise RequestError("export: no canary query that is not empty; give at least one query of the corpus")


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """A hidden sibling to write into; it takes the place of `folder` at the end, or goes when something fails."""
    folder = folder.absolute()
    work, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "replaced"))
    for left in (work, old):
        shutil.rmtree(left, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
        if folder.exists():
            folder.rename(old)
        work.rename(folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
