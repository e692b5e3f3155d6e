"""The demo's run through the public Python API: a search engine for Python's standard library learns its corpus.

python -m pipelines.stdlib
"""

from __future__ import annotations

import logging

from sdretrieval import load_config, run_config


def main() -> None:
    """Run the config; everything that is in the store already is not done again."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    result = run_config(load_config("configs/stdlib.yaml"))
    assert result is not None  # only `until` stops a run early
    print(result.details["headline"])
    print("\n".join(result.details["notes"]))
    print(f"report: {result.folder / 'report.html'}   student: {result.folder / 'student'}")


if __name__ == "__main__":
    main()
