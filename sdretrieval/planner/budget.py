"""Settings that fit a budget: while a run would take too long, or hold too much, what saves most is given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from sdretrieval.config import Config, parse_config
from sdretrieval.errors import ConfigError, RequestError
from sdretrieval.formatting import readable_bytes, readable_seconds
from sdretrieval.planner.forecast import Forecast

WORTH = 0.005
"""Share of the whole that a step must save: below it, something is given up for nothing."""
MOST_STEPS = 40
LEAST_EPOCHS = 0.2
"""Of the config's epochs: a training shorter than that is another experiment."""
LEAST_KEPT = 6
"""Documents in a list."""
LEAST_PRETRAINED, LEAST_GENERATED = 25, 500
"""Updates, and synthetic training queries."""
LEAST_TOKENS = 64
"""Of a document; a student that sees less of it is tried only if nothing else fits."""

MEANINGS = {
    "train.epochs": "fewer updates",
    "train.later_epochs": "fewer updates",
    "mine.keep": "shorter lists: the teacher scores fewer documents a query",
    "pretrain.updates": "less learning from documents alone",
    "corpus.generated_queries": "fewer synthetic queries to learn from",
    "student.max_tokens": "the student sees less of a document; the teacher goes on to read the rest",
    "train.precision": "bfloat16 if it is faster here",
    "student.encode_precision": "bfloat16 if it is faster here",
    "train.batch_tokens": "nothing but speed: texts are encoded again on the way back",
    "train.queries_per_batch": "a query is compared with fewer other queries' documents",
    "train.gradient_accumulation": "as many queries an update as before, in several batches",
    "train.candidates_per_query": "fewer documents of a list at a time",
    "student.batch_tokens": "nothing but speed",
    "pretrain.documents_per_batch": "a piece is told from those of fewer other documents",
}


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
        if not worth and late and now.student.max_tokens // 2 >= LEAST_TOKENS:
            shorter = _changed(now, {"student.max_tokens": now.student.max_tokens // 2})
            worth = [(shorter, forecast_of(shorter))] if shorter is not None else []
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
    if now.pretrain is not None and (updates := int(now.pretrain.updates * 0.75)) >= LEAST_PRETRAINED:
        yield {"pretrain.updates": updates}
    if (queries := int(now.corpus.generated_queries * 0.75)) >= LEAST_GENERATED:
        yield {"corpus.generated_queries": queries}
    if now.train.precision == "float32":
        yield {"train.precision": "auto"}
    if now.student.encode_precision == "float32":
        yield {"student.encode_precision": "auto"}


def _smaller(now: Config, usual_tokens: int) -> Iterator[dict[str, Any]]:
    """Changes that save memory; those that cost nothing but speed first."""
    train = now.train
    if (pieces := (train.batch_tokens or 2 * usual_tokens) // 2) >= 256:
        yield {"train.batch_tokens": pieces}
    if train.queries_per_batch >= 4:
        yield {
            "train.queries_per_batch": -(-train.queries_per_batch // 2),
            "train.gradient_accumulation": 2 * train.gradient_accumulation,
        }
    if (candidates := int(train.candidates_per_query * 0.75)) >= 2:
        yield {"train.candidates_per_query": candidates}
    if now.pretrain is not None and now.pretrain.documents_per_batch >= 16:
        yield {"pretrain.documents_per_batch": now.pretrain.documents_per_batch // 2}
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
        if setting.startswith("pretrain.") and config.pretrain is None:
            continue
        if of(config) != of(now):
            changed.append(GivenUp(setting, of(config), of(now), meaning))
    return changed


def _too_much(forecast: Forecast, budget: Budget, given_up: list[GivenUp]) -> str:
    late = budget.late(forecast)
    amounts = {
        address: (one.seconds or 0) if late else max(one.peak_bytes or 0, one.device_bytes or 0)
        for address, one in forecast.stages.items()
    }
    readable: Callable[[Any], str] = readable_seconds if late else readable_bytes
    largest = sorted(amounts.items(), key=lambda one: -one[1])[:4]
    most = ", ".join(f"{address} {readable(amount)}" for address, amount in largest)
    tried = f" even with {', '.join(f'{one.setting} {one.now}' for one in given_up)}" if given_up else ""
    if late:
        assert budget.seconds is not None
        return (
            f"a budget of {budget.seconds / 60:g} min: this config takes {readable(forecast.seconds)} "
            f"here{tried}; most: {most}. What is left cannot be shortened by settings: "
            "fewer documents (--set corpus.max_documents=N), generations, seeds or controls "
            "(--set evaluate.controls=[]) need less"
        )
    assert budget.peak_bytes is not None
    return (
        f"--max-memory {readable(budget.peak_bytes)}: this config holds {readable(forecast.held_bytes)} "
        f"here{tried}; most: {most}. A smaller student, or an index of codes (index.kind: PQ32), holds less"
    )
