"""What the stages to come will take, and settings that fit a budget.

Amounts of work are predicted of all stages; seconds if a network does the work, as amount times what a trial took;
memory as what a trial held, the collection and the index, rather too much than too little. Nothing here changes a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from sdretrieval.chat import Cost, ServedModel
from sdretrieval.config import (
    Config,
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    MultiVectorConfig,
    members_of,
    parse_config,
    settings_from,
)
from sdretrieval.digests import sealed
from sdretrieval.errors import ConfigError, RequestError, SdretrievalError
from sdretrieval.files import write_json
from sdretrieval.formatting import readable_bytes, readable_seconds
from sdretrieval.indexes.auto import choose
from sdretrieval.indexes.gpu import shard_bytes
from sdretrieval.planner.amounts import (
    Prediction,
    amount_of,
    asked_of_models,
    fitting,
    pairs_read,
    predicted_json,
    reused_tokens,
    teacher_fitted,
    tokens_of_update,
    without_query,
)
from sdretrieval.planner.trials import FLOAT32, Calibration, Trials
from sdretrieval.planner.workload import Workload
from sdretrieval.stages.run import whole_dims
from sdretrieval.stages.teachers import view_of
from sdretrieval.store.run_folder import read_forecast
from sdretrieval.store.runner import Planned
from sdretrieval.units import UNITS, Address

CANNOT_FORECAST = (SdretrievalError, OSError, ValueError, MemoryError, RuntimeError)
"""What a dry run and its forecast may raise that stops no run: something in the store cannot be opened (a run makes it
again), or a trial needs more memory than there is (of which torch says RuntimeError)."""
ONE_MORE_PASS = 1 / 3
"""Of a token's cost in training (forward, and twice as much back): a forward pass."""
HOLES = {"train": 1.8, "encode": 2.2}
"""What the process holds over what tensors take in training, and over the peak of a trial of encoding: batches of ever
other shapes leave holes between them (docs/ablations/speed_and_memory.md)."""
DEVICE_HOLES = 1.2
"""The same of torch's allocator on a GPU; not measured yet."""
WARM = 300_000_000
"""Bytes that the libraries keep once they have computed: compiled kernels, buffers, holes."""
KEPT = 0.25
"""Of what training held: what is not given back after it."""
POSTING_BYTES = 8
"""BM25's, for a token of a document: 16 for a term of it, kept by document and by term."""
FAISS_SCRATCH = 1.5 * 2**30
"""Bytes that faiss takes of a GPU for itself."""

WORTH = 0.005
"""Share of the whole that a step must save: below it, something is given up for nothing."""
MOST_STEPS = 40
LEAST_EPOCHS = 0.2
"""Of the config's epochs: a training shorter than that is another experiment."""
LEAST_KEPT = 6
"""Documents in a list."""

MEANINGS = {
    "train.epochs": "fewer updates",
    "train.later_epochs": "fewer updates",
    "mine.keep": "shorter lists: the teacher scores fewer documents a query",
    "train.precision": "bfloat16 if it is faster here",
    "student.encode_precision": "bfloat16 if it is faster here",
    "train.queries_per_batch": "a query is compared with fewer other queries' documents",
    "train.gradient_accumulation": "as many queries an update as before, in several batches",
    "train.candidates_per_query": "fewer documents of a list at a time",
    "student.batch_tokens": "nothing but speed",
}


