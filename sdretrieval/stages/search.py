"""Vectors, index, mined candidates; and each system's run over a split."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sdretrieval.config import Config, index_keywords
from sdretrieval.encode.encoder import Precision, encode_texts
from sdretrieval.encode.reuse import Donor
from sdretrieval.encode.student import Student
from sdretrieval.encode.views import Specials, View
from sdretrieval.evaluation import Measured, Run, evaluate, run_from_hits, write_trec
from sdretrieval.indexes.exact import exact_search
from sdretrieval.indexes.hits import Hits
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.mining.candidates import Candidates
from sdretrieval.mining.mine import duplicate_groups, mine
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.inputs import Asking, Prepared, TextTokens, Vectors, donors_among
from sdretrieval.stages.masks import dense_masks, lexical_masks
from sdretrieval.stages.prepare import judgements, known_positives
from sdretrieval.store import Kin, Work
from sdretrieval.store.runner import Artifact

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Searches(Protocol):
    """A `VectorIndex`, or what is searched without one."""

    def search(self, queries_QD: Array, k: int) -> Hits:
        """See VectorIndex.search."""


@dataclass(frozen=True)
class Unindexed:
    """Exact search as an index."""

    vectors_ND: Array

    def search(self, queries_QD: Array, k: int) -> Hits:
        """See VectorIndex.search."""
        return exact_search(self.vectors_ND, queries_QD, min(k, len(self.vectors_ND)))


SPARE = 1
"""Hits asked for beyond the depth, so that a query's own document can be removed without a gap."""


def build_vectors(
    work: Work, student: Student, tokens: TextTokens, view: View, batch_tokens: int | None, precision: Precision,
    what: str, measuring: int = 0, also_from: Sequence[Path] = (), documents: bool = True,
) -> None:  # fmt: skip
    """All windows of all documents under `view`, all queries, and the `measuring` masked documents that measure.

    What an earlier corpus had is copied, and what the artifacts `also_from` hold of the same student. Without
    `documents`, queries and masked documents alone.
    """
    encoding = Encoding(work, student, batch_tokens, precision, what, also_from)
    if documents:
        encoding.documents("document", "documents", tokens.documents, view)
    encoding.queries(tokens.queries)
    if measuring and tokens.masked is not None:
        encoding.documents("masked", "masked", tokens.masked.first(measuring), view)


def build_query_vectors(
    work: Work, student: Student, tokens: TextTokens, documents: Path, batch_tokens: int | None, precision: Precision,
    what: str,
) -> None:  # fmt: skip
    """All queries. Documents' vectors are those of `documents`, the base student's artifact: no document is encoded."""
    for side in ("documents", "masked"):
        if (documents / side).is_dir():
            _share(documents / side, work.folder / side)
    work.counts["document_windows"] = 0
    Encoding(work, student, batch_tokens, precision, what).queries(tokens.queries)


def _share(source: Path, target: Path) -> None:
    """The same files under a second name, which costs no room and outlives the first; copies where disks have none."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copy2(file, target / file.name)


def build_hidden(
    work: Work, student: Student, tokens: TextTokens, view: View, batch_tokens: int | None, precision: Precision,
    what: str,
) -> None:  # fmt: skip
    """`masked/`: of every document without the query that was made from it, those of training queries too."""
    if tokens.masked is not None:
        Encoding(work, student, batch_tokens, precision, what).documents("masked", "masked", tokens.masked, view)


@dataclass(frozen=True)
class Encoding:
    """How a student's texts are encoded into folders of `work`, and counted there."""

    work: Work
    student: Student
    batch_tokens: int | None
    precision: Precision
    what: str
    also_from: Sequence[Path] = ()

    def documents(self, kind: str, side: str, texts: Ragged, view: View) -> None:
        """All windows of `texts` under `view`."""
        self._encode(kind, side, texts, view, self.student.document_model, self.student.document_specials)

    def queries(self, texts: Ragged) -> None:
        """One vector a query."""
        student = self.student
        self._encode("query", "queries", texts, student.query_view, student.model, student.query_specials)

    def _encode(
        self, kind: str, side: str, texts: Ragged, seen: View, model: SentenceTransformer, specials: Specials
    ) -> None:
        work = self.work
        (work.folder / side).mkdir(exist_ok=True)
        found, reused = encode_texts(
            model,
            texts,
            seen,
            specials,
            work.folder / side,
            batch_tokens=self.batch_tokens,
            precision=self.precision,
            description=f"{self.what} {side}",
            donors=[*(Donor(folder / side) for folder in self.also_from), *donors_among(self._kin, side)],
        )
        work.counts[f"{kind}_windows"] = len(found.vectors_WD)
        work.counts[f"{kind}_windows_reused"] = reused
        work.counts[f"{kind}_tokens"] = int(
            sum(b - a for n in texts.lengths.tolist() for a, b in seen.spans(n, specials.count))
        )

    @cached_property
    def _kin(self) -> list[Kin]:
        return self.work.kin()


