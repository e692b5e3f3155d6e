"""The teachers' sections of a run's YAML: who teaches, what each of them sees, and its share in a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from sdretrieval.config.chat_section import URL_TEXT, ChatConfig, Url
from sdretrieval.config.fields import MOST, MOST_TEXTS, MOST_WEIGHT, Number, Section, auto_or, cost, identity

WEIGHT_TEXT = f"a number from 0 to {MOST_WEIGHT:g}, or auto"
AUTO_WEIGHT = auto_or(lambda weight: 0 <= weight <= MOST_WEIGHT, WEIGHT_TEXT)
Weight = Annotated[float | Literal["auto"], AUTO_WEIGHT]


class PromptsConfig(Section):
    """Texts put before queries and documents; null means the model's own, an empty text means none."""

    query: str | None = identity("put before each query", None)
    document: str | None = identity("put before each document", None)


class ViewConfig(Section):
    """What part of a document a teacher sees."""

    windows: Literal["all", "first"] = identity("all overlapping windows of a document, or the first alone", "first")
    max_tokens: int | None = identity("tokens of a window; null means the student's max_tokens", None, ge=1, le=MOST)
    stride: int | None = identity(
        "tokens from one window's start to the next; null means half a window", None, ge=1, le=MOST
    )


class FitConfig(Section):
    """How a cross-encoder learns the train judgements before it teaches."""

    epochs: Number = identity("passes over the judged train queries", 2.0, gt=0, le=10_000)
    learning_rate: Number = identity("highest learning rate", 1e-4, gt=0, le=1000)
    candidates: int = identity(
        "documents of a query's list that it compares, known positives among them", 5, ge=2, le=MOST
    )


class CrossEncoderConfig(Section):
    """A model that reads query and document together."""

    kind: Literal["cross_encoder"] = identity("cross_encoder")
    model: str = identity("hub id or folder of a cross-encoder", min_length=1)
    max_tokens: int = identity("tokens of query and document together", 512, ge=8, le=MOST)
    view: ViewConfig = identity("what part of a document it sees", ViewConfig())
    fit: FitConfig | None = identity(
        "it learns the train judgements first, and scores no query whose judgements it has learned; null: as it is",
        None,
    )
    trust_remote_code: bool = identity("whether code that comes with the model may run", False)
    batch_tokens: int | None = cost(
        "most tokens in a batch of scoring, padding included; null chooses", None, ge=1, le=MOST_TEXTS
    )
    weight: Weight = identity("its share in a mixture; auto takes the probe's choice", 1.0, expects=WEIGHT_TEXT)


class RerankerApiConfig(ChatConfig):
    """A reranker behind a server with a /rerank: text-embeddings-inference, infinity, vLLM, Cohere, Jina."""

    kind: Literal["reranker_api"] = identity("reranker_api")
    url: Url = cost("address of the server, up to /rerank", expects=URL_TEXT)
    documents_per_request: int = cost("most documents in a request, all of one query", 32, ge=1, le=1000)
    weight: Weight = identity("its share in a mixture; auto takes the probe's choice", 1.0, expects=WEIGHT_TEXT)


class MultiVectorConfig(Section):
    """An encoder with a vector for each token (ColBERT's kind), or with one over the whole vocabulary (SPLADE's)."""

    kind: Literal["multi_vector", "sparse"] = identity("multi_vector, sparse")
    model: str = identity(
        "hub id or folder of a MultiVectorEncoder (or a bi-encoder, for its token vectors), or of a SparseEncoder",
        min_length=1,
    )
    view: ViewConfig = identity("what part of a document it sees", ViewConfig())
    trust_remote_code: bool = identity("whether code that comes with the model may run", False)
    batch_tokens: int | None = cost(
        "most tokens in a batch of encoding, padding included; null chooses", None, ge=1, le=MOST_TEXTS
    )
    weight: Weight = identity("its share in a mixture; auto takes the probe's choice", 1.0, expects=WEIGHT_TEXT)


class EmaConfig(Section):
    """The student's own moving average, which may see more of a document than the student."""

    kind: Literal["ema"] = identity("ema")
    mode: Literal["frozen", "live", "base", "born_again"] = identity(
        "a snapshot per generation, updated at each step, or the student before any training; born_again: frozen, and "
        "every generation trains the base again",
        "frozen",
    )
    half_life: Number = identity(
        "half-life of the average, as a share of the generation's updates", 0.25, gt=0, le=1000
    )
    view: ViewConfig = identity("what part of a document it sees", ViewConfig(windows="all"))
    weight: Weight = identity("its share in a mixture; auto takes the probe's choice", 1.0, expects=WEIGHT_TEXT)


