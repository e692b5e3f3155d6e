"""Export: student, index, ids, prompts, card and canaries as one folder that can check itself.

    DIR/
      README.md             the model card
      modules.json ...      a plain sentence-transformers model, prompts and limits inside: libraries and servers open
                            the bundle's root as it is
      onnx/ openvino/       the formats asked for, by their usual names: onnx/model.onnx, onnx/model_quantized.onnx
      index/                FAISS index and its card
      lexical/              BM25 (left out by include_texts=False)
      ids.json              index row -> document id
      documents.parquet     titles and texts (left out by include_texts=False)
      vectors.npy vectors.parquet   the documents' vectors, if asked for
      probability.json      the map from a hit's score to the probability that it is relevant, if dev could tell
      canaries.safetensors  vectors of a few texts at export
      bundle.json           what this is, canary texts and hits, digest of every file; written last

Legend: N documents, D dims.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sdretrieval.encode.common_form import write_common_form
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import Student, load_student, save_student
from sdretrieval.errors import RequestError, WorkError
from sdretrieval.export.card import CardFacts, Served, model_card
from sdretrieval.export.documents import VECTORS, IndexedDocuments, VectorFile, write_vectors
from sdretrieval.export.encoders import NEEDED, TextEncoder, check_graph, need, open_encoder, write_graphs
from sdretrieval.export.layout import (
    CARD,
    IDS,
    INDEX,
    LEXICAL,
    NO_CANARIES,
    Agreement,
    Manifest,
    check_formats,
    digests,
    is_bundle,
    write_probabilities,
)
from sdretrieval.export.text_search import measure_spread
from sdretrieval.export.verify import Canaries, agreement, make_canaries, nearness, spread
from sdretrieval.formatting import encodable, quantity
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.lexical_half import with_half
from sdretrieval.indexes.probability import Probabilities
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array
from sdretrieval.store.whole_folder import check_target, whole_folder

logger = logging.getLogger("sdretrieval")

SAME_VECTORS = 0.999
"""The index's vectors may be float16 and made on another device; those of other weights are far below."""
LEAST_COSINE = {"onnx": 0.9999, "openvino": 0.9999, "onnx-int8": 0.9}
"""A format that comes less near to torch than this is broken and not written."""
PACKAGES = ("sdretrieval", "torch", "transformers", "sentence-transformers", "onnx", "onnxruntime", "openvino")


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
    lexical: LexicalIndex | None = None,
    probabilities: Probabilities | None = None,
    formats: Sequence[str] = ("torch",),
    vectors: Sequence[str] = (),
    include_texts: bool = True,
) -> Manifest:
    """Write the bundle `folder`; it appears whole or not at all, and replaces a bundle that is there. One process at a
    time writes `folder`; another waits.

    `vectors_ND` are the documents' vectors that `index` was built from: a few are computed again and compared, so that
    an index of other weights is never shipped. `lexical`: BM25, for hybrid search and for `probabilities` if these
    read words; it holds the documents' words, and is left out with the texts. Of `canary_queries` some 8 are taken,
    and as many documents; all of them tell how far the student's scores spread. `vectors`: `npy` and `parquet`, files
    of the documents' vectors for other stores.
    Raises RequestError (folder taken, counts that do not fit, no canary query, unknown format), MissingPackageError,
    ModelError, WorkError (the index is of another student, or a format's vectors leave torch's).
    """
    names, files = check_formats(formats), check_vectors(vectors)
    for format in names:
        for package in NEEDED.get(format, ()):
            need(package, format)
    _check_words(lexical, probabilities, index, include_texts)
    check_bundle_target(folder)
    _check_counts(documents, vectors_ND, index, canary_queries)
    student = load_student(
        str(student_folder), max_tokens=max_tokens, query_tokens=query_tokens, prompts=prompts, device="cpu"
    )
    student = _with_half(student, student_folder, include_texts)
    if student.dims != index.card.dims:
        raise RequestError(
            f"the student gives {student.dims} dims, the index holds {index.card.dims}; index its own vectors"
        )
    check_graph(student, names)
    with whole_folder(folder, partial(check_bundle_target, folder)) as work:
        # It holds prompts and lengths, so that `SentenceTransformer(folder)` alone does the same.
        _save(student, work)
        index.save(work / INDEX)
        (work / IDS).write_text(json.dumps(list(documents.ids)) + "\n", encoding="utf8")
        if include_texts:
            documents.write(work)
            if lexical is not None:
                lexical.save(work / LEXICAL)
        for kind in files:
            write_vectors(documents, vectors_ND, work, kind, texts=include_texts)
        if probabilities is not None:
            write_probabilities(probabilities, work)
        write_graphs(student, work, names)
        manifest = Manifest(
            name=card.name, formats=names, dims=student.dims, documents=len(documents),
            max_tokens=student.view.max_tokens, query_tokens=student.query_view.max_tokens, prompts=student.prompts,
            canaries=NO_CANARIES, lineage=card.lineage() | {"student_digest": student.digest}, versions=_versions(),
        )  # fmt: skip
        written = open_encoder(work, manifest, "torch")
        canaries = _canaries(written, documents, vectors_ND, index, canary_queries, probabilities)
        canaries.save_vectors(work)
        agreements = _agreements(work, manifest, index, documents.ids, canaries)
        spread = measure_spread(written, index, [query for query in canary_queries if query.strip()])
        manifest = replace(manifest, canaries=canaries.texts, agreement=agreements, spread=spread)
        served = Served(
            manifest.prompts, manifest.max_tokens, manifest.query_tokens, manifest.dims, agreements, student.digest,
            two_encoders=student.document_encoder is not None,
            half_dims=student.half.dims if student.half else 0, system=card.system,
        )  # fmt: skip
        (work / CARD).write_text(encodable(model_card(card, served)), encoding="utf8")
        manifest = replace(manifest, files=digests(work))
        manifest.write(work)
    logger.info("%s: %s, %s", folder, ", ".join(names), quantity(manifest.documents, "documents"))
    return manifest


