"""From the config's members to teachers: their names, what decides their scores, their vectors, the teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from sdretrieval.chat.rerank import Reranker
from sdretrieval.config import (
    Config,
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    LexicalConfig,
    Member,
    MultiVectorConfig,
    RerankerApiConfig,
    ScoresConfig,
    ViewConfig,
    identity_fields,
    members_of,
)
from sdretrieval.config.conflicts import member_paths
from sdretrieval.corpus.read.tables.files import stem_of
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.model_files import pools_tokens
from sdretrieval.encode.reuse import digest_of
from sdretrieval.encode.views import View
from sdretrieval.stages.collection import SYNTHETIC_TRAIN, Collection
from sdretrieval.stages.encode import ExternalEncoder, Vectors, encode_external, encode_student
from sdretrieval.stages.fit_teacher import FittedHalves
from sdretrieval.stages.imported import imported_teacher, scores_identity
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.lexical_half import Half, joined
from sdretrieval.stages.precision import number_format
from sdretrieval.stages.run import Run, Weights, chat_model
from sdretrieval.stages.search import dense_query_removed, lexical_query_removed, texts_query_removed
from sdretrieval.stages.tokens import Tokens
from sdretrieval.store import key_of
from sdretrieval.store.runner import Artifact
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher, load_cross_encoder
from sdretrieval.teachers.dense import DenseTeacher, HalfTeacher, advantage_over
from sdretrieval.teachers.imported import ImportedTeacher
from sdretrieval.teachers.lexical import LexicalTeacher
from sdretrieval.teachers.multi_vector import MultiVectorTeacher, load_multi_vector, token_idf
from sdretrieval.teachers.out_of_fold import OutOfFoldTeacher
from sdretrieval.teachers.pair_teacher import PairTeacher
from sdretrieval.teachers.pairs import PairCache
from sdretrieval.teachers.protocols import Teacher
from sdretrieval.teachers.query_removed import with_query_removed
from sdretrieval.teachers.reranker_api import RerankerApiTeacher

if TYPE_CHECKING:
    import torch


Made = Mapping[int, Artifact]
"""By member position, what stages made for it: a bi-encoder's vectors, a fitted cross-encoder's weights."""


def vectors_in(made: Made, position: int) -> Vectors:
    """A bi-encoder's."""
    vectors = made[position]
    assert isinstance(vectors, Vectors)
    return vectors


def view_of(section: ViewConfig, config: Config) -> View:
    """A member's view; what it leaves open is the student's."""
    return View(section.max_tokens or config.student.max_tokens, section.windows, section.stride)


def member_names(config: Config) -> list[str]:
    """What the report calls the members; a second one of a name gets its number, so that their figures stay apart."""
    names: list[str] = []
    for member in members_of(config.teacher):
        if isinstance(member, CrossEncoderConfig | DenseConfig | MultiVectorConfig | RerankerApiConfig):
            name = f"{member.kind}:{member.model.rstrip('/').split('/')[-1]}"
        elif isinstance(member, EmaConfig):
            name = "ema:full_context" if member.view.windows == "all" else "ema:same_view"
        elif isinstance(member, ScoresConfig):
            name = f"scores:{member.name or stem_of(Path(member.file))}"
        elif isinstance(member, LexicalConfig):
            name = "lexical"
        else:
            assert_never(member)  # a new kind is named here, or the type checker says so
        same = sum(one == name or one.startswith(f"{name} #") for one in names)
        names.append(f"{name} #{same + 1}" if same else name)
    return names


def member_identities(config: Config) -> list[dict[str, Any]]:
    """What decides the members' raw scores; a weight does not. A model is known by its digest, never by its name."""
    identities = []
    for member in members_of(config.teacher):
        if isinstance(member, ScoresConfig):
            identities.append(scores_identity(member))
            continue
        fields = identity_fields(member, without={"weight", "mode", "half_life"})
        if isinstance(member, CrossEncoderConfig | DenseConfig | MultiVectorConfig):
            fields["model"] = model_digest(locate_model(member.model))
        if isinstance(member, CrossEncoderConfig | DenseConfig | EmaConfig | MultiVectorConfig):
            seen = view_of(member.view, config)
            fields["view"] = [seen.max_tokens, seen.windows, seen.stride]
        if isinstance(member, MultiVectorConfig):  # of others it is in the key of their vectors
            fields["precision"] = config.student.encode_precision
        identities.append(fields)
    return identities


