"""From what a user types as a corpus to the corpus."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from sdretrieval.corpus.read.tables import Columns, Imported
from sdretrieval.corpus.sources import find_source
from sdretrieval.corpus.text import hash_rank
from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import CorpusError

logger = logging.getLogger("sdretrieval")

LIMIT_SEED = 13
"""Which documents a limited corpus keeps belongs to the corpus, not to a run: the seed is fixed."""


def open_corpus(
    source: str,
    cache: Path | None = None,
    max_documents: int | None = None,
    keep_positives_of: Collection[str] | None = None,
) -> Corpus:
    """The corpus that `source` names: a BEIR folder, `beir:NAME`, a table of documents, a saved dataset, `hf:NAME`, a
    folder of text files or `python-stdlib`. What was wrong with texts is logged; `import_corpus` returns it.

    `cache` is where downloads are kept (None: `default_cache()`). `max_documents` cuts the corpus, see
    `limit_documents` (and `keep_positives_of` there); python-stdlib is built with that many at once.

    Raises `CorpusError` saying what is understood, with a guess at what was meant.
    """
    imported = import_corpus(source, cache, max_documents)
    for report in imported.reports:
        if report.troubles:
            logger.warning("%s", "\n".join(report.lines()))
    corpus = imported.corpus
    return corpus if max_documents is None else limit_documents(corpus, max_documents, keep_positives_of)


def import_corpus(
    source: str, cache: Path | None = None, max_documents: int | None = None, columns: Columns | None = None
) -> Imported:
    """As `open_corpus`, with what was met while reading. `columns` names those of a table of documents.

    `max_documents` limits what is built (python-stdlib) only; cut the rest by `limit_documents` when judgements are in.
    """
    if max_documents is not None and max_documents < 1:
        raise CorpusError(f"max_documents is {max_documents}, expected 1 or more.")
    return find_source(source, cache, columns).read(max_documents)


def limit_documents(corpus: Corpus, max_documents: int, keep_positives_of: Collection[str] | None = None) -> Corpus:
    """`corpus` cut to `max_documents`, for trying things out: its figures compare with no published ones.

    Documents with a positive judgement stay first, a hash chooses among equals. Queries that lose all positives lose
    their judgements; the name says how many documents are left. `keep_positives_of`: the splits whose judgements may
    decide what stays (None: all); the others' judgements are left as they are.
    """
    if len(corpus.documents) <= max_documents:
        return corpus
    deciding = set(corpus.qrels) if keep_positives_of is None else set(keep_positives_of) & set(corpus.qrels)
    judged_lists = [judged for split in deciding for judged in corpus.qrels[split].values()]
    positive = {document for judged in judged_lists for document, grade in judged.items() if grade > 0}
    ids = corpus.document_ids
    ranked = sorted(range(len(ids)), key=lambda row: (ids[row] not in positive, hash_rank(LIMIT_SEED, ids[row])))
    rows = sorted(ranked[:max_documents])
    return replace(
        corpus,
        name=f"{corpus.name}-{max_documents}",
        documents=corpus.documents.select(rows),
        qrels={**corpus.qrels, **_qrels_within(corpus, [ids[row] for row in rows], deciding)},
    )


def _qrels_within(corpus: Corpus, kept: Sequence[str], splits: Collection[str]) -> dict[str, dict[str, dict[str, int]]]:
    present = set(kept)
    limited: dict[str, dict[str, dict[str, int]]] = {}
    for split in splits:
        qrels = corpus.qrels[split]
        judged = {query: {d: g for d, g in grades.items() if d in present} for query, grades in qrels.items()}
        limited[split] = {query: grades for query, grades in judged.items() if any(g > 0 for g in grades.values())}
    return limited
