"""sdretrieval: makes a small, fast bi-encoder better at your corpus, without buying labels, and proves it.

    from sdretrieval import load_config, probe_config, run_config

    config = load_config("configs/scifact.yaml")
    probe_config(config)    # does any configured teacher know more than the student?
    run_config(config)      # mine, score, train, gate, measure, report; `open_run` gives these one by one

Domain code needs no YAML: see `sdretrieval.corpus`, `.encode`, `.indexes`, `.mining`, `.teachers`, `.targets`,
`.training`, `.evaluation`, `.export`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdretrieval.cli.score import pairs_to_score, scores_said
    from sdretrieval.config import Config, load_config, parse_config
    from sdretrieval.run.api import RunResult, finish_run, open_run, plan_config, probe_config, run_config
    from sdretrieval.run.loop import loop

__version__ = "0.1.0"

# torch's CPU kernels in bfloat16 keep what they compiled for each shape, 1,024 shapes unless told. Batches of texts
# have a new shape nearly every time, and the demo's training grew from 2 to 4 GiB so; 64 cost no time that we could
# measure (docs/ABLATIONS.md). Read once, at the first product, so it is set here; a value that the user set stays.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

_HOMES = {
    "Config": "sdretrieval.config",
    "RunResult": "sdretrieval.run.write",
    "finish_run": "sdretrieval.run.write",
    "load_config": "sdretrieval.config",
    "loop": "sdretrieval.run.loop",
    "open_run": "sdretrieval.run.api",
    "pairs_to_score": "sdretrieval.cli.score",
    "parse_config": "sdretrieval.config",
    "plan_config": "sdretrieval.run.api",
    "probe_config": "sdretrieval.run.api",
    "run_config": "sdretrieval.run.api",
    "scores_said": "sdretrieval.cli.score",
}

__all__ = [
    "Config",
    "RunResult",
    "finish_run",
    "load_config",
    "loop",
    "open_run",
    "pairs_to_score",
    "parse_config",
    "plan_config",
    "probe_config",
    "run_config",
    "scores_said",
]


def __getattr__(name: str) -> Any:
    # Opened on first use: importing torch for `sdretrieval --help` would cost seconds.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sdretrieval' has no attribute {name!r}")
