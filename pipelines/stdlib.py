"""The demo's run through the public Python API: a search engine for Python's standard library learns its corpus.

    python -m pipelines.stdlib [configs/stdlib.yaml] [KEY=VALUE ...]

`sdretrieval run CONFIG` does the same in the same store: what one of them has finished, the other finds. The order of
the stages is in `sdretrieval/run/loop.py`, which both call.
"""

from __future__ import annotations

import sys

from sdretrieval import RunResult, finish_run, load_config, loop, open_run
from sdretrieval.cli.logs import quiet_libraries, start_logging


def main(path: str = "configs/stdlib.yaml", *overrides: str) -> RunResult:
    """Mine, teach, train, decide; again and again; then measure what was accepted."""
    config = load_config(path, overrides)
    with open_run(config) as run:  # checked, and its store locked
        results = loop(run)  # every generation, and every system of the report
        for generation in results.generations:
            print(f"generation {generation.number}: {generation.decision}: {generation.gate['reason']}")
        result = finish_run(results)  # student, report and runs in runs/NAME

    print(result.details["headline"])
    print("\n".join(result.details["notes"]))
    print(f"report: {result.folder / 'report.html'}   student: {result.folder / 'student'}")
    return result


if __name__ == "__main__":
    quiet_libraries()
    start_logging(verbose=False)
    main(*sys.argv[1:])
