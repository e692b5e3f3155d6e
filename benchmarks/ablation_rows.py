"""What the rows of each ablation table change in a config: row name -> overrides.

`teachers` asks who should teach: rows `hard_labels` and `shuffled_teacher` are the controls of `ema-full-context +
lexical`. `objectives` asks what is minimised: the losses on one mixture and on one dense teacher.
`asymmetries` asks what a teacher must know that the student does not: every teacher, target and way of training, for a
config without labels (`make ablations`). `queries` asks how many synthetic queries are enough.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from sdretrieval import load_config

FULL = "{kind: ema, view: {windows: all, stride: %d}, weight: %g}"
SAME = "{kind: ema, view: {windows: first}, weight: %g}"
LEXICAL = "{kind: lexical, weight: %g}"
CROSS = "{kind: cross_encoder, model: cross-encoder/ms-marco-MiniLM-L12-v2, max_tokens: 256, weight: %g}"
DENSE = "{kind: dense, model: %s}"
BASE = "{kind: ema, mode: base, view: {windows: all, stride: %d}}"
EVEN = "{kind: lexical}"
TOKENS = "{kind: multi_vector, model: %s}"
PLAIN = ["evaluate.controls=[]", "generations=1", "probe.guard=false"]
"""Whatever the config asks for, for the sake of its own report; a teacher that knows nothing is a row, too."""


def teachers(asked: Namespace) -> dict[str, list[str]]:
    """One row a teacher, from its `stride` and `lexical`, BM25's share where it is mixed with the moving average."""
    dense = 1 - asked.lexical
    full, lexical = FULL % (asked.stride, dense), LEXICAL % asked.lexical
    three = f"{CROSS % 0.3}, {FULL % (asked.stride, 0.7 * dense)}, {LEXICAL % (0.7 * asked.lexical)}"
    rows = {
        "cross-encoder": _teacher(CROSS % 1),
        "ema-same-view": _teacher(SAME % 1),
        "ema-full-context": _teacher(FULL % (asked.stride, 1)),
        "lexical": _teacher(LEXICAL % 1),
        "ema-same-view + lexical": _mixture(SAME % dense, lexical),
        "ema-full-context + lexical": _mixture(full, lexical),
        "all": _mixture(three),
    }
    best = rows["ema-full-context + lexical"]
    rows |= {name: [*best, f"evaluate.controls=[{name}]"] for name in ("hard_labels", "shuffled_teacher")}
    return rows | {f"generations-{n}": [*best, f"generations={n}", "gate.tolerance=1"] for n in (2, 3)}


def objectives(asked: Namespace) -> dict[str, list[str]]:
    """One row an objective, from its `lexical` and `dense`, the model of the dense teacher."""
    mixture = _mixture(SAME % (1 - asked.lexical), LEXICAL % asked.lexical)
    dense = _teacher(DENSE % asked.dense)
    rows = {
        "mixture: listwise_kl over batches": [*mixture, "train.scope=batch"],
        "mixture: listwise_kl over lists": [*mixture, "train.scope=list"],
        "mixture: margin_mse": [*mixture, "train.loss=margin_mse"],
    }
    for loss in ("listwise_kl", "margin_mse", "embedding"):
        rows[f"dense: {loss}"] = [*dense, f"train.loss={loss}"]
    return rows


def _teacher(text: str) -> list[str]:
    return [*PLAIN, f"teacher={text}"]


def _mixture(*members: str) -> list[str]:
    return _teacher(f"{{kind: ensemble, members: [{', '.join(members)}]}}")


FEW, SHORT = 200, 6
"""Queries whose pairs a cross-encoder reads, and documents of each: some two minutes."""


