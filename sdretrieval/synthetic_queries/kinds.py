"""The kinds of query that a document gives by itself, each with what is left of the document without it.

A sentence is the inverse cloze task of Lee, Chang and Toutanova (ACL 2019); a title as the query of its text was used
by Cheng et al. (2023) and others; keywords are what people type into a search box; a seq2seq model writes questions
(docT5query, Nogueira and Lin 2019). Words are counted as a tokenizer would: in scripts that put no spaces between words
each character is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sdretrieval.corpus.read.documents.blocks import WORD, one_line, sentences, word_count
from sdretrieval.corpus.read.documents.cut import BETWEEN_HEADINGS
from sdretrieval.corpus.text import normalised
from sdretrieval.corpus.types import joined
from sdretrieval.errors import ModelError
from sdretrieval.synthetic_queries.recipe import Writer

LEAST_TITLE_WORDS, LEAST_HEADING_WORDS, LEAST_SENTENCE_WORDS = 3, 2, 6
MOST_HEADING_WORDS, MOST_SENTENCE_WORDS = 12, 24
LEAST_LEFT_WORDS = 8
"""If the source of the query were removed and fewer words remained, nothing would be left to find: then it stays."""

MARKDOWN_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+(?P<text>\S.*?)[ \t#]*$|^(?P<over>\S.*)\n[=\-~^]{3,}[ \t]*$", re.M)

QUESTIONS = ("what is {}?", "how is {} done?", "what is there about {}?")
QUESTION_WORDS = frozenset("what how why when where who which is are can could do does should will".split())
FEWEST, MOST = 2, 6
"""Keywords of a query."""
FROM_BEST = 15
"""Keywords are drawn from so many of a document's best words, each as likely as it weighs: people do not type the
rarest words of a document, which they have not seen."""
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
    """A query's text, and the document without the title, heading or sentence that it was made from."""

    text: str
    query_removed: str


Taker = Callable[[str, str, int | None, np.random.Generator], Taken | None]
"""From a document's title and text, and the words that the query should have, to a query; None if there is none."""


def title_of(title: str, text: str, length: int | None, generator: np.random.Generator) -> Taken | None:
    """The title; of a passage below headings (`Manual > Install`) all of them."""
    words = one_line(title.replace(BETWEEN_HEADINGS, " "))
    if word_count(words) < LEAST_TITLE_WORDS:
        return None
    return Taken(words, _left("", text.replace(title, " ") if title in text else text, joined(title, text)))


def question_of(title: str, text: str, length: int | None, generator: np.random.Generator) -> Taken | None:
    """A question made of a heading: the one right above a passage, one in the text, or else the title."""
    whole = joined(title, text)
    above, _, last = title.rpartition(BETWEEN_HEADINGS)
    headings = [Taken(one_line(last), _left(above, text.replace(last, " "), whole))] if last else []
    for match in MARKDOWN_HEADING.finditer(text):
        heading = match["text"] or match["over"]
        headings.append(Taken(one_line(heading), _left(title, text[: match.start()] + text[match.end() :], whole)))
    fitting = [one for one in headings if LEAST_HEADING_WORDS <= word_count(one.text) <= MOST_HEADING_WORDS]
    if not fitting:
        return None
    heading, left = fitting[generator.integers(len(fitting))]
    return Taken(asked(heading, QUESTIONS[generator.integers(len(QUESTIONS))]), left)


def asked(heading: str, question: str) -> str:
    """A heading as a question; one that is a question already stays as it is."""
    first = heading.split(maxsplit=1)[0].lower()
    if heading.endswith("?") or first in QUESTION_WORDS:
        return heading
    lower = heading if heading[:2].isupper() else heading[:1].lower() + heading[1:]
    return question.format(lower.rstrip(" .:"))


def sentence_of(title: str, text: str, length: int | None, generator: np.random.Generator) -> Taken | None:
    """A sentence, as a claim is one; a run of `length` words of it, or of at most 24."""
    parts = [part.strip() for line in text.splitlines() for part in sentences(line)]
    long_enough = [part for part in parts if word_count(part) >= LEAST_SENTENCE_WORDS]
    if not long_enough and word_count(text) < LEAST_SENTENCE_WORDS:
        return None
    whole = long_enough[generator.integers(len(long_enough))] if long_enough else text  # code, lists
    words = list(WORD.finditer(whole))
    count = min(max(length or MOST_SENTENCE_WORDS, LEAST_SENTENCE_WORDS), MOST_SENTENCE_WORDS, len(words))
    start = int(generator.integers(len(words) - count + 1))
    shown = whole[words[start].start() : words[start + count - 1].end()]
    rest = _left(title, text.replace(whole, " ", 1), "") or _left(title, text.replace(shown, " ", 1), "")
    return Taken(one_line(shown), rest or joined(title, text))


def _left(title: str, text: str, otherwise: str) -> str:
    left = joined(title, text.strip())
    return left if word_count(left) >= LEAST_LEFT_WORDS else otherwise


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

    def query(self, text: str, length: int | None, generator: np.random.Generator) -> str | None:
        """A few of the best words, in the order in which the text has them; None if it has too few."""
        if self._words is None:
            return None
        row = self._vectorizer.transform([text])
        best = np.argsort(-row.data, kind="stable")[:FROM_BEST]
        if len(best) < FEWEST:
            return None
        count = min(max(length or int(generator.integers(FEWEST, MOST + 1)), FEWEST), MOST, len(best))
        weights = row.data[best].astype(np.float64)
        drawn = generator.choice(best, size=count, replace=False, p=weights / weights.sum())
        lower = text.lower()
        return " ".join(sorted((self._words[row.indices[i]] for i in drawn), key=lower.find))


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
