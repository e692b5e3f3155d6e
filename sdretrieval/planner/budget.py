"""Settings that fit a budget: while a run would take too long, or hold too much, what saves most is given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sdretrieval.config import Config, parse_config
from sdretrieval.errors import ConfigError, RequestError
from sdretrieval.planner.forecast import Forecast, readable_seconds
from sdretrieval.store import readable_bytes

WORTH = 0.005
"""Share of the whole that a step must save: below it, something is given up for nothing."""
MOST_STEPS = 40
LEAST_EPOCHS = 0.2
"""Of the epochs asked for: a training shorter than that is another experiment."""
LEAST_KEPT = 6
"""Documents in a list."""


@dataclass(frozen=True)
class Budget:
    """Seconds and bytes that a run may take; None: as many as it likes."""

    seconds: float | None = None
    peak_bytes: int | None = None

    def holds(self, forecast: Forecast) -> bool:
        """Whether the run stays within both."""
        return not self.late(forecast) and not self.large(forecast)

    def late(self, forecast: Forecast) -> bool:
        """Whether it takes too long."""
        return self.seconds is not None and forecast.seconds > self.seconds

    def large(self, forecast: Forecast) -> bool:
        """Whether it holds too much."""
        return self.peak_bytes is not None and forecast.peak_bytes > self.peak_bytes


Forecaster = Callable[[Config], Forecast]


class GivenUp(NamedTuple):
    """A setting that was changed to fit, and what that means."""

    setting: str
    asked: Any
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


Change = tuple[Config, dict[str, Any]]
"""A config, and settings by dotted name to put into it."""

MEANINGS = {
    "train.epochs": "fewer updates",
    "train.later_epochs": "fewer updates",
    "mine.keep": "shorter lists: the teacher judges fewer documents a query",
    "mine.depth": "lists come from nearer the top",
    "train.precision": "bfloat16 where it is faster here",
    "student.encode_precision": "bfloat16 where it is faster here",
    "train.queries_per_batch": "a query is compared with fewer other queries' documents",
    "train.gradient_accumulation": "as many queries an update as before, in several batches",
    "train.candidates_per_query": "fewer documents of a list at a time",
    "student.batch_tokens": "nothing but speed",
}


def fit(config: Config, forecast: Forecaster, budget: Budget, usual_tokens: int = 2048) -> Fitted:
    """The config changed until it fits. Raises RequestError, saying what takes the most, where nothing helps.

    `usual_tokens`: of a batch of encoding, where the config leaves that open.
    """
    asked, now = config, config
    found = forecast(now)
    for _ in range(MOST_STEPS):
        if budget.holds(found):
            return Fitted(now, _given_up(asked, now), found)
        step = _best(now, asked, found, forecast, budget, usual_tokens)
        if step is None:
            break
        now, found = step
    raise RequestError(_too_much(found, budget, _given_up(asked, now)))


def _best(
    now: Config, asked: Config, found: Forecast, forecast: Forecaster, budget: Budget, usual_tokens: int
) -> tuple[Config, Forecast] | None:
    """The change that saves most of what there is too much of."""
    late = budget.late(found)
    measure = _seconds if late else _peak
    moves = _shorter(now, asked) if late else _smaller(now, usual_tokens)
    tried = [(config, forecast(config)) for config in map(_parsed, moves) if config is not None]
    worth = [one for one in tried if measure(one[1]) < measure(found) * (1 - WORTH)]
    return min(worth, key=lambda one: measure(one[1]), default=None)


def _seconds(forecast: Forecast) -> float:
    return forecast.seconds


def _peak(forecast: Forecast) -> float:
    return float(forecast.peak_bytes)


def _shorter(now: Config, asked: Config) -> Iterator[Change]:
    """Changes that save time."""
    if (epochs := round(now.train.epochs * 0.85, 3)) >= LEAST_EPOCHS * asked.train.epochs:
        later = now.train.later_epochs
        yield now, {"train.epochs": epochs} | ({"train.later_epochs": round(later * 0.85, 3)} if later else {})
    if (keep := int(now.mine.keep * 0.75)) >= max(LEAST_KEPT, now.train.candidates_per_query):
        yield now, {"mine.keep": keep}
    if (depth := now.mine.depth // 2) >= 2 * now.mine.keep:
        yield now, {"mine.depth": depth}
    if now.train.precision == "float32":
        yield now, {"train.precision": "auto"}
    if now.student.encode_precision == "float32":
        yield now, {"student.encode_precision": "auto"}


def _smaller(now: Config, usual_tokens: int) -> Iterator[Change]:
    """Changes that save memory; those that cost nothing but speed first."""
    train = now.train
    if train.queries_per_batch >= 4:
        split = {
            "train.queries_per_batch": -(-train.queries_per_batch // 2),
            "train.gradient_accumulation": 2 * train.gradient_accumulation,
        }
        yield now, split
    if (candidates := int(train.candidates_per_query * 0.75)) >= 2:
        yield now, {"train.candidates_per_query": candidates}
    if (tokens := (now.student.batch_tokens or usual_tokens) // 2) >= 256:
        yield now, {"student.batch_tokens": tokens}


def _parsed(change: Change) -> Config | None:
    """The config with the change; None where it contradicts another setting."""
    config, settings = change
    record = config.model_dump(mode="json")
    try:
        return parse_config(record, [f"{name}={value}" for name, value in settings.items()])
    except ConfigError:
        return None


def _given_up(asked: Config, now: Config) -> list[GivenUp]:
    changed = []
    for setting, meaning in MEANINGS.items():
        section, _, name = setting.partition(".")
        before, after = (getattr(getattr(config, section), name) for config in (asked, now))
        if before != after:
            changed.append(GivenUp(setting, before, after, meaning))
    return changed


def _too_much(found: Forecast, budget: Budget, given_up: list[GivenUp]) -> str:
    late = budget.late(found)
    stages = sorted(found.stages.items(), key=lambda one: -(one[1].seconds if late else one[1].peak_bytes))
    most = ", ".join(
        f"{address} {readable_seconds(one.seconds) if late else readable_bytes(one.peak_bytes)}"
        for address, one in stages[:4]
    )
    tried = f" even with {', '.join(f'{one.setting} {one.now}' for one in given_up)}" if given_up else ""
    if late:
        assert budget.seconds is not None
        return (
            f"--budget-minutes {budget.seconds / 60:g}: this config takes {readable_seconds(found.seconds)} "
            f"here{tried}; most: {most}. Encoding and measuring cannot be shortened by settings of mining and "
            "training: fewer documents (--set corpus.max_documents=N), generations or controls "
            "(--set evaluate.controls=[]) need less"
        )
    assert budget.peak_bytes is not None
    return (
        f"--max-memory {readable_bytes(budget.peak_bytes)}: this config holds {readable_bytes(found.peak_bytes)} "
        f"here{tried}; most: {most}. A smaller student, or an index of codes (index.kind: PQ32), holds less"
    )
