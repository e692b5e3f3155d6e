"""Stage 0/tokens: token ids of all texts, once per tokenizer, uncut and without prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from sdretrieval.encode.reuse import Donor
from sdretrieval.encode.student import Student
from sdretrieval.encode.tokens import load_tokens, tokenize_into
from sdretrieval.ragged import Ragged
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.run import Run
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact


class Tokens(Artifact):
    """Token ids of documents and of queries, memory-mapped."""

    @cached_property
    def documents(self) -> Ragged:
        """By document row."""
        return load_tokens(self.path / "documents")

    @cached_property
    def queries(self) -> Ragged:
        """By query row."""
        return load_tokens(self.path / "queries")

    @cached_property
    def masked(self) -> Ragged | None:
        """By position in `Collection.masked`; None if no query was made from a document."""
        folder = self.path / "masked"
        return load_tokens(folder) if folder.exists() else None


def tokenize_texts(
    run: Run, collected: Collection, digest: str, student: Callable[[], Student], address: str = "0/tokens"
) -> Tokens:
    """All texts by the tokenizer of `student`, a model known by its `digest`."""

    def build(work: Work) -> None:
        build_tokens(work, collected, student(), address)

    made = run.runner.stage(address, 1, {}, [collected.made, digest], build, resumable=True)
    return Tokens(made.key, made.path)


def build_tokens(work: Work, collected: Collection, student: Student, what: str = "0/tokens") -> None:
    """Token ids by side; those of texts that an earlier corpus had are copied.

    `masked`: of documents without the query made from them.
    """
    corpus, tokenizer, reusable = collected.corpus, student.model.tokenizer, work.reusable()
    sides: list[tuple[str, str, Sequence[str]]] = [
        ("document", "documents", corpus.document_texts()),
        ("query", "queries", corpus.query_texts()),
    ]
    if collected.masked:
        sides.append(("masked", "masked", [one.text for one in collected.masked]))
    for kind, side, texts in sides:
        (work.folder / side).mkdir(exist_ok=True)
        donors = [Donor(one.path / side, one.sound) for one in reusable]
        tokens, reused = tokenize_into(work.folder / side, texts, tokenizer, f"{what} {side}", donors)
        work.counts[f"{kind}_tokens"] = len(tokens.values_T)
        work.counts[f"{side}_reused"] = reused
