"""What the stages to come will take.

Amounts of work are predicted of all stages; seconds if a network does the work, as amount times what a trial took;
memory as what a trial held, the collection and the index, rather too much than too little. Nothing here changes a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdretrieval.chat import Cost, ServedModel
from sdretrieval.config import (
    Config,
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    MultiVectorConfig,
    members_of,
    settings_from,
)
from sdretrieval.digests import sealed
from sdretrieval.errors import SdretrievalError
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
    tokens_held,
    tokens_of_pieces,
    tokens_of_update,
)
from sdretrieval.planner.prices import reading_seconds
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


@dataclass(frozen=True)
class Forecast:
    """Predictions by stage address, of those stages that a run would make; `keys` are their artifacts'.

    `asked`: by stage what it asks of language models behind servers, as (setting, model, cost).
    """

    stages: dict[str, Prediction]
    keys: dict[str, str]
    asked: dict[str, list[tuple[str, ServedModel, Cost]]] = field(default_factory=dict)

    @property
    def seconds_of(self) -> dict[str, float]:
        """By stage address; what is not predicted counts for what it took when it was last made, else for nothing."""
        return {
            address: one.took or 0.0 if one.seconds is None else one.seconds for address, one in self.stages.items()
        }

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(self.seconds_of.values())

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
    elif pairs_read(address, config, load):
        for member in members_of(config.teacher):
            if isinstance(member, CrossEncoderConfig | MultiVectorConfig):
                figures = trials.reading(member)
                seconds = (seconds or 0.0) + reading_seconds(member, address, trials)
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
    pretrains = address.startswith("pretrained/")  # whose batch is held whole
    if pretrains:
        tokens = held = tokens_of_pieces(config, trials.load)
    else:
        tokens = tokens_of_update(config, trials.load)
        held = tokens_held(config, tokens)
    # A live average reads each batch too, with weights of its own, kept twice; no control has one.
    live = (
        not pretrains
        and ":" not in address
        and any(isinstance(m, EmaConfig) and m.mode == "live" and m.weight != 0 for m in members_of(config.teacher))
    )
    passes = 1 + ONE_MORE_PASS * (live + (not pretrains and config.train.batch_tokens is not None))
    seconds = tokens * figures["seconds_per_token"] * passes + figures["seconds_per_update"]
    fixed = figures["bytes_fixed"] + 2 * live * figures["bytes_weights"]
    kept = held * figures["bytes_per_token"]
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
