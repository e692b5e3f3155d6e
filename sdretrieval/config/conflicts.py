"""What no single field can say: settings that contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from sdretrieval.config.index_section import settings_from
from sdretrieval.config.schema import Config, IndexConfig
from sdretrieval.config.teachers import (
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    EnsembleConfig,
    LexicalConfig,
    MultiVectorConfig,
    RerankerApiConfig,
    ScoresConfig,
    ViewConfig,
    members_of,
)
from sdretrieval.evaluation.prediction import MEASURE
from sdretrieval.synthetic_queries.recipe import KINDS as QUERY_KINDS

FROZEN_LAYERS = re.compile(r"layers:\d+")
VECTOR_KINDS = ("ema", "dense")
"""Kinds of teachers whose class is a `HasVectors`."""
PAIRS_ALONE = CrossEncoderConfig | MultiVectorConfig | RerankerApiConfig | ScoresConfig
"""Teachers that score the pairs of the lists, never a whole batch."""


class Conflict(NamedTuple):
    """Settings that cannot go together: the dotted paths involved (the first is blamed) and what is wrong."""

    paths: tuple[str, ...]
    text: str


def conflicts(config: Config) -> list[Conflict]:
    """All contradictions between fields that are each well-formed."""
    return [
        *_seeds(config), *_sizes(config), *_index(config.index), *_queries(config), *_teacher(config),
        *_temperature(config), *_loss(config), *_sides(config), *_measures(config), *_smaller(config), *_also(config),
        *_pretrain(config),
    ]  # fmt: skip


def _seeds(config: Config) -> Iterator[Conflict]:
    for position, seed in enumerate(config.seeds):
        if seed in config.seeds[:position]:
            text = f"found {seed} again; expected another number: the same seed gives the same training"
            yield Conflict((f"seeds.{position}",), text)


def _sizes(config: Config) -> Iterator[Conflict]:
    mine, train, targets = config.mine, config.train, config.targets
    if mine.keep > mine.depth:
        text = f"found {mine.keep}; expected at most mine.depth ({mine.depth}): no list keeps more than was retrieved"
        yield Conflict(("mine.keep", "mine.depth"), text)
    if train.candidates_per_query > mine.keep:
        text = f"found {train.candidates_per_query}; expected at most mine.keep ({mine.keep}), a list's length"
        yield Conflict(("train.candidates_per_query", "mine.keep"), text)
    if targets.target_perplexity >= mine.keep:
        text = f"found {targets.target_perplexity:g}; expected less than mine.keep ({mine.keep}), a uniform list's"
        yield Conflict(("targets.target_perplexity", "mine.keep"), text)


def _index(index: IndexConfig) -> Iterator[Conflict]:
    settings = settings_from(index)
    for name, text in settings.problems():
        yield Conflict((f"index.{name}", "index.kind"), text)
    if index.device == "cuda" and settings.no_gpu:
        text = f'found "cuda", but index.kind is {index.kind}: {settings.no_gpu}; expected auto or cpu'
        yield Conflict(("index.device", "index.kind"), text)


def _queries(config: Config) -> Iterator[Conflict]:
    cfg = config.corpus.generate
    if cfg.written > 0 and cfg.writer is None:
        text = (
            f"found {cfg.written:g}, but corpus.generate.writer is null; expected a model that writes queries, such as "
            "{url: http://localhost:11434/v1, model: NAME} or {model: doc2query/msmarco-t5-small-v1}, or 0"
        )
        yield Conflict(("corpus.generate.written", "corpus.generate.writer"), text)
    if cfg.writer is not None and cfg.writer.url is not None and cfg.writer.prompt:
        text = (
            f'found "{cfg.writer.prompt}", but corpus.generate.writer.url names a server, whose model is told in '
            "sdretrieval's own words what to write; expected no prompt"
        )
        yield Conflict(("corpus.generate.writer.prompt", "corpus.generate.writer.url"), text)
    if cfg.writer is not None and cfg.writer.url is None:
        for name in ("key_variable", "concurrency", "timeout"):
            if (value := getattr(cfg.writer, name)) != type(cfg.writer).model_fields[name].default:
                text = (
                    f"found {value}, but corpus.generate.writer.url is null, so the model runs here and needs none; "
                    "expected the server's url"
                )
                yield Conflict((f"corpus.generate.writer.{name}", "corpus.generate.writer.url"), text)
    if not any(getattr(cfg, kind) > 0 for kind in QUERY_KINDS):
        text = "found 0, as every other kind; expected a share above 0 somewhere, else no query is made"
        yield Conflict(("corpus.generate.sentence",), text)


def _teacher(config: Config) -> Iterator[Conflict]:
    members = members_of(config.teacher)
    prefixes = member_paths(config)
    for prefix, member in zip(prefixes, members, strict=True):
        if config.train.scope == "batch" and isinstance(member, PAIRS_ALONE):
            kind = "scores, which has" if member.kind == "scores" else f"a {member.kind}, which scores"
            text = f'found "batch", but {prefix} is {kind} only the pairs of the lists; expected auto or list'
            yield Conflict(("train.scope", f"{prefix}.kind"), text)
        if isinstance(member, EmaConfig | DenseConfig | MultiVectorConfig):
            yield from _gaps(member.view, f"{prefix}.view", config.student.max_tokens)
        if isinstance(member, CrossEncoderConfig):
            yield from _cross_encoder_view(member, prefix)
            yield from _fit(member, prefix, config)
    yield from _weights([member.weight for member in members], prefixes)


def member_paths(config: Config) -> list[str]:
    if isinstance(config.teacher, EnsembleConfig):
        return [f"teacher.members.{position}" for position in range(len(config.teacher.members))]
    return ["teacher"]


def _cross_encoder_view(member: CrossEncoderConfig, prefix: str) -> Iterator[Conflict]:
    if member.view.max_tokens is not None:
        text = (
            f"found {member.view.max_tokens}; a cross-encoder's window is what {prefix}.max_tokens "
            f"({member.max_tokens}) leaves beside the query; expected null"
        )
        yield Conflict((f"{prefix}.view.max_tokens", f"{prefix}.max_tokens"), text)
        return
    yield from _gaps(member.view, f"{prefix}.view", member.max_tokens)


def _fit(member: CrossEncoderConfig, prefix: str, config: Config) -> Iterator[Conflict]:
    """What a cross-encoder learns from: people's judgements, in the lists that were mined."""
    if member.fit is None:
        return
    if not config.corpus.labels and config.corpus.verdicts is None:
        text = (
            "a cross-encoder learns from train judgements, and corpus.labels is false; expected corpus.labels: true, "
            "or null"
        )
        yield Conflict((f"{prefix}.fit", "corpus.labels"), text)
    if member.fit.candidates > config.mine.keep:
        text = f"found {member.fit.candidates}; expected at most mine.keep ({config.mine.keep}), a list's length"
        yield Conflict((f"{prefix}.fit.candidates", "mine.keep"), text)