@dataclass(frozen=True)
class Forecast:
    """Predictions by stage address, of those stages that a run would make; `keys` are their artifacts'.

    `asked`: by stage what it asks of language models behind servers, as (setting, model, cost).
    """

    stages: dict[str, Prediction]
    keys: dict[str, str]
    asked: dict[str, list[tuple[str, ServedModel, Cost]]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """All stages together; what is not predicted counts for what it took when it was last made."""
        return sum(one.took or 0.0 if one.seconds is None else one.seconds for one in self.stages.values())

    @property
    def peak_bytes(self) -> int:
        """The most that any of them holds, of those predicted."""
        return max((one.peak_bytes or 0 for one in self.stages.values()), default=0)

    @property
    def device_bytes(self) -> int:
        """The same on the GPU; 0 without one."""
        return max((one.device_bytes or 0 for one in self.stages.values()), default=0)

    @property
    def held_bytes(self) -> int:
        """The larger of both: what a limit of memory is for."""
        return max(self.peak_bytes, self.device_bytes)

    def summary(self) -> str:
        """How long, how much memory, and of how much of the run that is said."""
        others = [one.took for one in self.stages.values() if one.seconds is None]  # not predicted
        timed = [seconds for seconds in others if seconds is not None]
        on_gpu = f" and {readable_bytes(self.device_bytes)} on the GPU" if self.device_bytes else ""
        words = f"about {readable_seconds(self.seconds)}, {readable_bytes(self.peak_bytes)} of memory{on_gpu}"
        parts = []
        if predicted := len(self.stages) - len(others):
            parts.append(f"{predicted} predicted, those that encode, read pairs or train")
        if timed:
            parts.append(f"{len(timed)} as long as last time: {readable_seconds(sum(timed))}")
        if len(timed) < len(others):
            parts.append(f"{len(others) - len(timed)} small, not timed")
        return f"{words} ({'; '.join(parts)})"

    def to_json(self) -> dict[str, dict[str, Any]]:
        """By stage address: key, unit, the manifest's counts that make it up, and what is predicted."""
        return {
            address: {
                "key": self.keys[address],
                "unit": one.amount.unit if one.amount else None,
                "counts": list(UNITS[Address.of(address).stage][1]) if one.amount else [],
                "predicted": predicted_json(one),
            }
            for address, one in self.stages.items()
        }


def forecast(
    config: Config,
    planned: Sequence[Planned],
    load: Workload,
    calibration: Calibration,
    batch_tokens: int | None = None,
) -> Forecast:
    """The forecast of the stages of a dry run (`planned`) that are not in the store, each artifact once.

    `batch_tokens`: of the student's batches, if the config leaves that open. Trials that the calibration lacks are run.
    """
    trials = Trials(config, load, calibration, batch_tokens)
    first = {stage.key: stage for stage in reversed(planned) if not stage.cached}  # what it makes, later ones find
    todo = [stage for stage in planned if first.get(stage.key) is stage]
    predictions: dict[str, Prediction] = {}
    kept = 0.0
    for stage in todo:
        training = Address.of(stage.address).stage == "train"
        predictions[stage.address] = one = _predict(stage, trials, 0.0 if training else kept)
        if training and one.peak_bytes is not None:  # which the next training takes again
            kept = max(kept, KEPT * (one.peak_bytes - calibration.base_bytes))
    asked = {stage.address: asked_of_models(stage.address, config, load) for stage in todo}
    return Forecast(
        predictions,
        {stage.address: stage.key for stage in todo},
        {address: of for address, of in asked.items() if of},
    )


Held = tuple[float, float]
"""Bytes beside what the process holds anyway: in memory, and on the GPU."""


def _predict(stage: Planned, trials: Trials, kept: float) -> Prediction:
    """Amount times what a unit took in a trial. `kept`: bytes that an earlier training left in the process."""
    config, load, address = trials.config, trials.load, Address.of(stage.address).unmarked
    name, amount = Address.of(address).stage, amount_of(address, config, load)
    seconds: float | None = None
    pace: float | None = None
    works: list[Held] = []
    if name in ("encode", "guard") and amount:
        figures = trials.encoding(address if name == "encode" else "1/encode")
        pace = figures["seconds_per_token"]
        seconds = (amount.count - reused_tokens(address, config, load)) * pace
        works.append((HOLES["encode"] * figures["bytes"], figures["device_bytes"]))
    elif name == "train" and amount:
        pace, held = _training(address, trials)
        seconds = amount.count * pace
        works.append(held)
    elif name == "fit" and amount:
        if teacher := teacher_fitted(address, config, load):
            seconds = teacher.passes * trials.reading(teacher.member)["seconds_per_pair"]
        elif tokens := fitting(address, config, load).tokens:  # all layers, at most; the others take a minute or two
            seconds = tokens * trials.training()["seconds_per_token"]
    elif pairs := pairs_read(address, config, load):
        for member in members_of(config.teacher):
            if isinstance(member, CrossEncoderConfig | MultiVectorConfig):
                figures = trials.reading(member)
                # A document is encoded once, however many lists it is in.
                most = pairs if member.kind == "cross_encoder" else load.documents + without_query(address, load)
                seconds = (seconds or 0.0) + min(pairs, most) * figures["seconds_per_pair"]
                works.append((HOLES["encode"] * figures["bytes"], figures["device_bytes"]))
    if name in ("index", "mine", "evaluate", "probe", "probability"):  # they open the index
        works.append(_index_bytes(trials))
    if not works:
        return Prediction(amount, seconds, None, stage.seconds, pace)
    calibration = trials.calibration
    peak = calibration.base_bytes + WARM + kept + _collection_bytes(config, load) + max(held for held, _ in works)
    device = calibration.device_bytes + max(on_device for _, on_device in works)
    return Prediction(amount, seconds, round(peak), stage.seconds, pace, round(device) if trials.on_gpu else None)


def _training(address: str, trials: Trials) -> tuple[float, Held]:
    """Seconds of an update, and what training holds."""
    config, figures = trials.config, trials.training()
    tokens = tokens_of_update(config, trials.load)
    # A live average reads each batch too, with weights of its own, kept twice; no control has one.
    live = ":" not in address and any(
        isinstance(m, EmaConfig) and m.mode == "live" and m.weight != 0 for m in members_of(config.teacher)
    )
    seconds = tokens * figures["seconds_per_token"] * (1 + ONE_MORE_PASS * live) + figures["seconds_per_update"]
    fixed = figures["bytes_fixed"] + 2 * live * figures["bytes_weights"]
    kept = tokens / config.train.gradient_accumulation * figures["bytes_per_token"]
    if trials.on_gpu:
        return seconds, (figures["bytes_weights"], DEVICE_HOLES * (fixed + kept))
    return seconds, (fixed + HOLES["train"] * kept, 0.0)


def _index_bytes(trials: Trials) -> Held:
    config, load = trials.config, trials.load
    documents, dims = max(load.documents, 1), whole_dims(config, load.student)
    settings = choose(settings_from(config.index), documents, dims).settings
    on_gpu = trials.on_gpu and config.index.device != "cpu" and not settings.no_gpu
    device = shard_bytes(documents, dims, settings.kind) + FAISS_SCRATCH if on_gpu else 0.0
    return documents * settings.memory_bytes(documents, dims), device


def _collection_bytes(config: Config, load: Workload) -> float:
    """Texts, tokens and vectors, which are mapped from files, and BM25: small beside the libraries, or most of it all.

    Mapped pages count as the process's, though the system may take them back.
    """
    reader, texts = load.reader, load.document_texts
    characters = sum(map(len, texts)) / max(len(texts), 1) * load.documents
    windows = float(load.documents)
    for member in members_of(config.teacher):
        if isinstance(member, EmaConfig | DenseConfig):
            windows += reader.documents.windows(view_of(member.view, config), reader.specials)
    return (
        characters
        + (FLOAT32 + POSTING_BYTES) * reader.documents.total()
        + FLOAT32 * whole_dims(config, load.student) * windows
    )


def write_forecast(path: Path, now: Forecast) -> None:
    """Keep what is predicted `now`, and what an earlier process of the run predicted of other artifacts."""
    earlier = read_forecast(path.parent)
    kept = {address: one for address, one in earlier.items() if now.keys.get(address) in (None, one["key"])}
    write_json(path, sealed({**now.to_json(), **kept}))


# --- a budget: while a run would take too long, or hold too much, what saves most is given up


@dataclass(frozen=True)
class Budget:
    """Seconds and bytes that a run may take; None: as many as it likes."""

    seconds: float | None = None
    peak_bytes: int | None = None

    def late(self, forecast: Forecast) -> bool:
        """Whether the run takes too long."""
        return self.seconds is not None and forecast.seconds > self.seconds

    def large(self, forecast: Forecast) -> bool:
        """Whether it holds too much, in memory or on the GPU."""
        return self.peak_bytes is not None and forecast.held_bytes > self.peak_bytes


class GivenUp(NamedTuple):
    """A setting that was changed to fit, and what that means."""

    setting: str
    before: Any
    now: Any
    meaning: str


@dataclass(frozen=True)
class Fitted:
    """The config that fits, what was given up for it, and its forecast."""

    config: Config
    given_up: list[GivenUp]
    forecast: Forecast

    @property
    def overrides(self) -> list[str]:
        """As `--set` takes them."""
        return [f"{one.setting}={one.now}" for one in self.given_up]


def fit(config: Config, forecast_of: Callable[[Config], Forecast], budget: Budget, usual_tokens: int = 2048) -> Fitted:
    """The config changed until it fits. Raises RequestError, saying what takes the most, if nothing helps.

    `usual_tokens`: of a batch of encoding, if the config leaves that open.
    """
    now, forecast = config, forecast_of(config)
    for _ in range(MOST_STEPS):
        late = budget.late(forecast)
        if not late and not budget.large(forecast):
            return Fitted(now, _given_up(config, now), forecast)
        # Of all changes, the one that saves most of what there is too much of.
        measure = attrgetter("seconds" if late else "held_bytes")
        moves = _shorter(now, config) if late else _smaller(now, usual_tokens)
        changed = [(other, forecast_of(other)) for move in moves if (other := _changed(now, move)) is not None]
        worth = [one for one in changed if measure(one[1]) < measure(forecast) * (1 - WORTH)]
        if not worth:
            break
        now, forecast = min(worth, key=lambda one: measure(one[1]))
    raise RequestError(_too_much(forecast, budget, _given_up(config, now)))


def _shorter(now: Config, config: Config) -> Iterator[dict[str, Any]]:
    """Changes that save time: settings by dotted name."""
    if (epochs := round(now.train.epochs * 0.85, 3)) >= LEAST_EPOCHS * config.train.epochs:
        later = now.train.later_epochs
        yield {"train.epochs": epochs} | ({"train.later_epochs": round(later * 0.85, 3)} if later else {})
    if (keep := int(now.mine.keep * 0.75)) >= max(LEAST_KEPT, now.train.candidates_per_query):
        yield {"mine.keep": keep}
    if now.train.precision == "float32":
        yield {"train.precision": "auto"}
    if now.student.encode_precision == "float32":
        yield {"student.encode_precision": "auto"}


def _smaller(now: Config, usual_tokens: int) -> Iterator[dict[str, Any]]:
    """Changes that save memory; those that cost nothing but speed first."""
    train = now.train
    if train.queries_per_batch >= 4:
        yield {
            "train.queries_per_batch": -(-train.queries_per_batch // 2),
            "train.gradient_accumulation": 2 * train.gradient_accumulation,
        }
    if (candidates := int(train.candidates_per_query * 0.75)) >= 2:
        yield {"train.candidates_per_query": candidates}
    if (tokens := (now.student.batch_tokens or usual_tokens) // 2) >= 256:
        yield {"student.batch_tokens": tokens}


def _changed(config: Config, settings: dict[str, Any]) -> Config | None:
    """The config with other settings; None if they contradict another one."""
    try:
        return parse_config(config.model_dump(mode="json"), [f"{name}={value}" for name, value in settings.items()])
    except ConfigError:
        return None


def _given_up(config: Config, now: Config) -> list[GivenUp]:
    changed = []
    for setting, meaning in MEANINGS.items():
        of = attrgetter(setting)
        if of(config) != of(now):
            changed.append(GivenUp(setting, of(config), of(now), meaning))
    return changed


def _too_much(forecast: Forecast, budget: Budget, given_up: list[GivenUp]) -> str:
    late = budget.late(forecast)
    held = {address: max(one.peak_bytes or 0, one.device_bytes or 0) for address, one in forecast.stages.items()}
    amounts = {address: one.seconds or 0 for address, one in forecast.stages.items()} if late else held
    readable: Callable[[Any], str] = readable_seconds if late else readable_bytes
    largest = sorted(amounts.items(), key=lambda one: -one[1])[:4]
    most = ", ".join(f"{address} {readable(amount)}" for address, amount in largest)
    tried = f" even with {', '.join(f'{one.setting} {one.now}' for one in given_up)}" if given_up else ""
    if late:
        assert budget.seconds is not None
        return (
            f"--budget-minutes {budget.seconds / 60:g}: this config takes {readable(forecast.seconds)} "
            f"here{tried}; most: {most}. Encoding and measuring cannot be shortened by settings of mining and "
            "training: fewer documents (--set corpus.max_documents=N), generations, seeds or controls "
            "(--set evaluate.controls=[]) need less"
        )
    assert budget.peak_bytes is not None
    return (
        f"--max-memory {readable(budget.peak_bytes)}: this config holds {readable(forecast.held_bytes)} "
        f"here{tried}; most: {most}. A smaller student, or an index of codes (index.kind: PQ32), holds less"
    )
