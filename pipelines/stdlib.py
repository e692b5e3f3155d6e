"""The demo's run, stage by stage, through the public Python API: a search engine for Python's standard library learns
its corpus.

    python -m pipelines.stdlib [configs/stdlib.yaml] [KEY=VALUE ...]

`sdretrieval run CONFIG` does the same in the same store: what one of them has finished, the other finds.
"""

from __future__ import annotations

import sys

from sdretrieval import RunResult, finish_run, load_config, open_run
from sdretrieval.cli.logs import quiet_libraries, start_logging


def main(path: str = "configs/stdlib.yaml", *overrides: str) -> RunResult:
    """Mine, teach, train, decide; again and again; then measure what was accepted."""
    config = load_config(path, overrides)

    with open_run(config) as run:
        run.measure_base()  # BM25, the student as it is, both together, the teacher reranking
        student, first = run.base, None
        for generation in range(1, config.generations + 1):
            if run.not_worth_training():  # the probe, where it is asked for, finds no teacher better than the student
                break
            lists = run.mine(generation, student)  # from the index of this student's vectors, and BM25
            taught = run.teach(generation, student, lists)  # the teachers' scores become soft targets
            candidate = run.train(generation, student, taught)
            student = run.gate(generation, student, candidate, taught)  # candidate, mixture or the old one: dev says
            first = first or lists
        if first is not None:
            run.measure_controls(first)  # equal updates on labels alone, and with a shuffled teacher
        run.measure_final(student)
        result = finish_run(run)

    print(result.details["headline"])
    print("\n".join(result.details["notes"]))
    print(f"report: {result.folder / 'report.html'}   student: {result.folder / 'student'}")
    return result


if __name__ == "__main__":
    quiet_libraries()
    start_logging(verbose=False)
    main(*sys.argv[1:])
