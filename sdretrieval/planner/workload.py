"""How much there is to do, known before it is done: queries by split, and texts' lengths in tokens.

Lengths come from the store where the texts are tokenized, else from a sample of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.config import Config
from sdretrieval.encode.student import Student, words_folder
from sdretrieval.encode.tokens import specials_of, tokenize
from sdretrieval.encode.views import Specials, View
from sdretrieval.ragged import Array, Ragged
from sdretrieval.run.generations import Pipeline
from sdretrieval.stages import prepare
from sdretrieval.stages.guests import Guest
from sdretrieval.stages.inputs import GENERATED_TRAIN, Prepared, TextTokens
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

GUEST_SAMPLE = 500
"""Texts that are tokenized again for a dense teacher."""
SAMPLE = 2000
"""Texts whose tokens are counted: their mean lies within about 2 % of that of all, at the spread that texts have."""


@dataclass(frozen=True)
class Lengths:
    """Content token ids of some texts (`sample`), which stand for `count` texts."""

    sample: Ragged
    count: int

    @property
    def _times(self) -> float:
        return self.count / max(len(self.sample), 1)

    def total(self) -> float:
        """Tokens of all texts, uncut."""
        return float(self.sample.lengths.sum()) * self._times

    def seen(self, view: View, specials: Specials) -> float:
        """Content tokens that a view shows of all texts: those of overlapping windows count in each."""
        lengths_N, windows_N = self.sample.lengths, view.counts(self.sample.lengths, specials.count)
        room = max(view.max_tokens - specials.count, 0)  # of several windows, each is full
        shown_N = np.where(windows_N == 1, np.minimum(lengths_N, room), windows_N * room)
        return self._times * float(shown_N.sum())

    def mean_seen(self, view: View, specials: Specials) -> float:
        """Of a text, in the middle."""
        return self.seen(view, specials) / max(self.count, 1)

    def windows(self, view: View, specials: Specials) -> float:
        """Windows of all texts."""
        return float(view.counts(self.sample.lengths, specials.count).sum()) * self._times

    def first(self, count: int) -> Lengths:
        """As many texts of the same lengths."""
        return Lengths(self.sample, min(count, self.count))


@dataclass(frozen=True)
class Workload:
    """What a run works on. `splits`: judged queries by split; `train`: queries that are trained on; `made`: queries
    made from documents; `measuring`: documents that are also encoded without the query made from them.

    `document_texts`, `query_texts`: a few, for trials; `read_seconds`: what reading the collection took (0: it is in
    the store); `seconds_per_token`: of tokenizing (0: done).
    """

    documents: Lengths
    queries: Lengths
    masked: Lengths
    measuring: int
    train: int
    splits: dict[str, int]
    made: int
    document_texts: Sequence[str]
    query_texts: Sequence[str]
    read_seconds: float = 0.0
    seconds_per_token: float = 0.0

    @property
    def texts(self) -> int:
        """Documents, queries and masked documents."""
        return self.documents.count + self.queries.count + self.masked.count


def workload_of(pipeline: Pipeline, student: Student, *, sample: int = SAMPLE) -> Workload:
    """The workload of a pipeline that plans: of it, nothing is made. Raises CorpusError as reading the corpus does."""
    start = time.perf_counter()
    with _collected(pipeline) as prepared:
        read = 0.0 if pipeline.corpus.path.exists() else time.perf_counter() - start
        rows = {side: _drawn(count, sample) for side, count in _counts(prepared).items()}
        texts = {
            "documents": prepared.corpus.document_texts(rows["documents"].tolist()),
            "queries": prepared.corpus.query_texts(rows["queries"].tolist()),
            "masked": [prepared.masked[row].text for row in rows["masked"].tolist()],
        }
        start = time.perf_counter()
        ids = {side: tokenize(some, student.model.tokenizer, f"sample of {side}") for side, some in texts.items()}
        tokens = sum(len(one.values_T) for one in ids.values())
        per_token = (time.perf_counter() - start) / max(tokens, 1)
        lengths = {side: Lengths(one, _counts(prepared)[side]) for side, one in ids.items()}
        done = _tokens_of(pipeline)
        return Workload(
            documents=_exact(lengths["documents"], done.documents if done else None, rows["documents"]),
            queries=lengths["queries"],
            masked=lengths["masked"],
            measuring=prepared.measuring,
            train=_training_queries(prepared),
            splits={split: _judged(prepared, split) for split in prepared.corpus.qrels},
            made=sum(len(queries) for queries in prepared.generated.values()),
            document_texts=texts["documents"],
            query_texts=texts["queries"],
            read_seconds=read,
            seconds_per_token=0.0 if done else per_token,
        )


@dataclass(frozen=True)
class Reader:
    """The texts as one model sees them: their tokens by its tokenizer, its special tokens, its view of a query."""

    documents: Lengths
    queries: Lengths
    masked: Lengths
    specials: Specials
    query_specials: Specials
    query_view: View


def read_by_student(load: Workload, student: Student) -> Reader:
    """As the student does, whose tokens the workload holds."""
    return Reader(
        load.documents, load.queries, load.masked, student.document_specials, student.query_specials, student.query_view
    )


def read_by_guest(load: Workload, guest: Guest) -> Reader:
    """As a dense teacher does. Its tokenizer alone is loaded."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(words_folder(guest.folder))
    prompts = guest.prompts.prompts

    def lengths(texts: Sequence[str], count: int) -> Lengths:
        return Lengths(tokenize(examples(texts, GUEST_SAMPLE), tokenizer, f"sample for {guest.member.model}"), count)

    return Reader(
        lengths(load.document_texts, load.documents.count),
        lengths(load.query_texts, load.queries.count),
        lengths(load.document_texts, load.masked.count),
        specials_of(tokenizer, prompts.document),
        specials_of(tokenizer, prompts.query),
        View(guest.query_tokens),
    )


