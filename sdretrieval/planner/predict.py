"""Seconds and peak memory of each stage: its amount of work, times what a unit takes on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sdretrieval.config import Config, EmaConfig, members_of
from sdretrieval.config.conflicts import by_dev
from sdretrieval.encode.views import View
from sdretrieval.planner.amounts import Amount, amount_of
from sdretrieval.planner.rates import Rates, weights_bytes
from sdretrieval.stages.learn import POOL_DOCUMENTS

SMALL = 0.2
"""Seconds of any stage: opening what it reads, digests and the manifest of what it wrote."""
USUAL_DEPTH = 100
"""Of mining, at which its part of `OF_A_QUERY` was measured."""
STILL_NEW = 0.5
"""Of a later generation's pairs, those that no earlier one read: the lists change, but not all of them."""
ONE_MORE_PASS = 1 / 3
"""Of a token's cost in training (forward, and twice as much back): a forward pass."""
HOLES = 1.2
"""Of training's memory: batches of ever other shapes leave holes between what they hold. Found over what a trial of one
shape holds: 1.15 to 1.24 on three collections."""
START_OF_TRAINING = 2.0
"""Seconds: trainer, accelerate, the first checkpoint."""


class Prediction(NamedTuple):
    """What a stage will take: its amount, seconds, and the most memory that the process will hold."""

    amount: Amount | None
    seconds: float
    peak_bytes: int


def predict(rates: Rates, address: str) -> Prediction:
    """The prediction for the stage at `address`."""
    name = address.split("/")[-1].split(":")[0]
    amount = amount_of(address, rates.known)
    work = STAGES.get(name)
    seconds, peak = work(rates, address, amount or Amount("", 0)) if work else (0.0, 0)
    return Prediction(amount, seconds + SMALL, max(peak, rates.resident))


Cost = tuple[float, int]


def _corpus(rates: Rates, address: str, amount: Amount) -> Cost:
    return rates.known.load.read_seconds, 0


def _tokens(rates: Rates, address: str, amount: Amount) -> Cost:
    return amount.count * rates.known.load.seconds_per_token, 0


def _lexical(rates: Rates, address: str, amount: Amount) -> Cost:
    return amount.count * rates.lexical["seconds_per_document"], 0


def _queries(rates: Rates, address: str, amount: Amount) -> Cost:
    made = rates.known.load.made
    return rates.searched(made) + rates.worded(made) + rates.small("mine", made), 0


def _encode(rates: Rates, address: str, amount: Amount) -> Cost:
    found, known = rates.encoding(address), rates.known
    tokens: float = amount.count
    if address.startswith("1/encode:teacher"):  # the base student is its own average: first windows are there
        view, specials = View(known.config.student.max_tokens), known.student.document_specials
        member, seen = known.member(address), known.view(address)
        if isinstance(member, EmaConfig) and seen.max_tokens == view.max_tokens:
            load = known.load
            tokens = load.documents.seen(seen, specials) - load.documents.seen(view, specials)
    return tokens * found["seconds_per_token"], rates.base_bytes + int(found["bytes"])


def _refresh(rates: Rates, address: str, amount: Amount) -> Cost:
    """As if all were encoded: what moved is known only then."""
    whole = amount_of(address.replace("/refresh", "/encode"), rates.known)
    assert whole is not None
    return _encode(rates, address, whole)


def _index(rates: Rates, address: str, amount: Amount) -> Cost:
    return 1.0 + rates.searched(200), rates.resident + rates.index_bytes


def _evaluate(rates: Rates, address: str, amount: Amount) -> Cost:
    kind = address.split(":")[1] if address.startswith("0/") else "dense"
    if kind == "bm25":
        return rates.worded(amount.count) + rates.small("evaluate", amount.count), 0
    if kind.startswith("hybrid"):
        return rates.small("fused", amount.count), 0
    if kind == "teacher":
        asked = rates.known.config
        # What the probe has asked is not read again.
        depth = 0 if by_dev(asked) and address.endswith(":dev") else asked.evaluate.teacher_depth
        seconds, peak = rates.read(amount.count, depth)
        seconds += rates.searched(amount.count) + rates.own_best(amount.count)
        return seconds + rates.small("teacher", amount.count), peak
    return rates.searched(amount.count) + rates.small("evaluate", amount.count), 0