def build_index(work: Work, vectors: Vectors, prepared: Prepared, config: Config) -> None:
    """The FAISS index of the documents' vectors, with its measured card."""
    asked = config.index
    queries = vectors.queries_QD[prepared.train_rows[:200]]
    index = VectorIndex.build(
        vectors.documents.vectors_WD,
        asked.kind,
        asked.device,
        queries_QD=queries,
        seed=config.seed,
        repeatable=True,
        **index_keywords(asked),
    )
    index.save(work.folder)
    work.counts["vectors"] = len(vectors.documents.vectors_WD)
    work.counts["recall_at_100"] = index.card.recall_at_100
    if index.card.recall_at_10 is not None:
        work.counts["recall_at_10"] = index.card.recall_at_10


def build_candidates(
    work: Work, rows: Array, prepared: Prepared, vectors: Vectors, index: VectorIndex, lexical: LexicalIndex | None,
    config: Config, *, use_labels: bool,
) -> None:  # fmt: skip
    """Mined lists of training (or dev) queries; lists with fewer than two documents teach nothing and are left out."""
    asked, corpus = config.mine, prepared.corpus
    queries_QD = vectors.queries_QD[rows]
    depth = min(asked.depth, len(corpus.documents))
    dense = index.search(queries_QD, min(depth + SPARE, len(corpus.documents)))
    texts = corpus.query_texts(rows.tolist())
    candidates, report = mine(
        rows,
        dense,
        lexical.search(texts, depth) if lexical is not None else None,
        known_positives(prepared, rows.tolist(), use_labels),
        lambda q, documents: np.asarray(vectors.documents.vectors_WD[documents]) @ queries_QD[q],
        depth=depth,
        keep=asked.keep,
        top_share=asked.top_share,
        duplicate_group_N=duplicate_groups(corpus.document_texts()),
        own_document_Q=prepared.own_documents(rows),
        seed=config.seed,
    )
    enough = np.flatnonzero(candidates.rows.lengths >= 2)
    candidates.take(enough).save(work.folder)
    (work.folder / "report.json").write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf8")
    work.counts.update(queries=len(enough), candidates=int(candidates.rows.lengths.sum()))


def load_candidates(artifact: Artifact) -> Candidates:
    """The mined lists."""
    return Candidates.load(artifact.path)


def dense_hits(prepared: Prepared, split: str, vectors: Asking, index: Searches, k: int) -> Hits:
    """The student's best k documents of each of a split's queries; one made from a document meets it masked."""
    rows, k = prepared.rows_of(split), min(k, len(prepared.corpus.documents))
    hits = index.search(vectors.queries_QD[rows], k + SPARE)
    masks = dense_masks(prepared, split, vectors)
    return masks.correct_hits(rows, hits, k) if masks.document else Hits(hits.rows_Qk[:, :k], hits.scores_Qk[:, :k])


def lexical_hits(prepared: Prepared, split: str, lexical: LexicalIndex, k: int) -> Hits:
    """The same of BM25."""
    rows, k = prepared.rows_of(split), min(k, len(prepared.corpus.documents))
    hits = lexical.search(prepared.corpus.query_texts(rows.tolist()), k + SPARE)
    masks = lexical_masks(prepared, split, lexical).without_zeros()  # no shared word is no hit
    return masks.correct_hits(rows, hits, k) if masks.document else Hits(hits.rows_Qk[:, :k], hits.scores_Qk[:, :k])


def dense_run(prepared: Prepared, split: str, vectors: Asking, index: Searches, depth: int) -> Run:
    """The student's run over a split."""
    return _run(prepared, split, dense_hits(prepared, split, vectors, index, depth + SPARE), depth)


def lexical_run(prepared: Prepared, split: str, lexical: LexicalIndex, depth: int) -> Run:
    """BM25's run over a split."""
    return _run(prepared, split, lexical_hits(prepared, split, lexical, depth + SPARE), depth)


def _run(prepared: Prepared, split: str, hits: Hits, depth: int) -> Run:
    corpus = prepared.corpus
    ids = [corpus.query_ids[row] for row in prepared.rows_of(split)]
    return cut(run_from_hits(ids, corpus.document_ids, *hits), depth)


def cut(run: Run, depth: int) -> Run:
    """The best `depth` documents of each query."""
    return {query: dict(sorted(hits.items(), key=lambda hit: (-hit[1], hit[0]))[:depth]) for query, hits in run.items()}


def write_measured(work: Work, run: Run, prepared: Prepared, split: str, measures: Sequence[str], system: str) -> None:
    """`run.trec` and `measured.json` (per query) of one system over one split."""
    measured = evaluate(judgements(prepared, split), run, measures)
    write_trec(run, work.folder / "run.trec", system)
    record = {"system": system, "split": split, "per_query": {m: dict(measured.of(m)) for m in measures}}
    (work.folder / "measured.json").write_text(json.dumps(record) + "\n", encoding="utf8")
    work.counts.update(queries=measured.n_queries, **measured.means())


def read_measured(artifact: Artifact) -> Measured:
    """What `write_measured` wrote."""
    record = json.loads((artifact.path / "measured.json").read_text(encoding="utf8"))
    return Measured(record["per_query"])
