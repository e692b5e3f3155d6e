"""Bad inputs by topic: each must end with exit code 2 (1 where work had begun), one clear message, no traceback.

To add one, add a line to a table of the file of its topic: a command line, a setting, or what spoils a corpus, a model,
a run or a bundle.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

from tests.faults.bad_inputs import command_lines, config_files, corpora, left_behind, models, settings
from tests.faults.bad_inputs.kinds import BadInput
from tests.faults.place import Call, Place
from tests.faults.tally import Tally, unclear

TOPICS = (settings, config_files, command_lines, corpora, models, left_behind)
SLOW_S = 20.0
"""A refusal comes before long work."""


def bad_inputs() -> list[BadInput]:
    """All of them."""
    return [one for topic in TOPICS for one in topic.bad_inputs()]


def try_bad_inputs(place: Place, call: Call, inputs: Sequence[BadInput], until: float) -> Tally:
    """Each in turn."""
    tally = Tally("bad inputs")
    for one in inputs:
        if time.monotonic() > until:
            break
        ended = call(*one.arguments(place))
        problem = unclear(ended, one.codes)
        if problem is None and ended.seconds > SLOW_S:
            problem = f"refused after {ended.seconds:.0f} s"
        tally.add(one.name, problem)
    tally.cut_short = time.monotonic() > until
    return tally


def sample(inputs: Sequence[BadInput], count: int, seed: int) -> Iterator[BadInput]:
    """Some of each topic."""
    by_topic: dict[str, list[BadInput]] = {}
    for one in inputs:
        by_topic.setdefault(one.name.split(":")[0], []).append(one)
    for of_topic in by_topic.values():
        yield from random.Random(seed).sample(of_topic, min(len(of_topic), -(-count // len(by_topic))))
