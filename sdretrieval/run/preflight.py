"""What can be refused before a run's first stage: exit code 2 means that nothing was computed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from functools import partial

from sdretrieval.chat import key_of_environment
from sdretrieval.config import (
    Config,
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    Member,
    MultiVectorConfig,
    RerankerApiConfig,
    members_of,
    settings_from,
    warnings,
)
from sdretrieval.config.conflicts import member_paths
from sdretrieval.corpus import find_source, read_marks
from sdretrieval.corpus.language import AUTO, require_detector
from sdretrieval.corpus.splits import require_judged
from sdretrieval.encode.batches import is_static
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.model_files import (
    CONFIG,
    check_has_vectors_of,
    check_is_bi_encoder,
    check_is_reranker,
    check_without_half,
    read_settings,
    words_folder,
)
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import Student, check_positions, positions_in, torch_device
from sdretrieval.errors import CorpusError, ModelError, RequestError
from sdretrieval.evaluation.gate import MERGE_SHARES
from sdretrieval.formatting import quantity
from sdretrieval.paths import typed_path
from sdretrieval.run.disk_needs import check_room
from sdretrieval.stages.corpus import given_examples, measuring_splits, writer_of
from sdretrieval.stages.evaluate import SMALLER
from sdretrieval.stages.guard import guard_split
from sdretrieval.stages.run import chat_model, prompts_of, student_from, whole_dims
from sdretrieval.store import Store
from sdretrieval.store.runner import Planned
from sdretrieval.training.tracking import require_trackers
from sdretrieval.units import Address

logger = logging.getLogger("sdretrieval")

DryRun = Callable[..., list[Planned]]
"""See `dry_run` of api.py."""

SHARED_STAGES = ("corpus", "queries", "verdicts", "tokens", "lexical", "lexical_half", "judge", "probe", "precision")
"""Of all generations: 0/corpus and so on."""
MEASURED_STAGES = ("encode", "index", "evaluate")
"""Of every student, the last generation's candidate (under the next number), controls and the final one included."""
SMALLER_STAGES = ("fit", *MEASURED_STAGES, "cost")
"""Of a smaller student."""
GENERATION_STAGES = (*MEASURED_STAGES, "mine", "score", "targets", "train", "gate", "guard", "merge")
STUDENTS = ("student_0", "half_0", "pretrained", "hard_labels", "shuffled_teacher", "final")
MERGE = re.compile(r"[0-9]+m0\.[0-9]+")
ON_DEMAND = {
    "0/queries": "only a run that makes queries from documents has it (corpus.labels: false, corpus.generated_queries)",
    "0/probe": "only probe.guard and weight: auto make a run probe; `sdretrieval probe` does it alone",
    "0/verdicts": "only corpus.verdicts makes it",
    "0/judge:dev": "only evaluate.judge makes it, of dev if corpus.labels is false",
    "0/fit": "only a cross-encoder with teacher.fit is fitted; its address is 0/fit:teacherN, N its position from 0",
    "0/precision": "only train.precision: auto or student.encode_precision: auto make a run measure it",
}


def check_request(config: Config, store: Store, until: str | None, worker: bool, dry_run: DryRun) -> list[Planned]:
    """Everything that can be refused before long work; what can be known at once is said at once. Returns the plan."""
    refuse_all([*settings_checks(config), lambda: _check_stop(until, worker, config)])
    say_settings(config)
    planned = dry_run(config, store, until)
    if until is not None and until not in {stage.address for stage in planned}:
        possible = [stage.address for stage in dry_run(config, store, assume=True)]
        check_stage_exists(until, possible, config.generations, [f"@{seed}" for seed in config.seeds[1:]])
    store.root.mkdir(parents=True, exist_ok=True)
    check_room(config, store, planned, check_student(config))
    return planned


def check_settings(config: Config) -> None:
    """What a plan refuses as well: it loads no model."""
    refuse_all(settings_checks(config))
    say_settings(config)