def _gaps(view: ViewConfig, path: str, student_tokens: int) -> Iterator[Conflict]:
    width = view.max_tokens or student_tokens
    if view.windows == "all" and view.stride is not None and view.stride > width:
        text = f"found {view.stride}; expected at most the window's {width} tokens, else parts are never seen"
        yield Conflict((f"{path}.stride", f"{path}.max_tokens", "student.max_tokens"), text)


def _weights(weights: list[float | str], prefixes: list[str]) -> Iterator[Conflict]:
    paths = tuple(f"{prefix}.weight" for prefix in prefixes)
    auto = [path for path, weight in zip(paths, weights, strict=True) if weight == "auto"]
    if auto and len(auto) < len(weights):
        fixed = [path for path in paths if path not in auto]
        text = f"found a number, but {', '.join(auto)} is auto; expected auto on every member or on none"
        yield from (Conflict((path, *paths), text) for path in fixed)
    if all(weight == 0 for weight in weights):
        found = "0" if len(weights) == 1 else "0 on every member"
        yield Conflict(paths, f"found {found}; expected a weight above 0 somewhere, else nothing teaches")


def _temperature(config: Config) -> Iterator[Conflict]:
    """The student's own temperature divides cosines: some member must have them, in one unit for all queries."""
    cfg, members = config.targets, members_of(config.teacher)
    if cfg.temperature != "student":
        return
    if not any(has_vectors(member) and member.weight != 0 for member in members):
        text = (
            f'found "student", but no member that counts is a bi-encoder (found {", ".join(m.kind for m in members)}): '
            "nothing is on the scale of the student's cosines; expected auto or a number, or an ema member"
        )
        yield Conflict(("targets.temperature", *(f"{path}.kind" for path in member_paths(config))), text)
    if cfg.calibrate in ("zscore", "minmax"):
        text = (
            f'found "student", but targets.calibrate is {cfg.calibrate}, after which a cosine is worth something else '
            "in each query or is cut off; expected calibrate: absolute, or another temperature"
        )
        yield Conflict(("targets.temperature", "targets.calibrate"), text)


