"""Stages NAME/fit, NAME/encode and NAME/cost: smaller students, fitted to the vectors of the final one.

NAME is `final-static`, `final-layers3`, `final-dims128` and so on. `final-static-queries` encodes queries alone, and
searches the index of the final student's documents.
"""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.config import SmallerConfig, identity_fields
from sdretrieval.encode.adapter import matrix_of
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.student import Student, load_student, save_student
from sdretrieval.errors import ModelError, RequestError
from sdretrieval.files import write_json
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.encode import (
    Encoding,
    Vectors,
    batch_tokens_of,
    encode_student,
    share_documents,
    student_identity,
)
from sdretrieval.stages.evaluate import measure_student
from sdretrieval.stages.exits import (
    STATIC_FIT,
    TRANSFORMER_FIT,
    Fitted,
    documents_of,
    part_of,
    queries_of,
    run_fitting,
)
from sdretrieval.stages.index import index_vectors
from sdretrieval.stages.lexical_half import joined
from sdretrieval.stages.precision import number_format
from sdretrieval.stages.results import Base, Final, Smaller
from sdretrieval.stages.run import Weights, student_from
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


STATIC, COST = "static", "cost.json"
SPANS, LEAST_TOKENS, MOST_TOKENS = 20_000, 3, 32
"""Pieces of documents, as long as queries: at most how many, and how many tokens one has (even on a log scale)."""
TOKENS_A_SPAN = 4
"""A small corpus gives a piece for so many of its tokens."""
MEAN_SPAN = (MOST_TOKENS - LEAST_TOKENS) / math.log(MOST_TOKENS / LEAST_TOKENS)
TIMED = 50
"""Queries, and documents, that are encoded to measure how long it takes."""


def smaller_students(base: Base, final: Final) -> list[Smaller]:
    """Those that the config asks for, measured: the exits that learned along, then those that are fitted now."""
    run, whole = base.run, Fitted(final.student, final.vectors.plain)
    made = [measured(base, final, cfg, cfg.name, part_of(base, cfg, whole)) for cfg in run.config.exits]
    spans = encode_spans(base, final.student) if any(cfg.encodes_itself for cfg in run.config.smaller) else None
    for cfg in run.config.smaller:
        if spans is None or not cfg.encodes_itself:
            made.append(measured(base, final, cfg, cfg.name, part_of(base, cfg, whole)))
            continue
        target = whole if cfg.dims is None else part_of(base, SmallerConfig(dims=cfg.dims), whole)
        student = fit(base, cfg, target, spans)
        vectors = encode_student(run, base.collected, base.tokens, f"{cfg.name}/encode", student, maps_base=False)
        made.append(measured(base, final, cfg, cfg.name, Fitted(student, vectors)))
        shared = share_documents(run, f"{cfg.name}-queries/encode", vectors, target.vectors)
        made.append(measured(base, final, cfg, f"{cfg.name}-queries", Fitted(student, shared), target))
    return made


def measured(
    base: Base, final: Final, cfg: SmallerConfig, name: str, fitted: Fitted, documents: Fitted | None = None
) -> Smaller:
    """A smaller student as a system of the report. `documents`: what encodes these, if it encodes queries alone."""
    run, vectors = base.run, joined(base.run, f"{name}/encode", fitted.vectors, base.half)
    if documents is not None and base.half is not None:  # their index is there
        vectors = replace(
            vectors, documents_of=joined(run, f"{cfg.name}/encode:documents", documents.vectors, base.half)
        )
    how = ", fitted to the final student's vectors" if cfg.model or cfg.layers else ""
    if cfg in run.config.exits:
        how = ", taught along with it" if final.student.key != run.base.key else ", not taught: nothing was accepted"
    text = described(cfg) + how + ("; documents as the final student encodes them" if documents else "")
    system = measure_student(run, base.collection, name, name, text, vectors)
    index = index_vectors(run, base.collection, f"{name}/index", vectors)
    cost = measure_cost(base, name, final.student, fitted.student)
    return Smaller(name, system, fitted.student, documents.student if documents else None, vectors, index, cost)


def described(cfg: SmallerConfig) -> str:
    """For the report."""
    kinds = {None: "the final student", STATIC: "a vector a token, no transformer"}
    what = kinds.get(cfg.model, str(cfg.model))
    layers = f", {cfg.layers} of its layers" if cfg.layers else ""
    dims = f", {cfg.dims} dims" if cfg.dims else ""
    return f"{what}{layers}{dims}"