class LexicalConfig(Section):
    """BM25 over whole documents."""

    kind: Literal["lexical"] = identity("lexical")
    weight: Weight = identity("its share in a mixture; auto takes the probe's choice", 1.0, expects=WEIGHT_TEXT)


class DenseConfig(Section):
    """Any bi-encoder: a larger one, or another one; its vectors are made once and serve every generation."""

    kind: Literal["dense"] = identity("dense")
    model: str = identity("hub id or folder of a sentence-transformers model", min_length=1)
    view: ViewConfig = identity("what part of a document it sees", ViewConfig())
    prompts: PromptsConfig = identity("texts put before queries and documents", PromptsConfig())
    query_tokens: int | None = identity(
        "tokens of a query that it sees; null means those of a window", 64, ge=1, le=MOST
    )
    trust_remote_code: bool = identity("whether code that comes with the model may run", False)
    batch_tokens: int | None = cost(
        "most tokens in a batch of encoding, padding included; null chooses", None, ge=1, le=MOST_TEXTS
    )
    weight: Weight = identity("its share in a mixture; auto takes the probe's choice", 1.0, expects=WEIGHT_TEXT)


class ScoresConfig(Section):
    """Scores that were made elsewhere, by whatever model, read from a file of query, document and score."""

    kind: Literal["scores"] = identity("scores")
    file: str = identity("table or TREC run of query, document, score; several files by a pattern with *", min_length=1)
    column: str | None = identity("the column that holds the scores; null finds it by its usual name", None)
    # A label: as part of keys, renaming would train again. What was made before keeps the name it was made under.
    name: str | None = cost("what the report calls it; null means the file's name", None, min_length=1)
    missing: Literal["error", "lowest", "skip"] = identity(
        "a pair without a score: stop; rank it below the query's others; leave it out of the query's target", "error"
    )
    weight: Weight = identity("its share in a mixture; auto takes the probe's choice", 1.0, expects=WEIGHT_TEXT)


Member = (
    CrossEncoderConfig | DenseConfig | EmaConfig | LexicalConfig | MultiVectorConfig | RerankerApiConfig | ScoresConfig
)
MemberConfig = Annotated[Member, Field(discriminator="kind")]


class EnsembleConfig(Section):
    """A weighted mixture of teachers, each calibrated before mixing."""

    kind: Literal["ensemble"] = identity("ensemble")
    members: tuple[MemberConfig, ...] = identity("two or more teachers; no ensembles", min_length=2, strict=False)


TeacherConfig = Annotated[Member | EnsembleConfig, Field(discriminator="kind")]


def members_of(teacher: TeacherConfig) -> tuple[Member, ...]:
    """The teachers of a mixture; the teacher itself if it is alone."""
    return teacher.members if isinstance(teacher, EnsembleConfig) else (teacher,)


def with_own_teachers(teacher: TeacherConfig, student: str, *, token_vectors: bool) -> EnsembleConfig:
    """The teachers of a config, and what it lacks of those that need no other model than `student`: its average on
    whole documents, BM25 and, if asked for, its token vectors. The probe weighs all of them."""
    members = [member.model_copy(update={"weight": "auto"}) for member in members_of(teacher)]
    if not any(isinstance(one, EmaConfig) and one.view.windows == "all" for one in members):
        members.append(EmaConfig(kind="ema", weight="auto"))
    if not any(isinstance(one, LexicalConfig) for one in members):
        members.append(LexicalConfig(kind="lexical", weight="auto"))
    if token_vectors and not any(isinstance(one, MultiVectorConfig) and one.model == student for one in members):
        members.append(MultiVectorConfig(kind="multi_vector", model=student, weight="auto"))
    return EnsembleConfig(kind="ensemble", members=tuple(members))


def teacher_section(members: Sequence[Member]) -> dict[str, Any]:
    """The section of a config in which they teach, without what is as it is by default."""
    sections = [member.model_dump(mode="json", exclude_defaults=True) | {"kind": member.kind} for member in members]
    return {"kind": "ensemble", "members": sections} if len(sections) > 1 else sections[0]


def born_again(teacher: TeacherConfig) -> bool:
    """Whether every generation's student starts from the base, not from the last generation's."""
    return any(isinstance(member, EmaConfig) and member.mode == "born_again" for member in members_of(teacher))