def refuse_all(checks: Iterable[Callable[[], object]]) -> None:
    """Run every check. Raises what one of them raises, or one RequestError that lists what several do."""
    problems: list[RequestError] = []
    for check in checks:
        try:
            check()
        except RequestError as problem:
            if str(problem) not in map(str, problems):
                problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = [f"{len(problems)} problems:", *(f"  {problem}" for problem in problems)]
        raise RequestError("\n".join(lines))


def settings_checks(config: Config) -> list[Callable[[], object]]:
    """Of sources, models and machine: each raises RequestError by itself, and needs no other."""
    return [
        lambda: check_corpus(config),
        lambda: check_verdicts(config),
        lambda: check_guard(config),
        lambda: prompts_of(config),
        *(partial(check_model, member, config) for member in (None, *members_of(config.teacher))),
        lambda: check_language_models(config),
        lambda: check_examples(config),
        lambda: check_machine(config),
        lambda: check_language(config),
        lambda: require_trackers(config.train.report_to),
    ]


def _check_stop(until: str | None, worker: bool, config: Config) -> None:
    if until is not None:
        check_until(until, config.generations)
    elif worker:
        raise RequestError("--worker needs --until: the stage up to which this process works, such as 1/score")


def say_settings(config: Config) -> None:
    """What a user should know of the config before anything begins."""
    for warning in warnings(config):
        logger.warning("%s", warning)
    prompts = prompts_of(config)
    if prompts.prompts != Prompts():
        logger.info("%s", prompts.line(config.student.model))
    doubt = prompts.doubt(config.student.model)
    if doubt:
        logger.warning("%s", doubt)


def check_machine(config: Config) -> None:
    """Raise MissingPackageError, ResourceError or ModelError if faiss or a GPU that is asked for is not there."""
    from sdretrieval.indexes.faiss_library import load_faiss
    from sdretrieval.indexes.gpu import choose_gpus

    load_faiss()
    if config.index.device == "cuda":
        choose_gpus("cuda", config.index.kind, 0)
    if config.student.device == "cuda":
        torch_device("cuda")


def check_model(member: Member | None, config: Config) -> None:
    """Raise ModelError if a member's model (None: the student's) is not there, is damaged or of another kind than
    expected, or has too short a context. Reads the model's settings, no weights."""
    name, tokens = config.student.model, config.student.max_tokens
    if isinstance(member, CrossEncoderConfig):
        name, tokens = member.model, member.max_tokens
        check_is_reranker(name, locate_model(name))
    elif isinstance(member, DenseConfig):
        name, tokens = member.model, member.view.max_tokens or tokens
        check_is_bi_encoder(name, locate_model(name))
        check_without_half(name, locate_model(name))
    elif isinstance(member, MultiVectorConfig):  # whose own limit bounds its windows
        check_has_vectors_of(member.kind, member.model, locate_model(member.model))
        return
    elif isinstance(member, EmaConfig):
        tokens = member.view.max_tokens or 0
    elif member is not None:
        return
    else:
        check_is_bi_encoder(name, locate_model(name))
        check_without_half(name, locate_model(name))
    check_positions(name, positions_in(read_settings(words_folder(locate_model(name)) / CONFIG)), tokens)


def check_language(config: Config) -> None:
    """Raise MissingPackageError if the language is to be recognised, and the package for it is not installed."""
    if config.mine.language == AUTO:
        require_detector()


def check_corpus(config: Config) -> None:
    """Raise CorpusError for a source that is not there or lacks judgements that the config needs, as far as its files
    say, MissingPackageError if a package that reads it is not installed."""
    cfg, split = config.corpus, config.evaluate.split
    counts = find_source(cfg.source).preview()
    if counts is None:
        return
    if split != "dev" and (cfg.labels or measuring_splits(counts)):
        require_judged(cfg.source, counts, split)
    if cfg.labels:
        require_judged(cfg.source, counts, "train")