def encode_spans(base: Base, student: Weights) -> Vectors:
    """The final student's vectors of pieces of documents that are as long as queries, encoded as queries are."""
    run, precision, address = base.run, number_format(base.run, "encode"), "final/encode:spans"

    def build(work: Work) -> None:
        Encoding(work, run.student(student.student), batch_tokens_of(run), precision, address).queries(spans_of(base))

    identity = {"encoded": "spans", "spans": [SPANS, LEAST_TOKENS, MOST_TOKENS, run.seed], "precision": precision}
    made = run.runner.stage(address, 1, identity, [base.tokens, student.key], build, resumable=True)
    return Vectors(made.key, made.path)


def spans_in(tokens: int) -> int:
    """Pieces that a corpus of so many tokens gives."""
    return min(SPANS, tokens // TOKENS_A_SPAN)


def spans_of(base: Base) -> Ragged:
    """Token ids of the pieces: the same at each call."""
    documents, chance = base.tokens.documents, np.random.default_rng(base.run.seed)
    rows = np.flatnonzero(documents.lengths >= LEAST_TOKENS)
    if not len(rows):
        raise RequestError(
            f"smaller: no document has {LEAST_TOKENS} tokens, pieces of which smaller students are fitted on; leave "
            "smaller out"
        )
    shortest, longest = math.log(LEAST_TOKENS), math.log(MOST_TOKENS + 1)
    pieces = []
    count = spans_in(len(documents.values_T))
    for row, length in zip(chance.choice(rows, count), np.exp(chance.uniform(shortest, longest, count)), strict=True):
        ids = documents[row]
        start = int(chance.integers(max(len(ids) - int(length), 0) + 1))
        pieces.append(np.asarray(ids[start : start + int(length)]))
    return Ragged.of(pieces, np.int32)


def fit(base: Base, cfg: SmallerConfig, target: Fitted, spans: Vectors) -> Weights:
    """A student with an encoder of its own, fitted to the vectors of `target`."""
    run, how = base.run, STATIC_FIT if cfg.model == STATIC else TRANSFORMER_FIT
    precision: Precision = "float32" if cfg.model == STATIC else number_format(run, "train")

    def build(work: Work) -> None:
        from sentence_transformers import SentenceTransformer

        from sdretrieval.training.batches import Side
        from sdretrieval.training.smaller import FittedTexts, put_tokens, tokens_alone

        large, tokens = run.student(target.student.student), base.tokens
        small = replace(large, model=smaller_model(base, cfg, large), half=None)
        query = Side(tokens.queries, small.query_view, small.query_specials)
        document = Side(tokens.documents, small.view, small.document_specials)
        spans_ND = spans.queries_QD
        if cfg.dims is not None:
            spans_ND = spans_ND @ matrix_of(large.model)
            spans_ND /= np.linalg.norm(spans_ND, axis=1, keepdims=True)
        texts = [
            FittedTexts(
                documents_of(base, len(spans_ND) if cfg.model == STATIC else 0),
                target.vectors.documents.vectors_WD,
                document,
            ),
            FittedTexts(queries_of(base), target.vectors.queries_QD, query),
            FittedTexts(np.arange(len(spans_ND)), spans_ND, replace(query, tokens=spans_of(base))),
        ]
        if cfg.model != STATIC:
            run_fitting(work, base, small.model, texts, how, precision, cfg.epochs, cfg.name)
            return
        seen_S = tokens_seen(base, small)
        row_of_token_V = np.zeros(len(small.tokenizer), dtype=np.int64)
        row_of_token_V[seen_S] = np.arange(len(seen_S))
        alone = tokens_alone(small.model, seen_S)
        run_fitting(work, base, alone, texts, how, precision, cfg.epochs, cfg.name, row_of_token_V)
        put_tokens(small.model, seen_S, SentenceTransformer(str(work.folder / "student"), device="cpu"))
        shutil.rmtree(work.folder / "student")
        save_student(small.model, work.folder / "student")

    identity = {
        **identity_fields(cfg),
        **student_identity(run),
        "max_tokens": run.config.student.max_tokens,
        "temperature": run.config.train.student_temperature,
        "precision": precision,
        "freeze": [] if cfg.model == STATIC else list(run.config.train.freeze),
        "seed": run.seed,
    }
    inputs: list[Artifact | str] = [target.student.key, target.vectors, spans, base.tokens, base.collection.filtered]
    if cfg.model not in (None, STATIC):
        inputs.append(model_digest(locate_model(cfg.model)))
    made = run.runner.stage(f"{cfg.name}/fit", 3, identity, inputs, build, resumable=True)
    return Weights(made.key, made.path / "student", made.path / "student")


def smaller_model(base: Base, cfg: SmallerConfig, large: Student) -> SentenceTransformer:
    """What a smaller student begins as; its vectors have the dims of those of `large`."""
    from sdretrieval.training.smaller import first_layers, map_modules, static_model

    if cfg.model == STATIC:
        ids = np.asarray(base.tokens.documents.values_T)
        counts_V = np.bincount(ids, minlength=len(large.tokenizer))
        return static_model(large, counts_V, number_format(base.run, "encode"))
    if cfg.model is None:
        model = large.model
    else:
        model = small_student(cfg.model, large, base.run.config.student.device).model
        dims, wanted = int(model.get_embedding_dimension() or 0), large.dims
        if dims != wanted:
            model = model.extend(map_modules(np.eye(dims, wanted, dtype=np.float32))).to(model.device)
    if cfg.layers is None:
        return model
    name = cfg.model or base.run.config.student.model
    return first_layers(model, cfg.layers, name, last=cfg.layers - 1)  # the last ones make the vectors: they say more


def tokens_seen(base: Base, student: Student) -> Array:
    """Ids of the tokens that documents, queries, prompts and padding have, ascending."""
    tokens = base.tokens
    ids = [np.asarray(side.values_T) for side in (tokens.documents, tokens.queries)]
    specials = [(*one.prefix, *one.prompt, *one.suffix) for one in (student.query_specials, student.document_specials)]
    return np.unique(np.concatenate([*ids, np.array([*specials[0], *specials[1], 0])])).astype(np.int64)


def small_student(model: str, student: Student, device: str) -> Student:
    """A smaller model that the config names, loaded as the base student is. Raises ModelError if it has another
    vocabulary than that, whose tokens it reads."""
    small = load_student(
        model, max_tokens=student.view.max_tokens, query_tokens=student.query_view.max_tokens, prompts=student.prompts,
        device=device,
    )  # fmt: skip
    if small.document_encoder is not None or not small.unit_length:
        problem = "makes vectors of other lengths than 1" if not small.unit_length else "has two encoders"
        raise ModelError(
            f"smaller: model {model!r} {problem}; expected one encoder of vectors of length 1: name another model"
        )
    if small.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise ModelError(
            f"smaller: model {model!r} has another vocabulary than the student {student.name!r}, whose tokens it "
            "reads; name a model of the same family, or static"
        )
    return small


def measure_cost(base: Base, name: str, final: Weights, student: Weights) -> Artifact:
    """`COST`: weights, dims, how long a query alone takes and how many documents a second, by the smaller student and
    by the final one in turn, so that their ratio holds on a busy machine too."""
    run = base.run

    def build(work: Work) -> None:
        corpus = base.collection.corpus
        both = {
            "final": student_from(final.student, run.config),
            "smaller": student_from(student.student, run.config),
        }
        queries = corpus.query_texts(base.collection.rows_of("dev")[:TIMED].tolist())
        documents = list(corpus.document_texts()[:TIMED])
        alone = timed_in_turn(
            {whose: one.model.encode_query for whose, one in both.items()}, [[text] for text in queries]
        )
        together = timed_in_turn({whose: one.model.encode_document for whose, one in both.items()}, [documents] * 3)
        found: dict[str, dict[str, float]] = {
            whose: {
                "parameters": sum(parameter.numel() for parameter in one.model.parameters()),
                "dims": one.dims,
                "query_ms": 1000 * alone[whose],
                "documents_a_second": len(documents) / together[whose],
            }
            for whose, one in both.items()
        }
        write_json(work.folder / COST, found)
        times = found["final"]["query_ms"] / found["smaller"]["query_ms"]
        work.counts.update(dims=found["smaller"]["dims"], queries_times=times)

    return run.runner.stage(f"{name}/cost", 2, {}, [final.key, student.key, base.tokens], build)


def timed_in_turn(encoders: Mapping[str, Callable[..., Any]], batches: Sequence[Sequence[str]]) -> dict[str, float]:
    """The median seconds that each encoder takes for a batch of texts."""
    taken: dict[str, list[float]] = {whose: [] for whose in encoders}
    for texts in [batches[0], *batches]:  # the first warms up
        for whose, encode in encoders.items():
            began = time.perf_counter()
            encode(texts, show_progress_bar=False)
            taken[whose].append(time.perf_counter() - began)
    return {whose: statistics.median(seconds[1:]) for whose, seconds in taken.items()}
