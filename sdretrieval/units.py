"""Stages as people see them: their addresses, the units of their work, and the line that says what one did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sdretrieval.formatting import quantity, readable_seconds, singular


class Address(NamedTuple):
    """`1/encode:teacher0` in its parts: who it is made for, the stage, and the rest, which may be empty.

    `owner`: a generation's number (0: shared by all), a merge such as `1m0.5`, or a student such as `final`. `seed`: of
    the trainings that it is made for, if that is not the first seed of the config (`1/train@14`).
    """

    owner: str
    stage: str
    part: str
    seed: str = ""

    @staticmethod
    def of(text: str) -> Address:
        """From its text; the inverse of `str`."""
        path, marked, seed = text.rpartition("@")
        if not (marked and seed.isdigit()):
            path, seed = text, ""
        owner, _, rest = path.rpartition("/")
        stage, _, part = rest.partition(":")
        return Address(owner, stage, part, seed)

    @property
    def generation(self) -> int | None:
        """The number, if it is made for a generation."""
        return int(self.owner) if self.owner.isdigit() else None

    @property
    def unmarked(self) -> str:
        """As text, without the seed."""
        return str(self._replace(seed=""))

    def __str__(self) -> str:
        part, seed = f":{self.part}" if self.part else "", f"@{self.seed}" if self.seed else ""
        return f"{self.owner}/{self.stage}{part}{seed}"


UNITS = {
    "corpus": ("documents", ("documents",)),
    "tokens": ("tokens", ("document_tokens", "query_tokens", "query_removed_tokens")),
    "lexical": ("documents", ("documents",)),
    "encode": ("tokens", ("document_tokens", "query_tokens", "query_removed_tokens")),
    "guard": ("tokens", ("document_tokens", "query_tokens")),
    "index": ("vectors", ("vectors",)),
    "evaluate": ("queries", ("queries",)),
    "probe": ("queries", ("queries",)),
    "judge": ("pairs", ("pairs",)),
    "mine": ("candidates", ("candidates",)),
    "score": ("pairs", ("pairs",)),
    "targets": ("lists", ("lists",)),
    "train": ("updates", ("updates",)),
    "fit": ("updates", ("updates",)),
    "probability": ("queries", ("queries",)),
}
"""Of a stage: its unit, and the counts of its manifest that make it up."""

SHOWN_COUNTS: dict[str, dict[str, str]] = {
    "corpus": {
        "documents": "{:,} documents", "train_queries": "{:,} train queries", "dev_queries": "{:,} dev queries",
        "written_by_model": "{:,} written by a model", "written_kept_from_before": "{:,} written before",
    },
    "queries": {
        "generated_kept": "{:,} synthetic train queries", "dev_kept": "{:,} for dev", "test_kept": "{:,} for test",
    },
    "judge": {
        "pairs": "{:,} pairs graded", "answered": "{:,} queries answered",
        "judged_kept_from_before": "{:,} known before", "judged_unusable": "{:,} without a grade",
    },
    "verdicts": {"relevant": "{:,} relevant", "refused": "{:,} not relevant", "idle": "{:,} without effect"},
    "tokens": {
        "document_tokens": "{:,} tokens of documents", "query_tokens": "{:,} of queries",
        "documents_reused": "{:,} documents reused",
    },
    "encode": {
        "document_windows": "{:,} windows of documents", "query_windows": "{:,} of queries",
        "document_windows_reused": "{:,} reused",
    },
    "guard": {
        "documents": "{:,} documents", "queries": "{:,} queries", "document_windows": "{:,} windows of documents",
        "mean": "mean of the gate's measure {:.4f}",
    },
    "index": {"vectors": "{:,} vectors", "recall_at_100": "recall@100 {:.3f}"},
    "score": {"pairs": "{:,} scores", "newly_scored_pairs": "{:,} new", "missing_pairs": "{:,} missing"},
    "targets": {
        "lists": "{:,} lists", "temperature": "temperature {:.3g}",
    },
    "train": {"updates": "{:,} updates", "queries": "{:,} queries seen", "documents_seen": "{:,} documents seen"},
    "fit": {
        "judged_queries": "{:,} judged queries", "updates": "{:,} updates", "queries": "{:,} texts seen",
    },
    "cost": {"dims": "{} dims", "queries_times": "a query {:.1f} times as fast"},
    "merge": {"share": "{:.0%} of the new weights"},
    "precision": {"train": "train in {}", "encode": "encode in {}"},
    "follow": {"queries": "{:,} queries that people asked", "share": "{:.0%} of the way to the teacher"},
    "gate": {"difference": "dev difference {:+.4f}"},
}  # fmt: skip
"""What the counts of a stage mean, in the order in which they are shown. Any other stage shows all its counts."""


def counted(address: str, counts: Mapping[str, Any]) -> int | None:
    """What a finished stage's `counts` say in its unit; None for a stage without one."""
    stage = Address.of(address).stage
    return sum(int(counts.get(one, 0)) for one in UNITS[stage][1]) if stage in UNITS else None


def stage_counts(address: str, counts: Mapping[str, Any]) -> str:
    """What a stage counted, in words: `800 queries, 12,800 candidates`. Later counts of 0 are left out."""
    words = SHOWN_COUNTS.get(Address.of(address).stage)
    if words is not None:
        known = [(counts[name], form) for name, form in words.items() if counts.get(name) is not None]
        shown = [(value, form) for at, (value, form) in enumerate(known) if at == 0 or value != 0]
        return ", ".join((singular(form) if value == 1 else form).format(value) for value, form in shown)
    parts = []
    for name, value in counts.items():
        plain = name.replace("_", " ")
        number = f"{plain} {value:.4f}" if isinstance(value, float) else f"{plain} {value}"
        parts.append(quantity(value, plain) if type(value) is int else number)
    return ", ".join(parts)


def stage_line(address: str, counts: Mapping[str, Any], seconds: float, why: str = "") -> str:
    """A stage that was made: `1/mine   800 queries, 12,800 candidates   4.2 s`. `why`: why it was made again."""
    what = stage_counts(address, counts) + (f" ({why})" if why else "")
    return f"{address:<28} {what:<54} {readable_seconds(seconds):>8}"


def dev_figure(address: str, counts: Mapping[str, Any]) -> dict[str, str]:
    """What a student's figure on dev says while the next one trains: `{"dev nDCG@10": "0.5120 (1/evaluate:dev)"}`;
    empty of any other stage."""
    whose = Address.of(address)
    if (whose.stage, whose.part) != ("evaluate", "dev"):
        return {}
    first = next((name for name in counts if name != "queries"), None)  # the first of the config's measures
    return {} if first is None else {f"dev {first}": f"{counts[first]:.4f} ({address})"}
