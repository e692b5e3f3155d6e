"""How BM25 reads a corpus: by which words, in which language."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sdretrieval.corpus.language import AUTO, Language, detect, sample
from sdretrieval.indexes.lexical import LexicalIndex

logger = logging.getLogger("sdretrieval")


def build_index(texts: Sequence[str], split_identifiers: bool, language: str) -> LexicalIndex:
    """BM25 over whole documents; says in the log which language was recognised, and where that casts doubt."""
    found = detect(sample(texts))
    logger.info("BM25: %s", found.line())
    doubt = found.doubt(language)
    if doubt:
        logger.warning("BM25: %s", doubt)
    return LexicalIndex.build(texts, split_identifiers=split_identifiers, language=chosen_language(language, found))


def chosen_language(asked: str, found: Language) -> str:
    """`auto` takes what was recognised; where nothing was, nothing is stemmed."""
    if asked != AUTO:
        return asked
    logger.info("mine.language: auto stems as %s", found.stemmer)
    return found.stemmer
