"""The kinds of query that a document gives by itself, each with what is left of the document without it.

A span is the inverse cloze task of Lee, Chang and Toutanova (ACL 2019) with short queries; a title as the query of its
text was used by Cheng et al. (2023) and others; keywords are what people type into a search box; a seq2seq model writes
questions (docT5query, Nogueira and Lin 2019). Words are counted as a tokenizer would: in scripts that put no spaces
between words each character is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sdretrieval.corpus.read.documents.blocks import WORD, one_line, runs_of_words, sentences, word_count
from sdretrieval.corpus.read.documents.cut import BETWEEN_HEADINGS
from sdretrieval.corpus.text import normalised
from sdretrieval.corpus.types import joined
from sdretrieval.errors import ModelError
from sdretrieval.synthetic_queries.recipe import Writer

LEAST_TITLE_WORDS, LEAST_HEADING_WORDS, LEAST_LEADING_WORDS = 3, 2, 4
LEAST_SPAN_WORDS, MOST_SPAN_WORDS = 6, 12
MOST_HEADING_WORDS = 12
LEAST_LEFT_WORDS = 8
"""If removing the query left fewer words, nothing would be left to find: then it is not removed."""

MARKDOWN_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+(?P<text>\S.*?)[ \t#]*$|^(?P<over>\S.*)\n[=\-~^]{3,}[ \t]*$", re.M)

FEWEST, MOST = 2, 5
"""Words of a query."""
SAMPLE = 20_000
"""Documents on which rarity is counted: enough to tell rare from common, bounded for a large corpus."""
MOST_INPUT_TOKENS, MOST_QUERY_TOKENS = 384, 48
TOP_K = 10
"""Sampled from the best ten words at each step, as docT5query does: the single best query of a document is dull."""
TEXTS_AT_ONCE = 16


def plain(text: str) -> str:
    """A text as it is searched for a query: `normalised`, the path of headings above a passage as words."""
    return normalised(text.replace(BETWEEN_HEADINGS, " "))


class Taken(NamedTuple):
    """A query's text, and the document without it (None if too little is left)."""

    text: str
    query_removed: str | None


Taker = Callable[[str, str, np.random.Generator], Taken | None]
"""From a document's title and text to a query; None if it has none of this kind."""


def title_of(title: str, text: str, generator: np.random.Generator) -> Taken | None:
    """The title; of a passage below headings (`Manual > Install`) all of them."""
    words = one_line(title.replace(BETWEEN_HEADINGS, " "))
    if word_count(words) < LEAST_TITLE_WORDS:
        return None
    return Taken(words, _left("", text.replace(title, " ") if title in text else text))


def heading_of(title: str, text: str, generator: np.random.Generator) -> Taken | None:
    """The heading right above a passage, or one that is in the text."""
    above, _, last = title.rpartition(BETWEEN_HEADINGS)
    headings = [Taken(one_line(last), _left(above, text.replace(last, " ")))] if above else []
    for match in MARKDOWN_HEADING.finditer(text):
        heading = match["text"] or match["over"]
        headings.append(Taken(one_line(heading), _left(title, text[: match.start()] + text[match.end() :])))
    fitting = [one for one in headings if LEAST_HEADING_WORDS <= word_count(one.text) <= MOST_HEADING_WORDS]
    return fitting[generator.integers(len(fitting))] if fitting else None


def leading_of(title: str, text: str, generator: np.random.Generator) -> Taken | None:
    """The first sentence, shortened."""
    for sentence in _sentences(text)[:1]:
        if word_count(sentence) >= LEAST_LEADING_WORDS:
            shown = runs_of_words(sentence, MOST_SPAN_WORDS)[0]
            return Taken(one_line(shown), _without(title, text, sentence, shown))
    return None


def span_of(title: str, text: str, generator: np.random.Generator) -> Taken | None:
    """A run of words of one sentence; of the whole text where no sentence is long enough (code, lists)."""
    long_enough = [sentence for sentence in _sentences(text) if word_count(sentence) >= LEAST_SPAN_WORDS]
    if not long_enough and word_count(text) < LEAST_SPAN_WORDS:
        return None
    whole = long_enough[generator.integers(len(long_enough))] if long_enough else text
    words = list(WORD.finditer(whole))
    length = int(generator.integers(LEAST_SPAN_WORDS, min(MOST_SPAN_WORDS, len(words)) + 1))
    start = int(generator.integers(len(words) - length + 1))
    span = whole[words[start].start() : words[start + length - 1].end()]
    return Taken(one_line(span), _without(title, text, whole, span))


def _sentences(text: str) -> list[str]:
    return [part.strip() for line in text.splitlines() for part in sentences(line)]


def _without(title: str, text: str, sentence: str, words: str) -> str | None:
    """The document without the sentence that the words were taken from; where that is nearly all, without the words."""
    return _left(title, text.replace(sentence, " ", 1)) or _left(title, text.replace(words, " ", 1))


def _left(title: str, text: str) -> str | None:
    left = joined(title, text.strip())
    return left if word_count(left) >= LEAST_LEFT_WORDS else None


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
        """A few of the best words, in the order in which the text has them; None if it has too few."""
        if self._words is None:
            return None
        row = self._vectorizer.transform([text])
        length = int(generator.integers(FEWEST, MOST + 1))
        best = [self._words[i] for i in row.indices[np.argsort(-row.data, kind="stable")[:length]]]
        lower = text.lower()
        return " ".join(sorted(best, key=lower.find)) if len(best) >= FEWEST else None


def load_writer(folder: Path, prompt: str, seed: int, device: str) -> Writer:
    """A function from document texts to one query each; `prompt` is put before every text, as the model was trained.

    What it writes depends on `seed` and the texts alone. Raises ModelError if `folder` holds no seq2seq model.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        model = AutoModelForSeq2SeqLM.from_pretrained(str(folder)).to(device).eval()
    except (OSError, ValueError, KeyError) as problem:
        raise ModelError(
            f"corpus.generate.writer.model: {folder} does not load as a seq2seq model that writes queries: {problem}; "
            "choose one such as doc2query/msmarco-t5-small-v1"
        ) from problem

    def write(texts: Sequence[str]) -> list[str]:
        queries: list[str] = []
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                block = [prompt + text for text in texts[start : start + TEXTS_AT_ONCE]]
                features = tokenizer(
                    block, truncation=True, max_length=MOST_INPUT_TOKENS, padding=True, return_tensors="pt"
                ).to(device)
                written = model.generate(**features, max_new_tokens=MOST_QUERY_TOKENS, do_sample=True, top_k=TOP_K)
                queries += [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
        return queries

    return write