@contextmanager
def _collected(pipeline: Pipeline) -> Iterator[Prepared]:
    """The corpus of the store; one that is not there yet is read into a folder that goes away again."""
    if pipeline.corpus.path.exists():
        judged = pipeline.judged
        kept = judged if judged is not pipeline.corpus and judged.path.exists() else None
        yield Prepared(pipeline.corpus, kept)
        return
    with tempfile.TemporaryDirectory(prefix="sdretrieval-plan-") as folder:
        prepare.build_corpus(Work(Path(folder)), _without_writer(pipeline.config))
        yield Prepared(Artifact("", Path(folder)))


def _without_writer(config: Config) -> Config:
    """With runs of words in the place of queries that a model would write: a plan must not write them for hours."""
    asked = config.corpus.generate
    if asked.written == 0:
        return config
    generate = asked.model_copy(update={"written": 0.0, "span": asked.span + asked.written})
    return config.model_copy(update={"corpus": config.corpus.model_copy(update={"generate": generate})})


def _counts(prepared: Prepared) -> dict[str, int]:
    corpus = prepared.corpus
    return {"documents": len(corpus.documents), "queries": len(corpus.queries), "masked": len(prepared.masked)}


def _drawn(count: int, sample: int) -> Array:
    """Rows of a sample, evenly spread: collections are often sorted by topic or length."""
    return np.unique(np.linspace(0, count - 1, min(count, sample)).round().astype(np.int64)) if count else np.arange(0)


def _tokens_of(pipeline: Pipeline) -> TextTokens | None:
    return pipeline.text_tokens if pipeline.tokens.path.exists() else None


def _exact(sampled: Lengths, all_tokens: Ragged | None, rows: Array) -> Lengths:
    """Documents' lengths as they are, where they are known."""
    return sampled if all_tokens is None else Lengths(all_tokens, sampled.count)


def _judged(prepared: Prepared, split: str) -> int:
    count = len(prepared.rows_of(split))
    made = split in prepared.generated and not prepared.kept
    return min(count, prepared.wanted(split)) if made else count


def _training_queries(prepared: Prepared) -> int:
    """Of the queries made from documents no more stay than the config wants."""
    made = prepared.generated.get(GENERATED_TRAIN, {})
    count = len(prepared.train_rows)
    if not made or prepared.kept:
        return count
    return count - len(made) + min(len(made), prepared.wanted(GENERATED_TRAIN))


def examples(sequence: Sequence[Any] | Ragged, most: int) -> list[Any]:
    """`most` entries, evenly spread."""
    return [sequence[row] for row in _drawn(len(sequence), most).tolist()]
