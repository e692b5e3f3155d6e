"""sdretrieval: makes a small, fast bi-encoder better at your corpus, without buying labels, and proves it.

    from sdretrieval import load_config, probe_config, run_config

    config = load_config("configs/scifact.yaml")
    probe_config(config)    # does any configured teacher know more than the student?
    run_config(config)      # mine, score, train, gate, measure, report

Domain code needs no YAML: see `sdretrieval.corpus`, `.encode`, `.indexes`, `.mining`, `.teachers`, `.targets`,
`.training`, `.evaluation`, `.export`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdretrieval.run.api import RunResult, plan_config, probe_config, run_config
    from sdretrieval.run.config import Config, load_config, parse_config

__version__ = "0.1.0"

_HOMES = {
    "Config": "sdretrieval.run.config",
    "RunResult": "sdretrieval.run.api",
    "load_config": "sdretrieval.run.config",
    "parse_config": "sdretrieval.run.config",
    "plan_config": "sdretrieval.run.api",
    "probe_config": "sdretrieval.run.api",
    "run_config": "sdretrieval.run.api",
}

__all__ = ["Config", "RunResult", "load_config", "parse_config", "plan_config", "probe_config", "run_config"]


def __getattr__(name: str) -> Any:
    # Opened on first use: importing torch for `sdretrieval --help` would cost seconds.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sdretrieval' has no attribute {name!r}")