def _canaries(
    encoder: TextEncoder, documents: IndexedDocuments, vectors_ND: Array, index: VectorIndex,
    canary_queries: Sequence[str], probabilities: Probabilities | None,
) -> Canaries:  # fmt: skip
    """Made by what was written, not by what is in memory; the documents' must be those of the index."""
    # Every document is a candidate, but reading all texts of a large corpus to choose eight would be waste.
    positions = sorted({round(n) for n in np.linspace(0, len(documents) - 1, 64)})
    rows = [positions[n] for n in spread([documents.full_text(row) for row in positions])]
    queries = [canary_queries[n] for n in spread(canary_queries)]
    texts = [documents.full_text(row) for row in rows]
    canaries = make_canaries(encoder, queries, texts, index, documents.ids, probabilities)
    lowest = float(nearness(np.asarray(vectors_ND[rows], dtype=np.float32), canaries.documents_CD).min())
    if lowest < SAME_VECTORS:
        raise WorkError(
            "export: the index was not built by this student: its vectors and the student's of the same documents "
            f"have a cosine down to {lowest:.4f}, expected at least {SAME_VECTORS}; encode and index the documents "
            "with this student, its prompts and max_tokens"
        )
    return canaries


def _agreements(
    work: Path, manifest: Manifest, index: VectorIndex, ids: Sequence[str], canaries: Canaries
) -> dict[str, Agreement]:
    agreements: dict[str, Agreement] = {}
    for format in manifest.formats[1:]:
        exact = format != "onnx-int8"
        near = agreement(canaries, open_encoder(work, manifest, format), index, ids, exact)
        if near.cosine < LEAST_COSINE[format]:
            raise WorkError(
                f"export: format {format} gives other vectors than torch: lowest cosine {near.cosine:.4f} on the "
                f"canaries, expected at least {LEAST_COSINE[format]}; leave this format out"
            )
        agreements[format] = near
    return agreements


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def check_bundle_target(folder: Path) -> None:
    """Raise RequestError if no bundle can be written to `folder`: only a bundle is replaced."""
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"export target {folder} is a file; give a folder that is new, empty or a bundle")
    if folder.is_dir() and any(folder.iterdir()) and not is_bundle(folder):
        names = sorted(path.name for path in folder.iterdir())
        raise RequestError(
            f"export target {folder} is not empty and no bundle (it holds {', '.join(names[:5])}"
            f"{' ...' if len(names) > 5 else ''}); only a bundle is replaced: give a new folder, or empty this one"
        )
    check_target(folder, "export target")


def check_vectors(kinds: Sequence[str]) -> tuple[VectorFile, ...]:
    """The kinds asked for, each once. Raises RequestError for an unknown one."""
    for kind in kinds:
        if kind not in VECTORS:
            raise RequestError(f"--vectors {kind}: expected {' or '.join(VECTORS)}")
    return tuple(kind for kind in VECTORS if kind in kinds)


def _with_half(student: Student, folder: Path, include_texts: bool) -> Student:
    student = with_half(student, folder)
    if student.half is not None and not include_texts:
        raise RequestError(
            "export: the student's lexical half holds the documents' words, which --no-texts leaves out; export with "
            "texts, or train a student without student.lexical_half"
        )
    return student


def _save(student: Student, folder: Path) -> None:
    from sdretrieval.indexes.half_module import save_with_half

    if student.half is None:
        save_student(student.model, folder, student.document_encoder)
    else:
        save_with_half(student.model, student.half, folder, student.document_encoder)
    write_common_form(folder)


def _check_words(
    lexical: LexicalIndex | None, probabilities: Probabilities | None, index: VectorIndex, include_texts: bool
) -> None:
    reads_words = probabilities is not None and probabilities.lexical is not None
    if reads_words and (lexical is None or not include_texts):
        raise RequestError(
            "export: the probabilities read the documents' words, which BM25 holds; give it, or leave both out with "
            "the texts"
        )
    if lexical is not None and lexical.count != index.card.count:
        raise RequestError(
            f"export: BM25 holds {lexical.count} documents, the index {index.card.count}; build it from the same ones"
        )


def _check_counts(documents: IndexedDocuments, vectors_ND: Array, index: VectorIndex, queries: Sequence[str]) -> None:
    counts = {
        "ids": len(documents), "titles": len(documents.titles), "texts": len(documents.texts),
        "vectors": len(vectors_ND), "index rows": index.card.count,
    }  # fmt: skip
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{count} {what}" for what, count in counts.items())
        raise RequestError(f"export: the documents do not fit together: {listed}; all five must be of one corpus")
    if not spread(queries):
        raise RequestError("export: no canary query that is not empty; give at least one query of the corpus")
