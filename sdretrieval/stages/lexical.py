"""Stage 0/lexical: BM25 over whole documents."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

from sdretrieval.corpus.language import AUTO, NO_STEMMER, detect, sample
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.run import Run
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

logger = logging.getLogger("sdretrieval")


class Lexical(Artifact):
    """The BM25 index."""

    @cached_property
    def index(self) -> LexicalIndex:
        """Opened."""
        return LexicalIndex.load(self.path)


def index_words(run: Run, collected: Collection) -> Lexical:
    """BM25 over whole documents."""
    cfg = run.config.mine
    identity = {"split_identifiers": cfg.split_identifiers, "language": cfg.language}

    def build(work: Work) -> None:
        index = build_lexical(collected.corpus.document_texts(), cfg.split_identifiers, cfg.language)
        index.save(work.folder)
        work.counts["documents"] = index.count

    made = run.runner.stage("0/lexical", 3, identity, [collected.made], build)
    return Lexical(made.key, made.path)


def build_lexical(texts: Sequence[str], split_identifiers: bool, language: str) -> LexicalIndex:
    """BM25 over `texts`; says in the log which language was recognised, and what casts doubt on the choice."""
    detected = detect(sample(texts))
    stemmer = detected.stemmer if language == AUTO else language
    how = "stems nothing" if stemmer == NO_STEMMER else f"stems as {stemmer}"
    logger.info("BM25 %s (mine.language: %s); the documents' %s", how, language, detected.line())
    doubt = detected.doubt(language)
    if doubt:
        logger.warning("BM25: %s", doubt)
    return LexicalIndex.build(texts, split_identifiers=split_identifiers, language=stemmer)
