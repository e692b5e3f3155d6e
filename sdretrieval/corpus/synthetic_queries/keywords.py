"""The words that tell a document from the others, by tf-idf: a query as people type it into a search box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST, MOST = 2, 5
"""Words of a query."""
SAMPLE = 20_000
"""Documents on which rarity is counted: enough to tell rare from common, bounded for a large corpus."""


class Keywords:
    """Rarity of words in `texts` (a sample of the corpus); `query` picks those of one text."""

    def __init__(self, texts: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", dtype=np.float32)
        try:
            self._vectorizer.fit(texts)
        except ValueError:  # no text holds a word: scripts without spaces, or nothing but stop words
            self._words: list[str] | None = None
            return
        self._words = self._vectorizer.get_feature_names_out().tolist()

    def query(self, text: str, generator: np.random.Generator) -> str | None:
        """A few of the best words, in the order in which the text has them; None where it has too few."""
        if self._words is None:
            return None
        row = self._vectorizer.transform([text])
        length = int(generator.integers(FEWEST, MOST + 1))
        best = [self._words[i] for i in row.indices[np.argsort(-row.data, kind="stable")[:length]]]
        lower = text.lower()
        return " ".join(sorted(best, key=lower.find)) if len(best) >= FEWEST else None