def asymmetries(asked: Namespace) -> dict[str, list[str]]:
    """One row an asymmetry; the mixture is full context and BM25, even. Updates are equal in all rows: fewer queries
    are seen more often, and two generations share them. The config's temperature `student` keeps to the scale of the
    student's own scores, which other teachers lack."""
    full, lexical, dense = FULL % (asked.stride, 1), EVEN, DENSE % asked.dense
    mixed, auto = [*_mixture(full, lexical), "targets.calibrate=absolute"], "targets.temperature=auto"
    reader = CROSS.replace("max_tokens: 256", "max_tokens: 128") % 1
    config = load_config(asked.config, asked.overrides)
    tokens = TOKENS % config.student.model
    epochs, queries = config.train.epochs, max(config.corpus.generated_queries, FEW)
    few = [f"corpus.generated_queries={FEW}", f"train.epochs={epochs * queries / FEW:g}", f"mine.keep={SHORT}"]
    unread = "evaluate.teacher_depth=1"  # its figure on all queries of dev and test would take an hour
    two = ["generations=2", f"train.epochs={epochs / 2:g}", "gate.tolerance=1"]
    labels = "train.hard_label_weight=1"
    return {
        "own scores": _teacher(SAME % 1),
        "own scores + synthetic labels": [*_teacher(SAME % 1), labels],
        "full context": _teacher(full),
        "lexical": [*_teacher(lexical), auto],
        "mixture": mixed,
        "mixture: weights by the probe": [*mixed, *(f"teacher.members.{n}.weight=auto" for n in (0, 1))],
        "mixture: z-scores": [*mixed, "targets.calibrate=zscore", auto],
        "mixture: margin_mse": [*mixed, "train.loss=margin_mse"],
        "mixture + synthetic labels": [*mixed, labels],
        "mixture: beside a lexical half": [*mixed, "student.lexical_half={dims: 256}"],
        "mixture: two generations, frozen": [*mixed, *two],
        "mixture: two generations, base": [*_mixture(BASE % asked.stride, lexical), *two],
        "token vectors": [*_teacher(tokens), auto],
        "mixture: lists alone": [*mixed, "train.scope=list", auto],
        "mixture + token vectors": [*_mixture(full, lexical, tokens), auto],
        "mixture + token vectors: whole lists": [
            *_mixture(full, lexical, tokens),
            auto,
            f"train.candidates_per_query={config.mine.keep}",
        ],
        "dense": [*_teacher(dense), auto],
        "dense: embedding": [*_teacher(dense), auto, "train.loss=embedding"],
        "dense + lexical": [*_mixture(dense, lexical), auto],
        f"mixture: {FEW} queries": [*mixed, *few],
        f"cross-encoder: {FEW} queries": [*_teacher(reader), *few, unread, auto],
        f"mixture + cross-encoder: {FEW} queries": [*_mixture(full, lexical, reader), *few, unread, auto],
    }


def generations(asked: Namespace) -> dict[str, list[str]]:
    """One row for what the first member, an average, is over two or three generations. The student has as many updates
    in all rows; one that is born again starts from the base each time, so that it has them in its last generation, or,
    at equal cost, only its share."""
    config = load_config(asked.config, asked.overrides)
    epochs, adapter = config.train.epochs, config.student.train == "adapter"  # which a live average cannot teach

    def row(mode: str, count: int, parts: int = 0) -> list[str]:
        split = [f"generations={count}", f"train.epochs={epochs / (parts or count):g}"]
        return [*PLAIN, *split, f"teacher.members.0.mode={mode}"]

    rows = {"one generation": row("frozen", 1)} | ({} if adapter else {"one generation, live": row("live", 1)})
    for count, word in ((2, "two"), (3, "three")):
        rows |= {f"{word}: {mode}": row(mode, count) for mode in ("base", "frozen", *(() if adapter else ("live",)))}
        rows[f"{word}: born_again"] = row("born_again", count, 1)
        rows[f"{word}: born_again, equal cost"] = row("born_again", count)
    return rows


NUMBERS = (500, 1000, 4000, 10_000)


def queries(asked: Namespace) -> dict[str, list[str]]:
    """How many synthetic queries the even mixture teaches by: at the updates of the config, and as many times as often
    as there are more queries."""
    mixed = [*_mixture(FULL % (asked.stride, 1), EVEN), "targets.calibrate=absolute"]
    config = load_config(asked.config, asked.overrides)
    epochs, usual = config.train.epochs, max(config.corpus.generated_queries, NUMBERS[0])
    rows = {}
    for number in NUMBERS:
        some = [*mixed, f"corpus.generated_queries={number}"]
        rows[f"{number:,} queries"] = [*some, f"train.epochs={epochs * usual / number:g}"]
        if number > usual:
            rows[f"{number:,} queries, {number / usual:g} times the updates"] = [*some, f"train.epochs={epochs:g}"]
    return rows


TABLES: dict[str, Callable[[Namespace], dict[str, list[str]]]] = {
    "teachers": teachers,
    "objectives": objectives,
    "asymmetries": asymmetries,
    "generations": generations,
    "queries": queries,
}