def check_language_models(config: Config) -> None:
    """Raise ModelError if the seq2seq model that is to write queries is not there, RequestError if a language model's
    key is not in the environment. No server is asked: what it has answered before may be all that is needed."""
    writer, judge = writer_of(config), config.evaluate.judge
    if writer is not None and writer.url is None:
        locate_model(writer.model)
    if writer is not None and writer.url is not None:
        key_of_environment(chat_model(writer), "corpus.generate.writer")
    if judge is not None:
        key_of_environment(chat_model(judge), "evaluate.judge")
    for path, member in zip(member_paths(config), members_of(config.teacher), strict=True):
        if isinstance(member, RerankerApiConfig):
            key_of_environment(chat_model(member), path)


def check_examples(config: Config) -> None:
    """Raise CorpusError if `corpus.example_queries` is no file of twenty queries."""
    given_examples(config)


def check_verdicts(config: Config) -> None:
    """Raise RequestError if `corpus.verdicts` is no file of verdicts; its texts are looked for later."""
    if config.corpus.verdicts is not None:
        read_marks(typed_path(config.corpus.verdicts))


def check_guard(config: Config) -> None:
    """Raise CorpusError if the guard's collection is not there or has too few judgements, as far as its files say."""
    source = config.gate.guard
    if source is None:
        return
    try:
        counts = find_source(source).preview()
    except CorpusError as problem:  # which does not say what the corpus is for
        raise CorpusError(f"gate.guard: {problem}") from None
    if counts is not None:
        guard_split(source, counts)


def check_student(config: Config) -> Student:
    """The base student. Raises ModelError if it does not load, has two encoders of which one would learn for both,
    `train.freeze` names no part of it, or `train.lora_rank` finds no layer in it; RequestError if its vectors' dims do
    not suit the index.

    Names of parameters are known for certain only once it is loaded.
    """
    from sdretrieval.training.lora import linear_layers
    from sdretrieval.training.speed import frozen_names

    student = student_from(locate_model(config.student.model), config)
    if student.document_encoder is not None and config.student.train == "both":
        raise ModelError(
            f"model {config.student.model!r} has an encoder for queries and another for documents; student.train is "
            '"both", which trains one for both sides: set it to query (its query encoder learns on, its documents\' '
            "encoder stays), or name a base with one encoder"
        )
    if config.student.train == "adapter" and (student.document_encoder is not None or not student.unit_length):
        problem = "makes vectors of other lengths than 1" if not student.unit_length else "has two encoders"
        raise ModelError(
            f"model {config.student.model!r} {problem}; student.train is adapter, one linear map behind an encoder "
            "whose vectors have length 1: set it to query, or name another base"
        )
    if config.student.train != "adapter" or config.pretrain is not None:  # then the encoder itself learns
        frozen_names([name for name, _ in student.model.named_parameters()], config.train.freeze)
        if config.train.lora_rank is not None:
            linear_layers(student.model)
    unit = student.unit_length and config.student.lexical_half is None
    settings_from(config.index).check(whole_dims(config, student), unit=unit)
    if config.targets.temperature == "student" and not student.unit_length:
        raise RequestError(
            f'targets.temperature is "student", but {config.student.model} makes vectors of other lengths than 1: its '
            "scores are no cosines, which train.student_temperature is meant for; set it to auto or a number"
        )
    check_smaller(config, student)
    check_exits(config, student)
    return student


def check_smaller(config: Config, student: Student) -> None:
    """Raise RequestError or ModelError if a smaller student that the config asks for cannot be made of the base."""
    from sdretrieval.stages.smaller import STATIC, small_student
    from sdretrieval.training.smaller import first_layers

    for position, one in enumerate(config.smaller):
        path = f"smaller.{position}"
        if is_static(student.model) and (one.model is not None or one.layers is not None):
            raise RequestError(
                f"{path}: {config.student.model} has no transformer, nothing that encodes is smaller; expected "
                "fewer dims alone, or another base"
            )
        if one.dims is not None and one.dims >= student.dims:
            raise RequestError(f"{path}.dims is {one.dims}, the student's vectors have {student.dims}; expected fewer")
        named = one.model not in (None, STATIC)
        model = small_student(str(one.model), student, config.student.device).model if named else student.model
        if one.layers is not None:
            first_layers(model, one.layers, one.model or config.student.model)


