"""A few searches of the demo's corpus, before and after: what the base student finds, what the distilled one finds.

    python -m pipelines.demo          (after `sdretrieval run configs/stdlib.yaml`)

The questions were written by hand, not taken from the corpus, and chosen before any student was trained.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sdretrieval.cli.logs import quiet_libraries
from sdretrieval.cli.search import search
from sdretrieval.errors import SdretrievalError

QUESTIONS = (
    "split a command line string the way a shell does",
    "wait until any of several futures is done",
    "which day of the week does a date fall on",
    "remove a directory and everything in it",
)
HITS = 3


def main(run: str = "stdlib", runs: str | None = None) -> int:
    """Print the titles that both students put first."""
    for question in QUESTIONS:
        print(f"\n{question}")
        for label, base in (("before", True), ("after", False)):
            try:
                answer = search(run, question, HITS, base=base, runs=Path(runs) if runs else None)
            except SdretrievalError as problem:
                print(f"error: {problem}", file=sys.stderr)
                return problem.exit_code
            print(f"  {label:6}  " + "  |  ".join(hit.title for hit in answer.hits))
    return 0


if __name__ == "__main__":
    quiet_libraries()
    sys.exit(main(*sys.argv[1:]))
