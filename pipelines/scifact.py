"""SciFact from corpus to a student that is measurably better, through the public Python API.

    python -m pipelines.scifact [configs/scifact.yaml] [KEY=VALUE ...]

The same as `sdretrieval probe CONFIG` and `sdretrieval run CONFIG`: stages that are in the store are not repeated.
"""

from __future__ import annotations

import sys

from sdretrieval import load_config, probe_config, run_config
from sdretrieval.cli.logs import quiet_libraries, start_logging


def main(path: str = "configs/scifact.yaml", *overrides: str) -> None:
    """Ask the probe, train where it says so, print what came of it."""
    config = load_config(path, overrides)

    advice = probe_config(config)
    print(f"the probe: {advice['rows'][0]['teacher']}: {advice['reason']}")
    if not advice["train"]:
        print("no configured teacher is better than the student here: nothing to distil")
        return

    result = run_config(config)
    assert result is not None  # only `until` stops a run early
    for row in result.details["table"]:
        print(f"{row['system']:20} dev {row['dev']['nDCG@10']:.4f}   test {row['test']['nDCG@10']:.4f}")
    print(result.details["headline"])
    print(f"report: {result.folder / 'report.html'}   student: {result.folder / 'student'}")


if __name__ == "__main__":
    quiet_libraries()
    start_logging(verbose=False)
    main(*sys.argv[1:])