def _probe(rates: Rates, address: str, amount: Amount) -> Cost:
    asked, queries = rates.known.config, amount.count
    depth = asked.evaluate.teacher_depth * (2 if asked.mine.lexical else 1)
    seconds, peak = rates.read(queries, depth)
    seconds += rates.searched(queries) + rates.own_best(queries) + (rates.worded(queries) if asked.mine.lexical else 0)
    return seconds + rates.small("probe", queries), peak


def _mine(rates: Rates, address: str, amount: Amount) -> Cost:
    queries = rates.known.lists
    worded = rates.worded(queries) if rates.known.config.mine.lexical else 0.0
    deep = rates.small("mine", queries) * rates.known.config.mine.depth / USUAL_DEPTH
    return rates.searched(queries) + worded + deep, rates.resident + rates.index_bytes


def _score(rates: Rates, address: str, amount: Amount) -> Cost:
    queries, later = rates.known.lists, not address.startswith("1/")
    seconds, peak = rates.read(queries, rates.known.candidates, STILL_NEW if later else 1.0)
    return seconds + rates.own_best(queries) + rates.small("score", queries), peak


def _targets(rates: Rates, address: str, amount: Amount) -> Cost:
    return rates.small("targets", rates.known.lists), 0


def _train(rates: Rates, address: str, amount: Amount) -> Cost:
    known, found = rates.known, rates.training()
    queries, documents = known.batch
    load, student = known.load, known.student
    shown = documents if known.config.student.train == "both" else 0  # else their vectors are there
    tokens = shown * load.documents.mean_seen(known.training_view, student.document_specials)
    tokens += queries * load.queries.mean_seen(student.query_view, student.query_specials)
    passes = 1 + ONE_MORE_PASS if _live(address, known.config) else 1.0
    update = tokens * found["seconds_per_token"] * passes + found["seconds_per_update"]
    seconds = START_OF_TRAINING + amount.count * update + _looks(rates, amount.count)
    held = tokens / known.config.train.gradient_accumulation * found["bytes_per_token"]
    # Beside the average: of a live one the weights and its state, early stopping's best student and average.
    copies = 1 + 2 * _live(address, known.config) + 2 * (known.config.train.early_stop is not None)
    held += found["bytes_fixed"] + copies * weights_bytes(student)
    return seconds, rates.base_bytes + round(HOLES * held)


def _live(address: str, config: Config) -> bool:
    """Whether a live average reads each batch too; no control has one."""
    members = members_of(config.teacher)
    return ":" not in address and any(isinstance(m, EmaConfig) and m.mode == "live" and m.weight != 0 for m in members)


def _looks(rates: Rates, updates: int) -> float:
    """Seconds of early stopping's looks at dev, if training goes to its end."""
    known, stop = rates.known, rates.known.config.train.early_stop
    if stop is None:
        return 0.0
    load, student = known.load, known.student
    queries = load.splits.get("dev", 0)
    tokens = queries * load.queries.mean_seen(student.query_view, student.query_specials)
    if known.config.student.train == "both":
        view, specials = View(known.config.student.max_tokens), student.document_specials
        tokens += min(load.documents.count, POOL_DOCUMENTS + queries) * load.documents.mean_seen(view, specials)
        if not known.config.corpus.labels:  # and the documents that dev was made from, without the queries
            tokens += load.masked.first(queries).seen(view, specials)
    one = tokens * rates.encoding("1/encode", "float32")["seconds_per_token"] + rates.small("evaluate", queries)
    return (1 + -(-updates // stop.every)) * one  # one before the first update


STAGES: dict[str, Callable[[Rates, str, Amount], Cost]] = {
    "corpus": _corpus, "tokens": _tokens, "lexical": _lexical, "queries": _queries, "encode": _encode,
    "refresh": _refresh, "index": _index,
    "evaluate": _evaluate, "probe": _probe, "mine": _mine, "score": _score, "targets": _targets, "train": _train,
}  # fmt: skip
