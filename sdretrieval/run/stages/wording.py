"""How BM25 reads a corpus: by which words, in which language; and what of it stands in keys."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdretrieval.corpus import Corpus, load_corpus
from sdretrieval.corpus.language import AUTO, ENGLISH, Language, detect, sample
from sdretrieval.corpus.scripts import needs_care
from sdretrieval.errors import CorpusError, DamagedArtifact
from sdretrieval.indexes.lexical import LexicalIndex

logger = logging.getLogger("sdretrieval")

SCRIPTS_VERSION = 1
"""Of how texts are read that `\\w` misreads (`corpus.scripts`): raise it where their terms change."""
TEXTS_A_BATCH = 1000


def lexical_identity(split_identifiers: bool, language: str, with_care: bool) -> dict[str, Any]:
    """What decides the terms beside the texts.

    The language is left out where it is English, and the reading of scripts without spaces where the corpus has none
    (not `with_care`): the terms are then those of the time when there was no choice, and what was made then is found.
    """
    identity: dict[str, Any] = {"split_identifiers": split_identifiers}
    if language != ENGLISH:
        identity["language"] = language
    if with_care:
        identity["scripts"] = SCRIPTS_VERSION
    return identity


_CARE: dict[Path, bool] = {}
"""Outline, plan and run ask in one process, and an English corpus is read to its end."""


def saved_needs_care(artifact: Path) -> bool:
    """`any_needs_care` of a corpus stage's artifact; no where it is not made yet, or damaged and so will be made anew:
    then nothing that was made from it can be there either."""
    if artifact not in _CARE and artifact.exists():
        try:
            _CARE[artifact] = any_needs_care(load_corpus(artifact / "corpus"))
        except (CorpusError, DamagedArtifact, OSError, ValueError) as problem:  # the stage says it, and makes it anew
            logger.debug("%s: %s", artifact, problem)
    return _CARE.get(artifact, False)


def any_needs_care(corpus: Corpus) -> bool:
    """Whether any document has scripts without spaces, combining marks or full-width letters."""
    count = len(corpus.documents)
    batches = (range(n, min(n + TEXTS_A_BATCH, count)) for n in range(0, count, TEXTS_A_BATCH))
    return any(needs_care(text) for rows in batches for text in corpus.document_texts(rows))


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
