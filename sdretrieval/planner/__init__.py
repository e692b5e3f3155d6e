"""What a run will take, before it takes it: work, seconds and memory by stage; settings that fit a budget."""

from __future__ import annotations

from sdretrieval.planner.amounts import Amount, counted
from sdretrieval.planner.budget import Budget, Fitted, fit
from sdretrieval.planner.forecast import Forecast, planner_of, read_forecast, say_forecast, worth_foretelling
from sdretrieval.planner.predict import Prediction

__all__ = [
    "Amount",
    "Budget",
    "Fitted",
    "Forecast",
    "Prediction",
    "counted",
    "fit",
    "planner_of",
    "read_forecast",
    "say_forecast",
    "worth_foretelling",
]
