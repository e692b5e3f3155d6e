"""The stages that are still to be made, each with its prediction."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdretrieval.config import Config, DenseConfig, members_of
from sdretrieval.corpus import Corpus, default_cache
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.student import Student
from sdretrieval.encode.views import View
from sdretrieval.errors import DamagedArtifact
from sdretrieval.planner.amounts import Known
from sdretrieval.planner.predict import Prediction, predict
from sdretrieval.planner.rates import Rates
from sdretrieval.planner.speeds import Speeds
from sdretrieval.planner.tuning import Tuning, tuned
from sdretrieval.planner.workload import SAMPLE, Reader, Workload, examples, read_by_guest, workload_of
from sdretrieval.run.generations import Pipeline
from sdretrieval.run.outline import Outline, Outlined, outline
from sdretrieval.run.shared import precision_of
from sdretrieval.stages.guests import Guest
from sdretrieval.stages.teach import view_of
from sdretrieval.store import Ledger, Store, readable_bytes
from sdretrieval.store.memory import resident_bytes
from sdretrieval.store.runner import Stopped
from sdretrieval.training.speed import faster_precision

logger = logging.getLogger("sdretrieval")

FEW_DOCUMENTS = 1000
"""Fewer are worked on in a minute or two."""
CALIBRATION = "calibration.json"
"""In the user's cache: what this machine was found to do."""


@dataclass(frozen=True)
class Forecast:
    """Predictions by stage address, of those stages that a run would make; `keys` are their artifacts'."""

    stages: dict[str, Prediction]
    keys: dict[str, str]

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(one.seconds for one in self.stages.values())

    @property
    def refusal_seconds(self) -> float:
        """What a generation adds that the gate refuses, for each mixture that is encoded and measured. 0 where no gate
        is to come."""
        refused = (address for address in self.stages if address.endswith("/gate"))
        first = min((int(address.partition("/")[0]) for address in refused), default=0)
        parts = [f"{first + 1}/{name}" for name in ("encode", "refresh", "index", "evaluate:dev")]
        return sum(self.stages[part].seconds for part in parts if part in self.stages)

    @property
    def peak_bytes(self) -> int:
        """The most that any of them holds."""
        return max((one.peak_bytes for one in self.stages.values()), default=0)

    def to_json(self) -> dict[str, dict[str, float | str | int]]:
        """By stage address."""
        return {
            address: {
                "key": self.keys[address],
                "unit": one.amount.unit if one.amount else "",
                "amount": one.amount.count if one.amount else 0,
                "bytes": one.amount.bytes if one.amount else 0,
                "seconds": round(one.seconds, 2),
                "peak_rss_bytes": one.peak_bytes,
            }
            for address, one in self.stages.items()
        }


@dataclass(frozen=True)
class Planner:
    """Forecasts configs that differ in settings of mining and training: the texts were sampled once.

    `tuning`: with what this machine encodes fastest.
    """

    store: Store
    student: Student
    load: Workload
    speeds: Speeds
    tuning: Tuning
    guests: dict[int, Reader]
    base_bytes: int
    until: str | None

    def __call__(self, config: Config) -> Forecast:
        """The forecast of a config."""
        stages = _outlined(config, self.store, self.until)
        precisions = _precisions(_opened(config, self.store), self.speeds, self.student)
        known = Known(config, self.load, self.student, self.guests)
        return _forecast(Rates(known, self.speeds, precisions, self.tuning.batch_tokens, self.base_bytes), stages)


def planner_of(
    config: Config, store: Store, student: Student, until: str | None = None, *, again: bool = False
) -> Planner:
    """Samples the collection's texts, and finds with how many threads, which this process then has, to work.

    `again`: measure this machine anew, whatever is known of it. Raises CorpusError as reading the corpus does.
    """
    base_bytes = resident_bytes()
    load = workload_of(_opened(config, store), student)
    speeds = Speeds(default_cache() / CALIBRATION, config.student.device, again)
    view, specials = View(config.student.max_tokens), student.document_specials
    windows = [view.cut(ids, specials)[0] for ids in examples(load.documents.sample, SAMPLE)]
    tuning = tuned(student, windows, speeds, config.student.batch_tokens)
    return Planner(store, student, load, speeds, tuning, _guests(config, load), base_bytes, until)


