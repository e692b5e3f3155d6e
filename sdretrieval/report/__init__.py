"""What a run says of itself: `report.json` (stable schema), `report.html`, the table on the terminal.

Test data decides nothing here: every figure of the test split is read from runs that were made for a frozen config.
"""

from sdretrieval.report.build import build_report
from sdretrieval.report.details import build_details
from sdretrieval.report.figures import Figures, figures_of

__all__ = ["Figures", "build_details", "build_report", "figures_of"]
