"""The suspects and the curve as one self-contained HTML page, in the style of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdretrieval.report.page import line_chart, page_template

NAMES = {"dev": "removed", "test": "caught"}
"""The chart's two lines wear the colours of a report's two."""


def render_suspects(record: Mapping[str, Any]) -> str:
    """The page of what `suspects_of` found. All texts are escaped."""
    points = [
        {"generation": f"{one['value']:g}", "dev": one["removed_share"], "test": one["caught_share"]}
        for one in record["curve"]["settings"]
    ]
    chart = line_chart(points, "share", NAMES)
    return page_template("suspects.html").render(record=record, curve=record["curve"], chart=chart)