def takes_scores_from_files(config: Config) -> bool:
    """Whether a member's scores were made elsewhere: only the pairs of its file are known."""
    return any(isinstance(member, ScoresConfig) for member in members_of(config.teacher))


def teacher_vectors(
    run: Run, collection: Collection, tokens: Tokens, number: int, student: Weights, student_vectors: Vectors,
    half: Half | None = None,
) -> dict[int, Vectors]:  # fmt: skip
    """By member position: the vectors of each dense member, and of each EMA member, under its own view.

    `student_vectors`: the student's own, of generation `number`. What does not move is made in the first generation.
    `half`: the student's lexical half, which an average of it has as well: without, it would teach to undo it. Not if
    the student learns the vectors themselves, of which the half is no part.
    """
    config, vectors = run.config, {}
    half = None if config.train.loss == "embedding" else half
    for position, member in enumerate(members_of(config.teacher)):
        if isinstance(member, DenseConfig):
            encoder = ExternalEncoder(member, view_of(member.view, config), config.student.device)
            vectors[position] = encode_external(run, collection, position, encoder)
        elif isinstance(member, EmaConfig):
            made_in, weights = (1, run.base) if member.mode == "base" else (number, student)
            # If the average is the student itself, as the base is, a document's first window is encoded already.
            same = weights.average_key == weights.key == student.key
            address = f"{made_in}/encode:teacher{position}"
            plain = encode_student(
                run, collection, tokens, address, weights, view_of(member.view, config),
                teaches=True, also_from=[student_vectors.plain] if same else [],
            )  # fmt: skip
            vectors[position] = joined(run, address, plain, half)
    return vectors


def make_teachers(
    run: Run, collection: Collection, lexical: Lexical, made: Made, split: str = SYNTHETIC_TRAIN
) -> list[Teacher]:
    """The members, in the config's order.

    Of the queries of `split` that were made from documents, each scores what is left of a query's own document. In
    training too: a teacher that read the query in its document would be sure of it, and the student, which does not,
    would learn that what reads like a document with words missing is the answer (docs/ablations/generated_queries.md).
    """
    members = zip(member_names(run.config), members_of(run.config.teacher), strict=True)
    teachers = [
        _make_teacher(run, collection, lexical, made, position, name, member)
        for position, (name, member) in enumerate(members)
    ]
    if not collection.query_removed_of(split):
        return teachers
    for position, teacher in enumerate(teachers):
        if isinstance(teacher, PairTeacher | OutOfFoldTeacher):
            masks = texts_query_removed(collection, split, teacher.score_texts)
            teachers[position] = with_query_removed(teacher, masks)
        elif isinstance(teacher, LexicalTeacher):
            masks = lexical_query_removed(collection, split, lexical.index)
            teachers[position] = with_query_removed(teacher, masks, zero_is_no_hit=True)
        elif isinstance(teacher, DenseTeacher):
            teachers[position] = with_query_removed(
                teacher, dense_query_removed(collection, split, vectors_in(made, position))
            )
        elif not isinstance(teacher, ImportedTeacher):  # whose file was made from the texts without the queries
            raise TypeError(f"teacher {teacher.name}: nothing says how it scores a document without its query")
    return teachers


