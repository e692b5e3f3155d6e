"""Which limit of the machine work has run into: libraries in C++ and Rust keep the system's error as text alone."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from sdretrieval.errors import SdretrievalError


class Limit(NamedTuple):
    """How it is recognised (error numbers, texts), what it is, and what helps."""

    numbers: tuple[int, ...]
    texts: str
    name: str
    remedy: str


NO_TEXT = "(?!)"
"""The system's own text alone."""
LIMITS = (
    Limit(
        (errno.ENOSPC, errno.EDQUOT),
        NO_TEXT,
        "no space left on the disk",
        "make room (`sdretrieval gc` removes what no run uses)",
    ),
    Limit((errno.EFBIG,), NO_TEXT, "a file became larger than is allowed", "raise the limit (`ulimit -f unlimited`)"),
    Limit((errno.EMFILE, errno.ENFILE), NO_TEXT, "too many open files", "raise the limit (`ulimit -n 4096`)"),
    Limit(
        (errno.ENOMEM,),
        r"out of memory|can't allocate memory|Unable to allocate|bad_alloc",
        "out of memory",
        "free some, or ask for less (student.batch_tokens, train.queries_per_batch; `sdretrieval plan CONFIG "
        "--max-memory 4GB` finds settings that fit)",
    ),
    Limit(
        (),
        # What numpy and torch say, who do not pass on why.
        r"[0-9]+ requested and [0-9]+ written|PytorchStreamWriter failed writing|inline_container\.cc.*unexpected pos",
        "a file could not be written to its end",
        "make room on the disk, or raise the limit on files (`ulimit -f unlimited`),",
    ),
)
SHOWN = 300
"""Characters of a library's own words."""


def limit_met(problem: BaseException) -> str | None:
    """The limit that `problem`, or what it comes from, is about, and the next step; None if it is about none."""
    for one in _chain(problem):
        if isinstance(one, SdretrievalError):
            continue  # it may quote anything; what it comes from is next
        text = " ".join(str(one).split())
        for limit in LIMITS:
            known = [rf"os error {number}\)|{re.escape(os.strerror(number))}" for number in limit.numbers]
            by_number = isinstance(one, OSError) and one.errno in limit.numbers
            by_type = isinstance(one, MemoryError) and errno.ENOMEM in limit.numbers
            if by_number or by_type or re.search("|".join([*known, limit.texts]), text):
                said = f" ({text[:SHOWN]})" if text else ""
                return f"{limit.name}{said}; {limit.remedy} and run again: it continues"
    return None


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    """The exception, and those that it was raised from."""
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__
