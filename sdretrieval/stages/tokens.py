"""Stage 0/tokens: token ids of all texts, once per tokenizer, uncut and without prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from sdretrieval.encode.loading import check_known
from sdretrieval.encode.reuse import ReusableArtifact
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
    def query_removed(self) -> Ragged | None:
        """By position in `Collection.query_removed`; None if no query was made from a document."""
        folder = self.path / "query_removed"
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

    `query_removed`: of documents without the query made from them. Raises ModelError if most of the corpus is unknown
    to the tokenizer.
    """
    corpus, tokenizer, earlier = collected.corpus, student.tokenizer, work.reusable()
    check_known(student.name, tokenizer, corpus.document_texts(), "the corpus")
    sides: list[tuple[str, str, Sequence[str]]] = [
        ("document", "documents", corpus.document_texts()),
        ("query", "queries", corpus.query_texts()),
    ]
    if collected.query_removed:
        sides.append(("query_removed", "query_removed", [one.text for one in collected.query_removed]))
    for kind, side, texts in sides:
        (work.folder / side).mkdir(exist_ok=True)
        reusable = [ReusableArtifact(one.path / side, one.sound) for one in earlier]
        tokens, reused = tokenize_into(work.folder / side, texts, tokenizer, f"{what} {side}", reusable)
        work.counts[f"{kind}_tokens"] = len(tokens.values_T)
        work.counts[f"{side}_reused"] = reused
