"""What each teacher costs a run: to score the lists that the first generation learns from, as if nothing of it was
there yet."""

from __future__ import annotations

from typing import Any, NamedTuple

from sdretrieval.chat import Cost, ServedModel
from sdretrieval.config import (
    CrossEncoderConfig,
    DenseConfig,
    LexicalConfig,
    Member,
    MultiVectorConfig,
    RerankerApiConfig,
    ScoresConfig,
    members_of,
)
from sdretrieval.config.conflicts import member_paths
from sdretrieval.planner.amounts import amount_of, asked_of_models, pairs_read, reused_tokens, without_query
from sdretrieval.planner.trials import Trials
from sdretrieval.planner.workload import worth_measuring

SCORED = "1/score"
"""The stage whose pairs are paid for."""


class Price(NamedTuple):
    """`seconds` on this machine, None if they are not known; `asked`: a model behind a server, and how much of it."""

    seconds: float | None
    asked: tuple[ServedModel, Cost] | None = None

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        if self.asked is None:
            return {"seconds": None if self.seconds is None else round(self.seconds, 1)}
        model, cost = self.asked
        tokens = {"calls": cost.calls, "prompt_tokens": cost.prompt_tokens}
        return {"seconds": None, "asked": {"model": model.model, "url": model.url, **tokens}}


def teacher_prices(trials: Trials) -> list[Price]:
    """One a member, in the config's order. Of few documents no seconds are known: to measure the machine would take
    longer. BM25 and files of scores cost nothing."""
    return [_price(trials, *numbered) for numbered in enumerate(members_of(trials.config.teacher))]


def _price(trials: Trials, position: int, member: Member) -> Price:
    config, load = trials.config, trials.load
    if isinstance(member, RerankerApiConfig):
        asked = {path: (model, cost) for path, model, cost in asked_of_models(SCORED, config, load)}
        return Price(None, asked.get(member_paths(config)[position]))
    if not worth_measuring(load.documents):
        return Price(None)
    if isinstance(member, LexicalConfig | ScoresConfig):
        return Price(0.0)
    if isinstance(member, CrossEncoderConfig | MultiVectorConfig):
        return Price(reading_seconds(member, SCORED, trials))
    return Price(encoding_seconds(f"{0 if isinstance(member, DenseConfig) else 1}/encode:teacher{position}", trials))


def encoding_seconds(address: str, trials: Trials) -> float:
    """Of the `encode` stage at `address`."""
    amount = amount_of(address, trials.config, trials.load)
    assert amount is not None
    tokens = amount.count - reused_tokens(address, trials.config, trials.load)
    return tokens * trials.encoding(address)["seconds_per_token"] if tokens > 0 else 0.0


def reading_seconds(member: CrossEncoderConfig | MultiVectorConfig, address: str, trials: Trials) -> float:
    """Of the pairs that `member` reads in the stage at `address`."""
    load, pairs = trials.load, pairs_read(address, trials.config, trials.load)
    # Token vectors of a document are made once, however many lists it is in.
    most = pairs if member.kind == "cross_encoder" else load.documents + without_query(address, load)
    return min(pairs, most) * trials.reading(member)["seconds_per_pair"]