def _loss(config: Config) -> Iterator[Conflict]:
    """Vectors can be followed only if every member that may count has some."""
    if config.train.loss != "embedding":
        return
    for prefix, member in zip(member_paths(config), members_of(config.teacher), strict=True):
        if member.weight == 0:
            continue
        if not has_vectors(member):
            text = (
                f'found "embedding", but {prefix} ({member.kind}) has scores and no vectors; expected listwise_kl or '
                "margin_mse, or members that all have vectors, such as ema (weight: 0 leaves one out)"
            )
            yield Conflict(("train.loss", f"{prefix}.kind", f"{prefix}.weight"), text)
        elif isinstance(member, EmaConfig) and member.mode == "live":
            text = (
                f'found "embedding", but {prefix} is live: its vectors move while the student regresses on them; '
                "expected mode: frozen, base or born_again, or another loss"
            )
            yield Conflict(("train.loss", f"{prefix}.mode", f"{prefix}.weight"), text)


def _sides(config: Config) -> Iterator[Conflict]:
    if config.student.train == "query" and config.train.loss == "embedding":
        text = (
            'found "embedding", but student.train is query: documents keep the base student\'s vectors, which are not '
            "those that the teacher compares its query vectors with; expected listwise_kl or margin_mse"
        )
        yield Conflict(("train.loss", "student.train"), text)
    if config.student.train == "adapter":
        for prefix, member in zip(member_paths(config), members_of(config.teacher), strict=True):
            if isinstance(member, EmaConfig) and member.mode == "live":
                text = (
                    'found "live", but student.train is adapter: batches bring vectors, and a live teacher reads '
                    "texts; expected frozen, base or born_again"
                )
                yield Conflict((f"{prefix}.mode", "student.train"), text)
        for name in ("batch_tokens", "lora_rank"):
            if (value := getattr(config.train, name)) is not None:
                text = f"found {value}, but student.train is adapter: no transformer reads a text; expected null"
                yield Conflict((f"train.{name}", "student.train"), text)
    if config.student.train == "query" and config.student.lexical_half is not None:
        text = (
            'found "query", but student.lexical_half puts dims behind every vector of a document, so that an index of '
            "the base student's documents cannot stay valid; expected both, or no lexical half"
        )
        yield Conflict(("student.train", "student.lexical_half"), text)


def has_vectors(member: object) -> bool:
    """Whether a member is a bi-encoder, which has a vector for each text."""
    return getattr(member, "kind", "") in VECTOR_KINDS


def _measures(config: Config) -> Iterator[Conflict]:
    evaluate, gate = config.evaluate, config.gate
    if evaluate.split == "train":
        text = 'found "train", the queries that are trained on; expected another split'
        yield Conflict(("evaluate.split",), text)
    if int(gate.measure.split("@")[1]) > evaluate.depth:
        text = f'found "{gate.measure}"; expected a cut of at most evaluate.depth ({evaluate.depth})'
        yield Conflict(("gate.measure", "evaluate.depth"), text)
    elif probes(config) and (blind := blind_to_order(config)):
        without = "" if by_probe(config) else ", or probe.guard: false"
        yield Conflict(("gate.measure", "evaluate.teacher_depth"), blind + without)
    for position, measure in enumerate(evaluate.measures):
        if int(measure.split("@")[1]) > evaluate.depth:
            path = f"evaluate.measures.{position}"
            text = f'found "{measure}"; expected a cut of at most evaluate.depth ({evaluate.depth})'
            yield Conflict((path, "evaluate.depth"), text)
    if evaluate.teacher_depth > evaluate.depth:
        text = f"found {evaluate.teacher_depth}; expected at most evaluate.depth ({evaluate.depth})"
        yield Conflict(("evaluate.teacher_depth", "evaluate.depth"), text)


def _smaller(config: Config) -> Iterator[Conflict]:
    names: list[str] = []
    for position, one in enumerate(config.smaller):
        path = f"smaller.{position}"
        if one.model is None and one.layers is None and one.dims is None:
            text = "found the final student itself; expected another model, fewer layers or fewer dims"
            yield Conflict((path,), text)
        if one.model == "static" and one.layers is not None:
            text = f"found {one.layers}, but {path}.model is static, which has no layers; expected null"
            yield Conflict((f"{path}.layers", f"{path}.model"), text)
        if one.epochs is not None and one.model is None and one.layers is None:
            text = f"found {one.epochs:g}, but {path} has no encoder of its own to fit; expected null"
            yield Conflict((f"{path}.epochs", path), text)
        if one.name in names:
            yield Conflict((path,), f"found {one.name} again; expected another model, other layers or dims")
        names.append(one.name)
    if config.smaller and config.student.train == "query":
        text = (
            "found smaller students, but student.train is query: queries and documents have encoders of their own, and "
            "one smaller student cannot follow both; expected none, or student.train both or adapter"
        )
        yield Conflict(("smaller", "student.train"), text)


