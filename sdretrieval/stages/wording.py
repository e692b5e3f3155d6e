"""How BM25 reads a corpus: by which words, in which language."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sdretrieval.corpus.language import AUTO, NO_STEMMER, detect, sample
from sdretrieval.indexes.lexical import LexicalIndex

logger = logging.getLogger("sdretrieval")


def build_index(texts: Sequence[str], split_identifiers: bool, language: str) -> LexicalIndex:
    """BM25 over whole documents; says in the log which language was recognised, and where that casts doubt."""
    found = detect(sample(texts))
    stemmer = found.stemmer if language == AUTO else language
    how = "stems nothing" if stemmer == NO_STEMMER else f"stems as {stemmer}"
    logger.info("BM25 %s (mine.language: %s); the documents' %s", how, language, found.line())
    doubt = found.doubt(language)
    if doubt:
        logger.warning("BM25: %s", doubt)
    return LexicalIndex.build(texts, split_identifiers=split_identifiers, language=stemmer)
