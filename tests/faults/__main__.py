"""`python -m tests.faults`: kills, flipped bits and bad inputs, for people who doubt. Exit code 1 if any did not hold.

python -m tests.faults [--kills N] [--minutes N] [--seed N] [--only kills,flips,bad-inputs] [--jobs N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.bad_inputs import bad_inputs, try_bad_inputs
from tests.faults.flips import try_flips
from tests.faults.forks import Forks
from tests.faults.kills import try_kills
from tests.faults.place import Place, finish, write_inputs
from tests.faults.tally import Tally

KINDS = ("kills", "flips", "bad-inputs")
SHOWN = 40
"""Failures that are printed of each kind."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them all and print how many held."""
    options = _parsed(arguments)
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="sdretrieval-faults-") as name:
        folder = Path(name)
        callers = [Forks(folder / f"cache-{n}") for n in range(options.jobs)]
        try:
            place = write_inputs(folder)
            finish(place, callers[0])
            kinds, tallies = options.only.split(","), []
            for left, kind in zip(range(len(kinds), 0, -1), kinds, strict=True):
                part = (until - time.monotonic()) / left  # none takes the time of those after it
                tallies.append(_tried(kind, options, place, callers, time.monotonic() + part))
        finally:
            for caller in callers:
                caller.close()
    for tally in tallies:
        print(tally.line())
        for failure in tally.failed[:SHOWN]:
            print(f"  did not hold: {failure}")
    return 1 if any(tally.failed for tally in tallies) else 0


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="kills at random moments (default: 200)")
    parser.add_argument("--minutes", type=float, default=15, help="stop after so long (default: 15)")
    parser.add_argument("--seed", type=int, default=13, help="of moments and bits (default: 13)")
    parser.add_argument("--only", default=",".join(KINDS), help=f"some of {', '.join(KINDS)}")
    parser.add_argument("--jobs", type=int, default=2, help="processes that try at a time (default: 2)")
    return parser.parse_args(arguments)


def _tried(kind: str, options: argparse.Namespace, place: Place, callers: Sequence[Forks], until: float) -> Tally:
    """One kind, shared among the processes."""
    inputs, jobs, began = bad_inputs(), len(callers), time.monotonic()
    tries: dict[str, Callable[[int], Tally]] = {
        "kills": lambda n: try_kills(place, callers[n], options.kills // jobs, options.seed + n, until),
        "flips": lambda n: try_flips(place, callers[n], options.seed + n, until, (n, jobs)),
        "bad-inputs": lambda n: try_bad_inputs(place, callers[n], inputs[n::jobs], until),
    }
    with ThreadPoolExecutor(jobs) as pool:
        parts = list(pool.map(tries[kind], range(jobs)))
    whole = Tally(parts[0].kind, sum(part.tried for part in parts), [one for part in parts for one in part.failed])
    whole.cut_short = any(part.cut_short for part in parts)
    print(f"{whole.line()} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
    return whole


if __name__ == "__main__":
    sys.exit(main())
