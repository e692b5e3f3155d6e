"""A language model's judgements of (query, document) pairs, and how far people agree with them.

Grades 0 to 3 as in TREC's deep learning tracks, asked for as UMBRELA does (Upadhyay et al. 2024; Thomas et al., SIGIR
2024).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sdretrieval.chat import JUDGING, Chat, Cost
from sdretrieval.corpus.read.documents.blocks import runs_of_words, word_count

DOCUMENT_WORDS = 500
"""Of a document that the model reads."""
RELEVANT = 2
"""The lowest grade that counts as relevant, as in TREC's binary measures: 1 is on the topic and answers nothing."""
NAMED = re.compile(r"(?:grade|score|relevance|judge?ment)\W{0,12}([0-3])(?!\.?\d)", re.IGNORECASE)
ALONE = re.compile(r"(?<![\d.])([0-3])(?!\.?\d)")


def grade_in(answer: str) -> int | None:
    """The grade in a model's answer: a digit alone, after its name, in JSON, or the only one; None if there is none."""
    try:
        value: Any = json.loads(answer)
    except (ValueError, RecursionError):
        value = None
    while isinstance(value, (dict, list)) and value:
        value = list(value.values())[-1] if isinstance(value, dict) else value[-1]
    if type(value) is int and 0 <= value <= 3:
        return value
    named = NAMED.findall(answer)
    digits = set(ALONE.findall(answer))
    found = named[-1] if named else next(iter(digits)) if len(digits) == 1 else None
    return None if found is None else int(found)


def judge_pairs(chat: Chat, pairs: Sequence[tuple[str, str]]) -> list[int | None]:
    """The grade of each pair of texts, query and document; None where the model gave none."""
    prompts = [
        JUDGING.replace("{query}", query).replace("{document}", runs_of_words(document, DOCUMENT_WORDS)[0])
        for query, document in pairs
    ]
    return chat.ask(prompts, grade_in, "judge pairs")


def judging_cost(documents: Sequence[str], pairs: int, split: str) -> Cost:
    """What judging so many pairs of a split's queries takes. `documents`: their texts, or a sample."""
    words = sum(min(word_count(text), DOCUMENT_WORDS) for text in documents) / max(len(documents), 1)
    return Cost(f"grades of what {split} queries find", pairs, pairs * (word_count(JUDGING) + words))


@dataclass(frozen=True)
class Agreement:
    """How far a model's judgements agree with people's, of the same pairs: relevant or not.

    `kappa`: Cohen's (1960), 1 = always, 0 = as by chance; None if either says the same of every pair. `agreed`: the
    share of pairs. `of_relevant`: of the pairs that people call relevant, the share that the model does too.
    """

    pairs: int
    queries: int
    kappa: float | None
    agreed: float
    of_relevant: float

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def agreement(people: Sequence[bool], model: Sequence[bool], queries: int) -> Agreement | None:
    """Agreement on pairs, given in the same order; None without any pair."""
    from sklearn.metrics import cohen_kappa_score

    if not people:
        return None
    told_apart = len(set(people)) == len(set(model)) == 2
    same = [a == b for a, b in zip(people, model, strict=True)]
    found = [b for a, b in zip(people, model, strict=True) if a]
    return Agreement(
        len(people),
        queries,
        round(float(cohen_kappa_score(people, model)), 4) if told_apart else None,
        round(sum(same) / len(same), 4),
        round(sum(found) / max(len(found), 1), 4),
    )