def _make_teacher(
    run: Run, collection: Collection, lexical: Lexical, made: Made, position: int, name: str, member: Member
) -> Teacher:
    corpus = collection.corpus
    if isinstance(member, CrossEncoderConfig) and member.fit is not None:
        fitted = FittedHalves.of(made[position])
        as_it_is = member.model_copy(update={"fit": None})
        first, second = (
            _make_teacher(run, collection, lexical, {}, position, name, as_it_is.model_copy(update={"model": str(one)}))
            for one in fitted.models
        )
        assert isinstance(first, PairTeacher) and isinstance(second, PairTeacher)
        return OutOfFoldTeacher(first, second, [corpus.query_row[query] for query in fitted.learned_by_first])
    if isinstance(member, CrossEncoderConfig | MultiVectorConfig):
        model = open_pair_model(member, run.config, corpus.document_texts(), number_format(run, "encode"))
        return model.teacher(
            name=name,
            query_text=corpus.query_texts().__getitem__,
            document_text=corpus.document_texts().__getitem__,
            cache=PairCache(run.store.root / "pairs" / model.key),
        )
    if isinstance(member, RerankerApiConfig):
        return RerankerApiTeacher(
            Reranker(chat_model(member), member_paths(run.config)[position], member.documents_per_request),
            name=name,
            query_text=corpus.query_texts().__getitem__,
            document_text=corpus.document_texts().__getitem__,
            cache=PairCache(run.store.root / "pairs" / key_of("pairs of a server", 1, {"model": member.model}, [])),
        )
    if isinstance(member, EmaConfig | DenseConfig):
        advantage = None
        if isinstance(member, DenseConfig):
            theirs, own = locate_model(member.model), locate_model(run.config.student.model)
            advantage = advantage_over(theirs, own, same=model_digest(theirs) == model_digest(own))
        vectors = vectors_in(made, position)
        plain = DenseTeacher(name, vectors.plain.queries_QD, vectors.plain.documents, advantage=advantage)
        if vectors.plain is vectors:
            return plain
        return HalfTeacher(name, vectors.queries_QD, vectors.documents, plain=plain)
    if isinstance(member, ScoresConfig):
        return imported_teacher(member, name, corpus)
    if isinstance(member, LexicalConfig):
        return LexicalTeacher(lexical.index, corpus.query_texts(), name)
    assert_never(member)


class PairModel(NamedTuple):
    """A model on this machine that scores pairs."""

    network: torch.nn.Module
    key: str
    """Of its scores: stands for the model, and for what it sees of a text."""
    teacher: Callable[..., PairTeacher]
    """Takes name, texts and cache."""


def open_pair_model(
    member: CrossEncoderConfig | MultiVectorConfig, config: Config, texts: Sequence[str], precision: Precision
) -> PairModel:  # fmt: skip
    """Loads it. `texts`: the documents, by whose words a bi-encoder weighs its token vectors. `precision`: that of an
    encoder; a cross-encoder always reads in float32. Raises ModelError if it is absent, damaged or of another kind."""
    device = config.student.device
    if isinstance(member, MultiVectorConfig):
        encoder, digest = load_multi_vector(
            member.model, member.kind, device=device, trust_remote_code=member.trust_remote_code
        )
        view, idf_V = view_of(member.view, config), None
        seen: dict[str, Any] = {"view": [view.max_tokens, view.windows, view.stride], "precision": precision}
        if pools_tokens(locate_model(member.model)):
            idf_V = token_idf(encoder, texts)
            seen["idf"] = digest_of(idf_V.tobytes()).hex()
        make = partial(
            MultiVectorTeacher,
            encoder,
            kind=member.kind,
            view=view,
            batch_tokens=member.batch_tokens,
            idf_V=idf_V,
            precision=precision,
        )
        return PairModel(encoder, key_of("pairs of vectors", 1, seen, [digest]), make)
    model, digest = load_cross_encoder(
        member.model, max_tokens=member.max_tokens, device=device, trust_remote_code=member.trust_remote_code
    )
    identity: dict[str, Any] = {"view": identity_fields(member.view), "most": member.max_tokens}
    if model.device.type == "cuda":  # its logits are not those of a CPU to the last digits: no mixture of both
        identity["products"] = "tf32"
    return PairModel(
        model, key_of("pairs", 3, identity, [digest]),
        partial(
            CrossEncoderTeacher, model, max_tokens=member.max_tokens, windows=member.view.windows,
            stride=member.view.stride, batch_tokens=member.batch_tokens,
        ),
    )  # fmt: skip
