"""The report of a run as one self-contained HTML page: no script, no request, light and dark, a phone or a desk.

This file turns the report's numbers into rows and positions; `templates/` holds the page, its charts and its style.
Charts use positions in per cent of their width, so that they fit any screen while their text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeGuard

from sdretrieval.evaluation.significance import LOSS, NOISE, PairedTest, holm, verdict
from sdretrieval.formatting import quantity, readable_bytes, readable_seconds, seeds_text

if TYPE_CHECKING:
    from jinja2 import Template

Row = dict[str, Any]
Scale = Callable[[float], float]
BASE, FINAL = "student_0", "final"
NAMES = {
    FINAL: "the final student",
    BASE: "the base student",
    "hybrid_0": "untrained hybrid search",
    "hybrid_final": "hybrid search with the final student",
    "hard_labels": "the control hard_labels",
    "shuffled_teacher": "the control shuffled_teacher",
}
"""Of systems, in sentences."""
COMPARISONS = (
    (FINAL, BASE), (FINAL, "hybrid_0"), ("hybrid_final", "hybrid_0"), (FINAL, "hard_labels"),
    (FINAL, "shuffled_teacher"),
)  # fmt: skip
"""What a reader must know of, the most important first."""
EXCERPT = 320
"""Characters of a query or document that the page shows."""
LINE_HEIGHT = 180
"""Height of the plot of measures by generation, in pixels."""


def render(report: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    """The page. `report` is report.json; `details` holds what report.json does not, every part of it optional.

    Parts of `details`: headline, table, by_generation, score_histograms, entropy_histograms, mining, wins, losses,
    stages, probe, notes, config, versions, comparisons (how many tests Holm's p goes over). A part that is
    absent leaves its section out; without `table` the table is made from `report` alone. All texts are escaped.
    """
    return page_template("report.html").render(
        **_view({**report, "tests": _judged(report.get("tests") or [])}, details)
    )


@cache
def page_template(name: str) -> Template:
    """A page of `templates/`, which writes numbers as a report does and escapes every text."""
    from jinja2 import Environment, PackageLoader

    pages = Environment(
        loader=PackageLoader("sdretrieval.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters.update(
        number=number,
        signed=signed,
        span=span,
        p=p_value,
        seconds=duration,
        size=size,
        excerpts=excerpts,
        quantity=quantity,
        seeds=seeds_text,
    )
    return pages.get_template(name)


def _view(report: Mapping[str, Any], details: Mapping[str, Any]) -> Row:
    rows = [dict(row) for row in details.get("table") or _table_of(report)]
    measure = _main_measure(report, rows)
    sentences = [] if details.get("notes") else findings(report)  # notes hold them already
    generations, dev, split = (
        details.get("by_generation") or [],
        dev_name(bool(report.get("estimate")), judge_of_dev(report)),
        split_name(report),
    )
    return {
        "report": report,
        "details": details,
        "measure": measure,
        "dev": dev,
        "split": split,
        "rows": rows,
        "dev_measures": _columns(rows, "dev"),
        "test_measures": _columns(rows, "test"),
        "headline": details.get("headline") or (sentences[0] if sentences else "What this run measured"),
        "findings": sentences if details.get("headline") else sentences[1:],
        "tests": report["tests"],
        "dots": _dot_chart([row for row in rows if row.get("interval95") and _is_number(row.get("difference"))]),
        "lines": line_chart(generations, measure, {"dev": dev, "test": split}),
        "scores": [_histogram(name, shape) for name, shape in (details.get("score_histograms") or {}).items()],
        "entropies": [_histogram(name, shape) for name, shape in (details.get("entropy_histograms") or {}).items()],
        "probability": _probability(report.get("probability"), {"dev": dev, "test": split}),
        "mining": {name: _mined(counts) for name, counts in (details.get("mining") or {}).items()},
        "stages": _bars(details.get("stages") or [], "seconds"),
    }


# ---- the table and the plain words ---------------------------------------------------------------------------------


def _table_of(report: Mapping[str, Any]) -> list[Row]:
    """Rows from report.json alone: its systems, measures, and the tests against the base."""
    measures, dev = report.get("measures") or {}, report.get("dev_measures") or {}
    against_base = {test["a"]: test for test in reversed(report["tests"]) if test["b"] == BASE}
    systems = report.get("systems") or list(dict.fromkeys([*measures, *dev]))
    rows: list[Row] = []
    for system in systems:
        row: Row = {"system": system, "test": measures.get(system) or {}, "dev": dev.get(system) or {}}
        row["spread"] = (report.get("spread") or {}).get(system) or {}
        if test := against_base.get(system):
            row |= {key: test[key] for key in ("difference", "interval95", "p", "p_holm", "verdict")}
        rows.append(row)
    return rows


def _main_measure(report: Mapping[str, Any], rows: Sequence[Row]) -> str:
    tested = [test["measure"] for test in report["tests"]]
    return next(iter([*tested, *_columns(rows, "test"), *_columns(rows, "dev")]), "")


def _columns(rows: Iterable[Row], part: str) -> list[str]:
    return list(dict.fromkeys(measure for row in rows for measure in row.get(part) or {}))


def _judged(tests: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The tests with Holm's p over all of them (if the report holds none yet) and the verdict by it."""
    judged = []
    for test, corrected in zip(tests, holm([test["p"] for test in tests]), strict=True):
        low, high = test["interval95"]
        paired = PairedTest(test["difference"], (low, high), test["p"], n=0)
        p_holm = test.get("p_holm", corrected)
        judged.append({**test, "p_holm": p_holm, "verdict": verdict(paired, p_holm)})
    return judged


def findings(report: Mapping[str, Any], pairs: Sequence[tuple[str, str]] = COMPARISONS) -> list[str]:
    """What `report.json` says of the final student, one comparison a sentence. The winner comes first, in the words and
    in the figures. If no training was accepted, the final student is the base, and the sentences say so."""
    judged = _judged(report.get("tests") or [])
    tests = {(test["a"], test["b"]): test for test in reversed(judged)}
    measure, names = _main_measure({"tests": judged}, _table_of({**report, "tests": judged})), NAMES
    if "generations" in report and not improved(report):
        base = NAMES[BASE] + " with its lexical half" * ("half_0" in report["measures"])
        names, pairs = {**NAMES, FINAL: base}, [(a, b) for a, b in pairs if a == FINAL and b != BASE]
    sentences = []
    for a, b in pairs:
        means = _means(report, a, b, measure)
        if (a, b) in tests:
            sentences.append(_sentence(report, tests[a, b], names))
        elif means:
            sentences.append(f"{a} has {measure} {means[0]:.3f}, {b} has {means[1]:.3f} (not tested).")
        if means and b == "hybrid_0" and a == FINAL and means[1] > means[0]:
            sentences[-1] += " If you can run BM25 beside the index, compare with hybrid search first."
    return sentences


def improved(report: Mapping[str, Any]) -> bool:
    """Whether what was pretrained or a generation was kept: else the final student is the base."""
    tried = [*filter(None, [report.get("pretrained")]), *report["generations"]]
    return any(one["decision"] in ("accepted", "merged") for one in tried)


def _sentence(report: Mapping[str, Any], test: Mapping[str, Any], names: Mapping[str, str]) -> str:
    a, b, measure, difference, (low, high) = (test[n] for n in ("a", "b", "measure", "difference", "interval95"))
    if test["verdict"] == LOSS:
        a, b, difference, low, high = b, a, -difference, -high, -low
    relation = "shows no gain within noise over" if test["verdict"] == NOISE else "beats"
    means = _means(report, a, b, measure)
    numbers = [f"{measure} {means[0]:.4f} against {means[1]:.4f}" if means else measure, signed(difference, 4)]
    if report.get("n_queries") != 1:  # of one query there is no interval
        numbers.append(f"95 % interval {span((low, high), 4)}, p {p_value(test['p_holm'], sign=True)} after Holm")
    return f"{names[a][0].upper()}{names[a][1:]} {relation} {names[b]}: {', '.join(numbers)}."


def _means(report: Mapping[str, Any], a: str, b: str, measure: str) -> tuple[float, float] | None:
    first, second = ((report.get("measures") or {}).get(system, {}).get(measure) for system in (a, b))
    return (first, second) if _is_number(first) and _is_number(second) else None


# ---- charts: positions in per cent of the width, heights in pixels --------------------------------------------------


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers inside low..high, roughly `about` of them, a step of 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(position * step, 12) for position in range(first, last + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    width = (high - low) or 1.0
    return lambda value: round(start + (value - low) / width * (end - start), 3)


def _dot_chart(rows: Sequence[Row]) -> Row | None:
    """Difference to the base with its interval, one line a system."""
    if not rows:
        return None
    edges = [edge for row in rows for edge in (*row["interval95"], row["difference"])]
    low, high = min(0.0, *edges), max(0.0, *edges)
    margin = (high - low) * 0.04 or 0.01
    x = _scale(low - margin, high + margin, 1, 99)
    dots = [
        {**row, "low": x(row["interval95"][0]), "high": x(row["interval95"][1]), "x": x(row["difference"])}
        for row in rows
    ]
    return {"rows": dots, "zero": x(0.0), "ticks": [(x(tick), tick) for tick in ticks(low, high)]}


def line_chart(generations: Sequence[Mapping[str, Any]], measure: str, names: Mapping[str, str]) -> Row | None:
    """A measure by generation, one line for dev and one for test, called `names`; if a value is missing, the line
    goes past it."""
    series = {split: _known_points(generations, split, measure) for split in ("dev", "test")}
    values = [value for points in series.values() for _, value in points]
    if not values:
        return None
    margin = (max(values) - min(values)) * 0.15 or 0.01
    x = _scale(0, max(len(generations) - 1, 1), 12, 84)
    y = _scale(min(values) - margin, max(values) + margin, LINE_HEIGHT - 10, 10)
    placed = {split: [(x(at), y(value), value) for at, value in points] for split, points in series.items() if points}
    return {
        "series": placed,
        "names": names,
        "labels": _end_labels({split: points[-1] for split, points in placed.items()}),
        "x_ticks": [(x(at), row.get("generation")) for at, row in enumerate(generations)],
        "y_ticks": [(y(tick), tick) for tick in ticks(min(values) - margin, max(values) + margin)],
        "height": LINE_HEIGHT,
    }


def _known_points(generations: Sequence[Mapping[str, Any]], split: str, measure: str) -> list[tuple[int, float]]:
    values = [row.get(split) for row in generations]
    plain = [value.get(measure) if isinstance(value, Mapping) else value for value in values]
    return [(at, value) for at, value in enumerate(plain) if _is_number(value)]


def _end_labels(ends: Mapping[str, tuple[float, float, float]], apart: float = 17.0) -> list[Row]:
    """Labels beside the ends of the lines, moved apart if they would overlap."""
    labels: list[Row] = [{"split": split, "x": x, "y": y, "value": value} for split, (x, y, value) in ends.items()]
    labels.sort(key=lambda label: label["y"])
    if len(labels) == 2 and labels[0]["x"] == labels[1]["x"]:
        overlap = max(0.0, apart - (labels[1]["y"] - labels[0]["y"])) / 2
        labels[0]["y"], labels[1]["y"] = labels[0]["y"] - overlap, labels[1]["y"] + overlap
    return labels


def _probability(record: Mapping[str, Any] | None, names: Mapping[str, str]) -> Row | None:
    """How true probabilities come: a table by split, the reliability diagram, quality by share of queries answered."""
    if not record or not record.get("figures"):
        return None
    figures = {"dev" if split == "dev" else "test": found for split, found in record["figures"].items()}
    x, y = _scale(0, 1, 12, 96), _scale(0, 1, LINE_HEIGHT - 10, 10)
    most = max(pairs for found in figures.values() for *_, pairs in found["bins"])
    dots = {
        split: [
            (x(p), y(share), round(3 + 7 * math.sqrt(pairs / most), 1), p, share, pairs)
            for p, share, pairs in found["bins"]
        ]
        for split, found in figures.items()
    }
    points = {split: [(1 - share, quality) for share, quality in found["answered"]] for split, found in figures.items()}
    values = [quality for series in points.values() for _, quality in series]
    margin = (max(values) - min(values)) * 0.15 or 0.01
    across, up = _scale(0, 0.9, 12, 84), _scale(min(values) - margin, max(values) + margin, LINE_HEIGHT - 10, 10)
    placed = {split: [(across(at), up(value), value) for at, value in series] for split, series in points.items()}
    return {
        "record": record,
        "figures": {names[split]: found for split, found in figures.items()},
        "names": names,
        "reliability": {"dots": dots, "x_ticks": [(x(tick), tick) for tick in ticks(0, 1)],
                        "y_ticks": [(y(tick), tick) for tick in ticks(0, 1)], "height": LINE_HEIGHT},
        "answered": {"series": placed, "names": names, "height": LINE_HEIGHT,
                     "labels": _end_labels({split: series[-1] for split, series in placed.items()}),
                     "x_ticks": [(across(left_out), f"{1 - left_out:.0%}") for left_out in (0, 0.3, 0.6, 0.9)],
                     "y_ticks": [(up(tick), tick) for tick in ticks(min(values) - margin, max(values) + margin)]},
    }  # fmt: skip


def _histogram(name: str, shape: Mapping[str, Sequence[float]]) -> Row:
    edges, counts = list(shape["edges"]), list(shape["counts"])
    x = _scale(edges[0], edges[-1], 0, 100) if edges else _scale(0, 1, 0, 100)
    highest = max([1, *counts])
    bars = [
        {"x": x(left), "width": round(x(right) - x(left), 3), "height": 90 * count / highest,
         "low": left, "high": right, "count": count}
        for left, right, count in zip(edges, edges[1:], counts, strict=False)
    ]  # fmt: skip
    middle = (edges[0] + edges[-1]) / 2 if edges else 0.0
    marks = [edges[0], middle, edges[-1]] if edges else []
    return {"name": name, "bars": bars, "marks": marks, "total": sum(counts)}


def _mined(counts: Mapping[str, Any]) -> Row:
    removed = [{"label": reason, "count": count} for reason, count in (counts.get("removed") or {}).items()]
    bars = _bars([{"label": "kept", "count": counts.get("kept", 0), "kept": True}, *removed], "count")
    return {**counts, "bars": bars, "examples": counts.get("examples") or []}


def _bars(rows: Sequence[Mapping[str, Any]], key: str) -> list[Row]:
    longest = max((row.get(key) or 0.0 for row in rows), default=0.0) or 1.0
    return [{**row, "share": (row.get(key) or 0.0) / longest} for row in rows]


# ---- how numbers and texts are written ------------------------------------------------------------------------------


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def dev_name(estimate: bool, judge: str | None = None) -> str:
    """What dev is called: its figures are marked if its queries were made from documents, or a model judged them."""
    if judge is not None:
        return f"dev (estimate, judged by {judge})"
    return "dev (estimate)" if estimate else "dev"


def judge_of_dev(report: Mapping[str, Any]) -> str | None:
    """The language model that judged dev; None if none did."""
    judge = report.get("judge")
    return str(judge["model"]) if judge and judge["dev"] else None


def split_name(report: Mapping[str, Any]) -> str:
    """What the report's split is called, marked in the same way."""
    split = report.get("split") or "test"
    if split == "dev":
        return dev_name(bool(report.get("estimate")), judge_of_dev(report))
    return f"{split} (estimate)" if report.get("split_is_synthetic") else split


def number(value: Any, digits: int = 3) -> str:
    """0.645; whole numbers with thin groups; a dash if there is none."""
    if not _is_number(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}".replace("-", "−")


def signed(value: Any, digits: int = 3) -> str:
    """+0.045 or −0.012; zero has no sign."""
    if not _is_number(value):
        return "–"
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if round(value, digits) else text[1:]


def span(bounds: Sequence[float] | None, digits: int = 3) -> str:
    """An interval: +0.021 to +0.069."""
    return f"{signed(bounds[0], digits)} to {signed(bounds[1], digits)}" if bounds else "–"


def p_value(value: Any, sign: bool = False) -> str:
    """0.023, or < 0.001 below that; `sign` writes the equals sign too."""
    if not _is_number(value):
        return "–"
    if value < 0.001:
        return "< 0.001"
    return f"= {value:.3f}" if sign else f"{value:.3f}"


def duration(value: Any) -> str:
    """Seconds, or a dash."""
    return readable_seconds(value) if _is_number(value) else "–"


def size(value: Any) -> str:
    """Bytes, or a dash."""
    return readable_bytes(value) if _is_number(value) else "–"


def excerpts(texts: Any) -> list[str]:
    """One text or several, each cut at `EXCERPT` characters."""
    listed = [texts] if isinstance(texts, str) else list(texts or [])
    flat = [" ".join(str(text).split()) for text in listed]
    return [text if len(text) <= EXCERPT else text[: EXCERPT - 1].rstrip() + "…" for text in flat]
