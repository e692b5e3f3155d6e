"""A run from corpus to measured systems: `Pipeline(config, store, runner).run()`."""

from __future__ import annotations

from sdretrieval.run.pipeline.generations import Generation, Pipeline
from sdretrieval.run.pipeline.measuring import System
from sdretrieval.run.pipeline.shared import Weights

__all__ = ["Generation", "Pipeline", "System", "Weights"]
