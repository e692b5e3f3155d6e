"""The cards of index recipes as a Markdown table, and its place in a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- cards: written by python -m benchmarks.index_cards -->", "<!-- cards end -->"
HEAD = (
    "| recipe | built | recall@10 | recall@100 | ms a query alone | ms a query in a batch | bytes a vector "
    "| + on the disk | build, s |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def update_readme(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Put the tables between the marks in `path`, at its end where it has none."""
    text = path.read_text(encoding="utf8") if path.exists() else ""
    block = f"{BEGIN}\n{tables(records)}\n{END}"
    if BEGIN in text and END in text:
        text = text[: text.index(BEGIN)] + block + text[text.index(END) + len(END) :]
    else:
        text = f"{text.rstrip()}\n\n{block}\n".lstrip()
    path.write_text(text, encoding="utf8")


def tables(records: Sequence[dict[str, Any]]) -> str:
    """One table a size and source of vectors, the least memory first, under what it was measured with."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["count"], record["dims"], record["vectors"]), []).append(record)
    return "\n\n".join(_table(groups[key]) for key in sorted(groups))


def _table(records: Sequence[dict[str, Any]]) -> str:
    first = records[0]
    rows = sorted(records, key=lambda record: (record["bytes_per_vector"], record["recipe"]))
    lines = [f"**{first['count']:,} vectors of {first['dims']} dims**, {first['vectors']}.", "", HEAD]
    return "\n".join([*lines, *map(_row, rows), "", _measured_with(rows)])


def _row(record: dict[str, Any]) -> str:
    disk = record["rescore_bytes_per_vector"]
    cells = [
        record["recipe"],
        f"`{record['factory']}`{_breadth(record['settings'])}",
        f"{record['recall_at_10']:.3f}",
        f"{record['recall_at_100']:.3f}",
        f"{record['single_ms_per_query']:.2f}",
        f"{record['search_ms_per_query']:.2f}",
        f"{record['bytes_per_vector']:.0f}",
        f"{disk}" if disk else "",
        f"{record['build_seconds']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _breadth(settings: dict[str, Any]) -> str:
    set_ = [f"{name} {settings[name]}" for name in ("nprobe", "ef_search", "rescore") if name in settings]
    return f", {', '.join(set_)}" if set_ else ""


def _measured_with(records: Sequence[dict[str, Any]]) -> str:
    def each(name: str) -> str:
        return " and ".join(sorted({str(record[name]) for record in records}))

    versions = sorted({", ".join(f"{k} {v}" for k, v in record["versions"].items()) for record in records})
    queries = each("recall_queries")
    return f"{queries} queries; {each('cpu')}; {' and '.join(versions)}; commit {each('commit')}."
