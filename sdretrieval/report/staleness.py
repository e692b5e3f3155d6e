"""What was not encoded anew between generations, how far it had moved, and which figures rest on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sdretrieval.run.generations import Pipeline

SHOWN = (
    "decision", "why", "exact", "documents", "documents_encoded", "share_encoded", "tokens", "tokens_of_all", "sample",
    "movement", "overlap", "dev",
)  # fmt: skip
"""Of a card; its clusters stay in the store."""


def staleness(pipeline: Pipeline) -> list[dict[str, Any]]:
    """One row a student whose vectors may have been refreshed in part; none where `index.refresh` is full.

    `system`: the report's row that is measured on these vectors; null for a merge, which is measured on dev alone.
    """
    address_of = {record["key"]: record["stage"] for record in reversed(pipeline.runner.records)}
    rows = []
    for artifact in pipeline.refreshed.values():
        prefix = address_of[artifact.key].partition("/")[0]
        card = pipeline.refresh_card(artifact)
        system = f"generation_{int(prefix) - 1}" if prefix.isdigit() else None
        rows.append({"stage": address_of[artifact.key], "system": system, **{name: card[name] for name in SHOWN}})
    return rows


def stale_gate(pipeline: Pipeline, generation: int) -> str:
    """What to say beside a gate's reason; empty where it measured on whole vectors."""
    sides = pipeline.judged_on_stale.get(generation) or []
    return f" Measured on partly stale vectors: {' and '.join(sides)}." if sides else ""


def staleness_notes(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    """What a reader must not overlook: which figures are not exact, and by how much."""
    for row in rows:
        if row["exact"]:
            continue
        dev, overlap = row["dev"], row["overlap"]
        what = f"{row['system']} is" if row["system"] else f"The student of {row['stage']} is"
        if row["decision"] == "skip":
            yield (
                f"{what} measured on the documents' vectors of the student before it, so its figures are not exact: "
                f"{row['documents_encoded']:,} of {row['documents']:,} documents were looked at. With dev's own "
                f"documents fresh {dev['measure']} on dev would change by {dev['cost']:+.4f}. final is measured on "
                "whole vectors."
            )
            continue
        left = "" if overlap["lists"] is None else f"; about {overlap['lists']:.1%} of the true lists are there"
        yield (
            f"{what} measured on partly stale vectors, so its figures are not exact: {row['documents_encoded']:,} of "
            f"{row['documents']:,} documents were encoded anew{left}. Encoding dev's own documents too changed "
            f"{dev['measure']} on dev by {dev['cost']:+.4f}. final is measured on whole vectors."
        )
