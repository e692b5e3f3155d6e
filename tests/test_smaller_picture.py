"""Quality against speed, drawn from finished runs' reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.smaller_picture import dots_of, main, plot


def report(kept: float, milliseconds: float, name: str = "final-static") -> dict[str, Any]:
    whole = {"dims": 384, "query_ms": 10.0}
    smaller = {"dims": 64, "query_ms": milliseconds}
    return {
        "name": "run",
        "measures": {"student_0": {"nDCG@10": 0.3}, "final": {"nDCG@10": 0.4}},
        "smaller": [
            {"name": name, "measure": "nDCG@10", "kept": kept, "cost": {"final": whole, "smaller": smaller}},
        ],
    }


def test_a_dot_is_a_students_mean_over_runs() -> None:
    runs = [dots_of(report(0.9, 1.0)), dots_of(report(1.0, 1.0)), dots_of(report(0.8, 5.0, "final-layers3"))]
    picture = ElementTree.fromstring(plot(runs))
    labels = {text.text: text for text in picture.findall("{*}text")}
    assert {"final", "base", "static", "layers3"} <= set(labels)
    dots = {
        name: (float(dot.get("cx", 0)), float(dot.get("cy", 0)), float(dot.get("r", 0)))
        for name, dot in zip(("final", "static", "layers3", "base"), picture.findall("{*}circle"), strict=True)
    }  # the best one first
    assert dots["static"][0] > dots["layers3"][0] > dots["final"][0] == dots["base"][0]
    height = dots["base"][1] - dots["final"][1]  # of the base's lost quarter
    assert dots["static"][1] - dots["final"][1] == pytest.approx(height / 5, abs=0.2)
    assert dots["static"][2] < dots["final"][2]


def test_reports_are_read_from_the_runs_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(0.9, 1.0)))
    monkeypatch.setattr("sys.argv", ["smaller_picture", str(tmp_path), "--out", str(tmp_path / "smaller.svg")])
    main()
    assert ">static</text>" in (tmp_path / "smaller.svg").read_text()
    (tmp_path / "report.json").write_text(json.dumps({**report(0.9, 1.0), "smaller": []}))
    with pytest.raises(SystemExit, match="no smaller students"):
        main()
