"""One benchmark's record (JSON), and all records as tables in benchmarks/README.md."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, processor
from benchmarks.sides import Side
from sdretrieval.files import write_json

BEGIN, END = "<!-- records: written by python -m benchmarks -->", "<!-- records end -->"
HEAD = "| what | ratio (least to most) | target | memory | agreement |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """A comparison: how many times the work a second `ours` does of what `peer` does, round by round."""

    what: str
    ratios: Sequence[float]
    target: float | None = None
    memory: str = ""
    agreement: str = ""
    at_least: bool = False
    """Whether the peer was stopped before it came as far as ours: the ratio is then the least that it can be."""

    @property
    def text(self) -> str:
        """As a table's line."""
        middle, low, high = statistics.median(self.ratios), min(self.ratios), max(self.ratios)
        met = "" if self.target is None else f"{self.target:g}: {self._met(middle, self.target)}"
        spread = f" ({low:.2f} to {high:.2f})" if len(self.ratios) > 1 else ""
        bound = "at least " if self.at_least else ""
        return f"| {self.what} | {bound}{middle:.2f}{spread} | {met} | {self.memory} | {self.agreement} |"

    def _met(self, ratio: float, target: float) -> str:
        if ratio >= target:
            return "met"
        return "not decided" if self.at_least else "**not met**"


@dataclass
class Record:
    """What a benchmark found: rows, and lines that say more."""

    name: str
    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    sides: Mapping[str, Side] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further figures, kept in the JSON alone."""
    text: str = ""
    """The whole markdown, of what compares nothing."""

    def markdown(self) -> str:
        """Rows as a table, then the notes."""
        if self.text:
            return self.text
        table = [f"**{self.name}**: {self.title}", "", HEAD, *(row.text for row in self.rows)] if self.rows else []
        return "\n".join([*table, "", *(f"* {note}" for note in self.notes)]).strip()

    def write(self, folder: Path) -> None:
        """`folder`/NAME.json."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{self.name}.json", self.found())

    def found(self) -> dict[str, Any]:
        """As JSON, with all times, the machine and the versions."""
        seconds = {name: [round(s, 4) for s in side.seconds] for name, side in self.sides.items()}
        peaks = {name: side.peak_bytes for name, side in self.sides.items()}
        found = {"name": self.name, "markdown": self.markdown(), "seconds": seconds, "peak_rss_bytes": peaks}
        return {**found, **({"details": dict(self.details)} if self.details else {}), **measured_with()}


def compared(what: str, ours: Side, peer: Side, target: float | None = None, agreement: str = "") -> Row:
    """The row of two sides that did the same work."""
    ratios = [theirs / own for own, theirs in zip(ours.seconds, peer.seconds, strict=True)]
    memory = f"{_gb(ours)} against {_gb(peer)} GB"
    return Row(what, ratios, target, memory, agreement)


def _gb(side: Side) -> str:
    return f"{side.peak_bytes / 1e9:.2f}"


def measured_with() -> dict[str, Any]:
    """Machine, versions, commit."""
    names = ("torch", "transformers", "sentence-transformers", "numpy", "sdretrieval")
    versions = {name: version(name) for name in names}
    return {"cpu": f"{processor()}, {os.cpu_count()} cores", "versions": versions, "commit": commit()}


def update_readme(path: Path, folder: Path) -> None:
    """Put the tables of all records between the marks."""
    records = [json.loads(found.read_text(encoding="utf8")) for found in sorted(folder.glob("*.json"))]
    blocks = [f"{record['markdown']}\n\n{_measured(record)}" for record in records]
    text = path.read_text(encoding="utf8")
    block = "\n\n".join([BEGIN, *blocks, END])
    path.write_text(text[: text.index(BEGIN)] + block + text[text.index(END) + len(END) :], encoding="utf8")


def _measured(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found}" for name, found in record["versions"].items())
    return f"{record['cpu']}; {versions}; commit {record['commit']}."