def _guests(config: Config, load: Workload) -> dict[int, Reader]:
    """By position: how dense members see the texts."""
    return {
        position: read_by_guest(load, Guest(member, view_of(member.view, config), config.student.device))
        for position, member in enumerate(members_of(config.teacher))
        if isinstance(member, DenseConfig)
    }


class _Planning(Outline):
    """Opens what is in the store, where an outline looks at nothing."""

    def _place(self, key: str) -> Path:
        return self.store.path_of(key)


def _outlined(config: Config, store: Store, until: str | None) -> Mapping[str, Outlined]:
    """The stages to come, where the store knows a gate's or the probe's decision as it was decided.

    Where something there cannot be opened, as if nothing were there: a run makes it again.
    """
    walker = _opened(config, store, until)
    assert isinstance(walker.runner, Outline)
    try:
        with _silence():
            walker.run()
    except Stopped:
        pass  # at `until`: what comes before it is the forecast
    except (OSError, ValueError, KeyError, DamagedArtifact) as damage:
        logger.info("the forecast looks at nothing in the store: something there cannot be opened (%s)", damage)
        return outline(config, store, until)[0]
    return walker.runner.stages


@contextmanager
def _silence() -> Iterator[None]:
    """What gates and probe decided was said when they did."""
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _opened(config: Config, store: Store, until: str | None = None) -> Pipeline:
    ledger = Ledger(store.root / "outline.jsonl")
    return Pipeline(config, store, _Planning(store, ledger, planning=True, until=until))


def _forecast(rates: Rates, stages: Mapping[str, Outlined]) -> Forecast:
    """What an earlier stage of the same key makes is there by then."""
    first = {stage.key: address for address, stage in reversed(list(stages.items())) if not stage.finished}
    todo = {address: key for key, address in reversed(list(first.items()))}
    return Forecast({address: predict(rates, address) for address in todo}, todo)


def _precisions(pipeline: Pipeline, speeds: Speeds, student: Student) -> dict[str, Precision]:
    """What `auto` means here: as the store says where it was measured, else by the same trial."""
    asked = {"encode": pipeline.config.student.encode_precision, "train": pipeline.config.train.precision}
    found: dict[str, Precision] = {}
    for task, precision in asked.items():
        measured = pipeline.measured_precision(precision)
        if measured is None or measured.path.exists():
            found[task] = precision_of(precision, measured, "train" if task == "train" else "encode")
        else:
            found[task] = _measured(task, speeds, student)
    return found


def _measured(task: str, speeds: Speeds, student: Student) -> Precision:
    """The faster format by a trial; the figure kept is float32's seconds over bfloat16's."""

    def trial() -> dict[str, float]:
        chosen, ratio = faster_precision(student.model, training=task == "train")
        return {"float32_over_bfloat16": ratio, "bfloat16": float(chosen == "bfloat16")}

    figures = speeds.of(f"number format to {task} in", trial, student.digest)
    return "bfloat16" if figures["bfloat16"] else "float32"


def read_forecast(path: Path, now: Forecast) -> dict[str, dict[str, Any]]:
    """What an earlier process of the run foretold of other artifacts than those that are foretold `now`."""
    earlier = dict(json.loads(path.read_text(encoding="utf8"))) if path.exists() else {}
    return {address: one for address, one in earlier.items() if now.keys.get(address) in (None, one["key"])}


def say_forecast(forecast: Forecast) -> None:
    """One line before the work begins: how long, how much memory, and what takes the most."""
    if not forecast.stages:
        return
    most = sorted(forecast.stages.items(), key=lambda one: -one[1].seconds)[:3]
    told = ", ".join(f"{address} {readable_seconds(one.seconds)}" for address, one in most)
    more = forecast.refusal_seconds
    refused = (
        f"; each generation that the gate refuses adds {readable_seconds(more)}, three times that at most"
        if more >= 1
        else ""
    )
    logger.info(
        "%d stages to make: about %s, at most %s of memory (most time: %s)%s", len(forecast.stages),
        readable_seconds(forecast.seconds), readable_bytes(forecast.peak_bytes), told, refused,
    )  # fmt: skip


def worth_foretelling(corpus: Corpus) -> bool:
    """Whether a run takes longer than measuring the machine for it would."""
    return len(corpus.documents) >= FEW_DOCUMENTS


def readable_seconds(seconds: float) -> str:
    """42 s, 8.5 min."""
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