def _pretrain(config: Config) -> Iterator[Conflict]:
    if config.pretrain is not None and config.student.train == "query":
        text = (
            "found a section, but student.train is query: documents keep the base student's vectors, and pretraining "
            "changes them; expected null, or student.train both or adapter"
        )
        yield Conflict(("pretrain", "student.train"), text)


def _also(config: Config) -> Iterator[Conflict]:
    """What learns along with the student is a part of it, and encodes both sides."""
    also, train = config.train.also, config.student.train
    if also is None:
        return
    if not config.exits:
        text = "found neither layers nor dims; expected some, such as {layers: [3], dims: [128]}, or null"
        yield Conflict(("train.also",), text)
    for name in ("layers", "dims"):
        sizes = getattr(also, name)
        for position, size in enumerate(sizes):
            if size in sizes[:position]:
                yield Conflict((f"train.also.{name}.{position}",), f"found {size} again; expected another number")
    if train == "query":
        text = (
            "found exits, but student.train is query: documents keep the base student's vectors, which no exit of the "
            "query encoder was taught to search; expected null, or student.train both"
        )
        yield Conflict(("train.also", "student.train"), text)
    if train == "adapter" and also.layers:
        text = (
            f"found {list(also.layers)}, but student.train is adapter: no layer learns, only a linear map behind them "
            "all; expected dims alone, or student.train both"
        )
        yield Conflict(("train.also.layers", "student.train"), text)
    frozen = max(
        [int(part.removeprefix("layers:")) for part in config.train.freeze if FROZEN_LAYERS.fullmatch(part)] + [0]
    )
    for position, count in enumerate(also.layers):
        if count <= frozen:
            text = (
                f"found {count}, but train.freeze holds layers:{frozen}: no layer of such an exit learns; expected more"
            )
            yield Conflict((f"train.also.layers.{position}", "train.freeze"), text)
    names = [one.name for one in config.exits]
    for position, one in enumerate(config.smaller):
        if one.name in names:
            text = f"found {one.name}, which train.also teaches already; leave it out of one of them"
            yield Conflict((f"smaller.{position}", "train.also"), text)


def blind_to_order(config: Config) -> str | None:
    """What is wrong with `gate.measure` as a probe's, which reranks a student's top: some see no order within it."""
    (kind, cut), depth = config.gate.measure.split("@"), config.evaluate.teacher_depth
    if kind not in ("Recall", "P") or int(cut) < depth:
        return None
    return (
        f'found "{config.gate.measure}"; the probe reranks the student\'s top {depth} '
        "(evaluate.teacher_depth), whose order such a cut does not see; expected a shorter cut, or nDCG"
    )


def by_probe(config: Config) -> bool:
    """Whether the probe chooses the weights."""
    return any(member.weight == "auto" for member in members_of(config.teacher))


def probes(config: Config) -> bool:
    """Whether a run probes: for the weights, or to train nothing if there is nothing to learn."""
    return config.probe.guard or by_probe(config)


def knows_labels(config: Config) -> bool:
    """Whether there is some document known to be relevant."""
    corpus = config.corpus
    return corpus.labels or corpus.generated_queries > 0 or corpus.verdicts is not None


def learns_labels(config: Config) -> bool:
    """Whether training learns from labels, and there are some."""
    in_target = config.targets.label_evidence > 0 and config.train.loss != "embedding"
    return knows_labels(config) and (config.train.hard_label_weight > 0 or in_target)


def is_harmless(config: Config) -> bool:
    """Whether members are mixed on the absolute scale, where a mixture does little harm: it needs no estimate, and what
    is beyond has to earn its place."""
    return str(config.targets.calibrate) == "absolute"


def studied(config: Config) -> int | None:
    """Which member is BM25, if the config's teacher is what the prediction was learned on; else None."""
    members = members_of(config.teacher)
    words = [n for n, member in enumerate(members) if isinstance(member, LexicalConfig)]
    averages = sum(isinstance(member, EmaConfig) for member in members)
    known = len(words) == 1 and averages == len(members) - 1 > 0
    return words[0] if known and is_harmless(config) and config.gate.measure == MEASURE else None


def follows(config: Config) -> bool:
    """Whether queries kept out of training decide about the student: people asked all training queries, nobody judged
    any, and the teacher's gain can be predicted (beside a lexical half, that over the student without it)."""
    corpus = config.corpus
    asked = not corpus.labels and not corpus.generated_queries
    return asked and probes(config) and studied(config) is not None
