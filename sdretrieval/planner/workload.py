"""How much there is to do, known before it is done: queries by split, and texts' lengths in tokens.

Lengths come from the store if the texts are tokenized, else from a sample of them.

Legend: N texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.config import Config, DenseConfig, members_of
from sdretrieval.encode.model_files import words_folder
from sdretrieval.encode.student import Student
from sdretrieval.encode.tokens import specials_of, tokenize
from sdretrieval.encode.views import Specials, View
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.collection import SYNTHETIC_TRAIN, Collection
from sdretrieval.stages.corpus import build_corpus
from sdretrieval.stages.encode import ExternalEncoder
from sdretrieval.stages.teachers import view_of
from sdretrieval.stages.tokens import Tokens
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

FEW_DOCUMENTS = 1000
"""Fewer are worked on in a minute or two: trials of this machine would take as long."""
SAMPLE = 2000
"""Texts whose tokens are counted: their mean is within about 2 % of that of all, at the spread that texts have."""
EXTERNAL_SAMPLE = 500
"""Texts that are tokenized again for a dense teacher."""


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
        """Content tokens that a view shows of a text, on average."""
        return self.seen(view, specials) / max(self.count, 1)

    def windows(self, view: View, specials: Specials) -> float:
        """Windows of all texts."""
        return float(view.counts(self.sample.lengths, specials.count).sum()) * self._times

    def first(self, count: int) -> Lengths:
        """As many texts of the same lengths."""
        return Lengths(self.sample, min(count, self.count))


@dataclass(frozen=True)
class Reader:
    """The texts as one model sees them: their tokens by its tokenizer, its special tokens, its view of a query."""

    documents: Lengths
    queries: Lengths
    query_removed: Lengths
    specials: Specials
    query_specials: Specials
    query_view: View


@dataclass(frozen=True)
class Workload:
    """What a run works on.

    `reader`: the texts as the student sees them; `external`: as dense teachers do, by position of the member.
    `splits`: judged queries by split; `train`: queries that are trained on; `measuring`: documents that are also
    encoded without the query made from them. `document_texts`, `query_texts`: a few, for trials.
    """

    student: Student
    reader: Reader
    external: Mapping[int, Reader]
    splits: Mapping[str, int]
    train: int
    measuring: int
    document_texts: Sequence[str]
    query_texts: Sequence[str]
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Synthetic queries that the config asks for, by split."""

    @property
    def documents(self) -> int:
        """How many there are."""
        return self.reader.documents.count


def worth_measuring(documents: int) -> bool:
    """Whether a run over so many takes longer than measuring the machine for it."""
    return documents >= FEW_DOCUMENTS


def workload_of(config: Config, student: Student, made: Mapping[str, Artifact], *, sample: int = SAMPLE) -> Workload:
    """The workload of a run of `config`. `made`: what is in the store, by stage address; of `0/corpus`, `0/queries` and
    `0/tokens`, what is missing is sampled. Makes no artifact. Raises CorpusError as reading the corpus does."""
    with _collected(config, made) as prepared:
        corpus, query_removed = prepared.corpus, prepared.query_removed
        document_texts = corpus.document_texts(spread(len(corpus.documents), sample).tolist())
        query_texts = corpus.query_texts(spread(len(corpus.queries), sample).tolist())
        query_removed_texts = [query_removed[row].text for row in spread(len(query_removed), sample).tolist()]

        def lengths(texts: Sequence[str], count: int, side: str) -> Lengths:
            return Lengths(tokenize(texts, student.tokenizer, f"sample of {side}"), count)

        if "0/tokens" in made:  # then they are known, not estimated
            documents = Lengths(Tokens(made["0/tokens"].key, made["0/tokens"].path).documents, len(corpus.documents))
        else:
            documents = lengths(document_texts, len(corpus.documents), "documents")
        reader = Reader(
            documents,
            lengths(query_texts, len(corpus.queries), "queries"),
            lengths(query_removed_texts, len(query_removed), "documents without their query"),
            student.document_specials,
            student.query_specials,
            student.query_view,
        )
        external = {
            position: _external_reader(ExternalEncoder(member, view_of(member.view, config), config.student.device),
                                       reader, document_texts, query_texts)
            for position, member in enumerate(members_of(config.teacher))
            if isinstance(member, DenseConfig)
        }  # fmt: skip
        # Of the queries made from documents, no more stay than the config wants; which ones is decided later.
        surplus = {
            split: max(len(queries) - prepared.wanted(split), 0)
            for split, queries in prepared.generated.items()
            if not prepared.kept
        }
        return Workload(
            student=student,
            reader=reader,
            external=external,
            splits={split: len(prepared.rows_of(split)) - surplus.get(split, 0) for split in corpus.qrels},
            train=len(prepared.train_rows) - surplus.get(SYNTHETIC_TRAIN, 0),
            measuring=prepared.measuring,
            document_texts=document_texts,
            query_texts=query_texts,
            wanted={split: prepared.wanted(split) for split in prepared.generated},
        )


def _external_reader(
    encoder: ExternalEncoder, student: Reader, document_texts: Sequence[str], query_texts: Sequence[str]
) -> Reader:
    """The texts as a dense teacher sees them. Its tokenizer alone is loaded."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(words_folder(encoder.folder))
    prompts = encoder.prompts.prompts

    def lengths(texts: Sequence[str], count: int) -> Lengths:
        some = examples(texts, EXTERNAL_SAMPLE)
        return Lengths(tokenize(some, tokenizer, f"sample for {encoder.member.model}"), count)

    return Reader(
        lengths(document_texts, student.documents.count),
        lengths(query_texts, student.queries.count),
        lengths(document_texts, student.query_removed.count),
        specials_of(tokenizer, prompts.document),
        specials_of(tokenizer, prompts.query),
        View(encoder.query_tokens),
    )


@contextmanager
def _collected(config: Config, made: Mapping[str, Artifact]) -> Iterator[Collection]:
    """The corpus of the store; one that is not there yet is read into a folder that goes away again."""
    if "0/corpus" in made:
        yield Collection(made["0/corpus"], made.get("0/queries"))
        return
    recipe = config.corpus.generate
    if recipe.written:  # sentences stand for queries that a model would write for hours
        recipe = recipe.model_copy(update={"written": 0.0, "sentence": recipe.sentence + recipe.written})
        config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"generate": recipe})})
    with tempfile.TemporaryDirectory(prefix="sdretrieval-plan-") as folder:
        build_corpus(Work(Path(folder)), config)
        yield Collection(Artifact("", Path(folder)))


def spread(count: int, most: int) -> Array:
    """`most` rows of `count`, evenly spread: collections are often sorted by topic or length."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)) if count else np.arange(0)


def examples(sequence: Sequence[Any] | Ragged, most: int) -> list[Any]:
    """`most` entries, evenly spread."""
    return [sequence[row] for row in spread(len(sequence), most).tolist()]