def check_exits(config: Config, student: Student) -> None:
    """Raise RequestError or ModelError if the base has no such exits as `train.also` asks for."""
    from sdretrieval.training.exits import Exits

    also, name = config.train.also, config.student.model
    if also is None:
        return
    if not student.unit_length:
        raise ModelError(
            f"model {name!r} makes vectors of other lengths than 1, and train.also gives those of exits the length 1; "
            "leave it out, or name another base"
        )
    if also.layers and is_static(student.model):
        raise ModelError(f"model {name!r} has no layers; expected none in train.also.layers, or another base")
    if also.dims and max(also.dims) >= student.dims:
        raise RequestError(
            f"train.also.dims asks for {max(also.dims)}, the student's vectors have {student.dims}; expected fewer"
        )
    Exits(student.model, [(count, None) for count in also.layers], None, name)


def check_until(until: str, generations: int) -> None:
    """Raise RequestError if `until` is no GENERATION/STAGE.

    The candidate of the last generation is encoded and evaluated under the next number.
    """
    number, name, *_ = Address.of(until)
    stage = until.partition("/")[2]
    if name not in SHARED_STAGES + GENERATION_STAGES + SMALLER_STAGES:
        stages = ", ".join(dict.fromkeys(SHARED_STAGES + GENERATION_STAGES + SMALLER_STAGES))
        raise RequestError(f"--until {until}: expected GENERATION/STAGE such as 1/mine; stages: {stages}")
    if number == "0":
        if name not in (*SHARED_STAGES, "evaluate", "guard") and not stage.startswith(
            ("encode:teacher", "fit:teacher")
        ):
            raise RequestError(f"--until {until}: {name} belongs to a generation; expected 1/{stage}, for example")
    elif name in SHARED_STAGES:
        raise RequestError(f"--until {until}: {name} is shared by all generations; expected 0/{stage}")
    elif number.isdigit():
        last = generations + (name in MEASURED_STAGES)
        if int(number) > last:
            raise RequestError(
                f"--until {until}: the config has {quantity(generations, 'generations')}; expected at most "
                f"{last}/{stage}"
            )
    elif not (
        (MERGE.fullmatch(number) and name in (*MEASURED_STAGES, "gate", "guard"))
        or (number in STUDENTS and name in MEASURED_STAGES)
        or (number == "pretrained" and name in ("train", "merge", "gate", "guard"))
        or (number.startswith(SMALLER) and name in SMALLER_STAGES)
        or until.startswith("final/guard")
    ):
        raise RequestError(
            f"--until {until}: expected a generation's number before the /, or one of {', '.join(STUDENTS)} before "
            f"{', '.join(MEASURED_STAGES)}"
        )


def check_stage_exists(until: str, stages: Collection[str], generations: int, marks: Sequence[str] = ()) -> None:
    """Raise RequestError unless the config makes the stage `until`, or may make it, should a gate refuse."""
    if until in stages or until in {f"{stage}{mark}" for stage in _merges(generations) for mark in ("", *marks)}:
        return
    plain = until.partition(":")[0]
    close = [plain] if plain in stages else get_close_matches(until, stages, n=2, cutoff=0.75)
    known = f"did you mean {' or '.join(close)}?" if close else f"its stages: {', '.join(stages)}"
    raise RequestError(f"--until {until}: this config has no such stage; {ON_DEMAND.get(until, known)}")


def _merges(generations: int) -> set[str]:
    """Stages of the merges that a refused generation tries."""
    return {
        f"{number}{stage}"
        for number in range(1, generations + 1)
        for share in MERGE_SHARES
        for stage in (
            f"/merge:{share}",
            *(f"m{share}/{name}" for name in ("encode", "index", "evaluate:dev", "gate", "guard")),
        )
    }
