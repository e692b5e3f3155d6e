"""Side-by-side measurements against what the same work takes with the peers' parts.

    python -m benchmarks [NAME ...] [--scale 0.1] [--student MODEL] [--reranker MODEL] [--out DIR]

One JSON a benchmark in `benchmarks/results/`, all of them as tables in benchmarks/README.md. Sides run in processes of
their own, never two at once, in turn for some rounds: ratios count, seconds do not. `--scale` makes the inputs smaller,
to try; then no table is written.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.inputs import Asked
from benchmarks.record import Record, update_readme
from benchmarks.sides import Side, measure
from sdretrieval.errors import SdretrievalError

HOME = Path(__file__).parent
NAMES = ("encode", "mine", "score", "train")
LONG = ("search",)
"""Measured only where they are named."""


def run(name: str, asked: Asked, rounds: int | None = None) -> Record:
    """One benchmark, from its inputs to its record."""
    module = import_module(f"benchmarks.{name}")
    with tempfile.TemporaryDirectory(prefix="sdretrieval-bench-") as folder:
        asked.save(Path(folder))
        module.prepare(Path(folder), asked)
        sides: dict[str, Side] = {}
        for group in getattr(module, "GROUPS", [list(module.SIDES)]):  # whose processes are there at the same time
            sides |= measure(module.__name__, group, Path(folder), rounds or module.ROUNDS)
        record: Record = module.report(sides, asked)
    return record


def main() -> None:
    """The command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("sdretrieval").setLevel(logging.INFO)  # how far the work is, where there is no terminal
    given = _arguments()
    if unknown := sorted(set(given.names) - {*NAMES, *LONG}):
        raise SystemExit(f"unknown benchmarks: {', '.join(unknown)}; expected some of: {', '.join((*NAMES, *LONG))}")
    asked = Asked(given.student, given.reranker, scale=given.scale)
    for name in given.names or NAMES:
        try:
            record = run(name, asked, given.rounds)
        except SdretrievalError as error:
            raise SystemExit(f"{name}: {error}") from error
        print(record.markdown(), flush=True)
        if given.out is not None or given.scale == 1:
            record.write(given.out or HOME / "results")
    if given.out is None and given.scale == 1:
        update_readme(HOME / "README.md", HOME / "results")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", help=f"some of {', '.join((*NAMES, *LONG))}; {', '.join(NAMES)} where none is given"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual sizes")
    parser.add_argument("--rounds", type=int, default=None, help="instead of each benchmark's own number")
    parser.add_argument("--student", default=Asked.student)
    parser.add_argument("--reranker", default=Asked.reranker)
    parser.add_argument("--out", type=Path, default=None, help="where the JSON goes instead of benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
