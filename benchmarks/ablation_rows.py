"""What the rows of each ablation table change in a config: row name -> overrides.

`teachers` asks who should teach: rows `hard_labels` and `shuffled_teacher` are the controls of `ema-full-context +
lexical`. `objectives` asks what is minimised: the losses on one mixture and on one dense teacher, and queries weighed.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

FULL = "{kind: ema, view: {windows: all, stride: %d}, weight: %g}"
SAME = "{kind: ema, view: {windows: first}, weight: %g}"
LEXICAL = "{kind: lexical, weight: %g}"
CROSS = "{kind: cross_encoder, model: cross-encoder/ms-marco-MiniLM-L12-v2, max_tokens: 256, weight: %g}"
DENSE = "{kind: dense, model: %s}"
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
    rows["mixture: queries weighed by confidence"] = [*mixture, "targets.query_weights.by=confidence"]
    for loss in ("listwise_kl", "margin_mse", "embedding"):
        rows[f"dense: {loss}"] = [*dense, f"train.loss={loss}"]
    return rows


def _teacher(text: str) -> list[str]:
    return [*PLAIN, f"teacher={text}"]


def _mixture(*members: str) -> list[str]:
    return _teacher(f"{{kind: ensemble, members: [{', '.join(members)}]}}")


TABLES: dict[str, Callable[[Namespace], dict[str, list[str]]]] = {"teachers": teachers, "objectives": objectives}
