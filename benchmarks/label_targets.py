"""Targets of labels, a teacher and the student itself, as `benchmarks.label_noise` compares them.

Legend: B queries of a batch, M documents of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """One batch's logits (B, M): the teacher's, the base's, the learning student's own (no gradient); what is labelled;
    and how much of the training is over, 0 to 1."""

    teacher_BM: Tensor
    base_BM: Tensor
    student_BM: Tensor
    positive_BM: Tensor
    progress: float


Target = Callable[[Step], Tensor]
"""Probabilities (B, M), a row of weight 1 summing to 1."""


def labels_of(step: Step) -> Tensor:
    """Even over the labelled documents; 0 everywhere without one."""
    return step.positive_BM / step.positive_BM.sum(dim=1, keepdim=True).clamp_min(1)


def mixed(step: Step, weight: float) -> Tensor:
    """`weight` of the labels, the rest the teacher's."""
    return (1 - weight) * step.teacher_BM.softmax(1) + weight * labels_of(step)


def evidence(step: Step, units: float) -> Tensor:
    """A label is evidence of so many nats beside the teacher's logits (`targets.label_evidence`)."""
    return (step.teacher_BM + units * step.positive_BM).softmax(1)


def own(step: Step, units: float) -> Tensor:
    """The same beside the student as it is now, with BM25's evidence."""
    return (step.student_BM + step.teacher_BM - step.base_BM + units * step.positive_BM).softmax(1)


def bounded(step: Step, power: float) -> Tensor:
    """Labels weighed by the student's own probability of them: generalised cross entropy (Zhang and Sabuncu 2018)."""
    label_BM = labels_of(step)
    return label_BM * (step.student_BM.softmax(1) * label_BM).sum(1, keepdim=True) ** power


def relabelled(step: Step, sure: float) -> Tensor:
    """Labels, and beside them what the teacher is so sure of: false negatives as positives."""
    positive_BM = step.positive_BM | (step.teacher_BM.softmax(1) > sure)
    return positive_BM / positive_BM.sum(1, keepdim=True)


def above_the_label(step: Step) -> Tensor:
    """Labels, and beside them whatever the teacher finds better than all of them."""
    label_B1 = step.teacher_BM.masked_fill(~step.positive_BM, float("-inf")).max(1, keepdim=True).values
    positive_BM = step.positive_BM | (step.teacher_BM > label_B1)
    return positive_BM / positive_BM.sum(1, keepdim=True)


def uniform(step: Step, share: float) -> Tensor:
    """Label smoothing (Szegedy et al. 2016)."""
    return (1 - share) * labels_of(step) + share / step.positive_BM.shape[1]


def softened(step: Step, share: float, heat: float) -> Tensor:
    """A share of the student's own distribution at `heat` times its temperature."""
    return (1 - share) * labels_of(step) + share * (step.student_BM / heat).softmax(1)


def heated(step: Step, first: float, last: float) -> Tensor:
    """The teacher at a temperature that goes from `first` to `last` times the usual one."""
    return (step.teacher_BM / (first * (last / first) ** step.progress)).softmax(1)


def trusted(step: Step, first: float, last: float) -> Tensor:
    """Labels whose weight goes from `first` to `last`, beside the teacher."""
    return mixed(step, first + (last - first) * step.progress)


TARGETS: dict[str, dict[str, Target]] = {
    "noise": {
        "hard labels": labels_of,
        "teacher alone": lambda step: step.teacher_BM.softmax(1),
        "mixed 2 : 1": partial(mixed, weight=2 / 3),
        "evidence 4": partial(evidence, units=4.0),
        "evidence 6": partial(evidence, units=6.0),
        "evidence 4, the student as it learns": partial(own, units=4.0),
        "bounded 0.7": partial(bounded, power=0.7),
    },
    "relabelled": {
        "hard labels": labels_of,
        "sure others as positives, 0.5": partial(relabelled, sure=0.5),
        "sure others as positives, 0.9": partial(relabelled, sure=0.9),
        "better others as positives": above_the_label,
        "evidence 4": partial(evidence, units=4.0),
        "evidence 3": partial(evidence, units=3.0),
        "evidence 5": partial(evidence, units=5.0),
    },
    "smoothing": {
        "hard labels": labels_of,
        "uniform 0.1": partial(uniform, share=0.1),
        "uniform 0.3": partial(uniform, share=0.3),
        "own output 0.1": partial(softened, share=0.1, heat=2.0),
        "own output 0.3": partial(softened, share=0.3, heat=2.0),
        "own output 0.5": partial(softened, share=0.5, heat=2.0),
        "own output 0.5, not softened": partial(softened, share=0.5, heat=1.0),
        "teacher 0.1": partial(mixed, weight=0.9),
        "teacher 0.3": partial(mixed, weight=0.7),
        "teacher 0.5": partial(mixed, weight=0.5),
    },
    "schedule": {
        "teacher alone": partial(heated, first=1.0, last=1.0),
        "temperature x 2": partial(heated, first=2.0, last=2.0),
        "temperature x 0.5": partial(heated, first=0.5, last=0.5),
        "temperature x 2 to x 0.5": partial(heated, first=2.0, last=0.5),
        "temperature x 0.5 to x 2": partial(heated, first=0.5, last=2.0),
        "labels 0.5": partial(trusted, first=0.5, last=0.5),
        "labels 0 to 1": partial(trusted, first=0.0, last=1.0),
        "labels 1 to 0": partial(trusted, first=1.0, last=0.0),
    },
}
FREE = "teacher alone", *(name for name in TARGETS["schedule"] if "temperature" in name)
"""Targets in which labels have no part."""
