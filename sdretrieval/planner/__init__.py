"""What a run will take, before it takes it: work, seconds and memory by stage; settings that fit a budget; tuning."""

from __future__ import annotations

from sdretrieval.planner.amounts import Amount, Prediction, predicted_json
from sdretrieval.planner.budget import Budget, Fitted, fit
from sdretrieval.planner.forecast import CANNOT_FORECAST, Forecast, forecast, write_forecast
from sdretrieval.planner.prices import Price, teacher_prices
from sdretrieval.planner.trials import Calibration, Trials, open_calibration, windows_of
from sdretrieval.planner.tuning import Tuning, tune
from sdretrieval.planner.workload import Workload, workload_of, worth_measuring

__all__ = [
    "CANNOT_FORECAST",
    "Amount",
    "Budget",
    "Calibration",
    "Fitted",
    "Forecast",
    "Prediction",
    "Price",
    "Trials",
    "Tuning",
    "Workload",
    "fit",
    "forecast",
    "open_calibration",
    "predicted_json",
    "teacher_prices",
    "tune",
    "windows_of",
    "workload_of",
    "worth_measuring",
    "write_forecast",
]
