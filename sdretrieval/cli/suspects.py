"""`fn-report`: likely false negatives, for a person to judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sdretrieval.cli.options import ConfigOrRun, Json, Runs, Settings
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean

EXCERPT = 90
"""Characters of a text that the table shows."""


def fn_report(
    what: ConfigOrRun,
    tsv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="write the suspects to mark (.tsv, .csv or .jsonl); marks in it stay"),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page of the suspects and the curve")
    ] = None,
    count: Annotated[int, typer.Option("-n", help="how many suspects")] = 50,
    rule: Annotated[
        str | None, typer.Option(help="margin or percent_of_positive (default: the config's, else margin)")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="replaces targets.false_negatives.margin")] = None,
    percent: Annotated[float | None, typer.Option(help="replaces targets.false_negatives.percent")] = None,
    settings: Settings = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Unlabelled candidates that the teacher finds as good as a known positive, and how far a rule may reach."""
    from sdretrieval.run.commands.suspects import check_to_mark, suspects_of, write_to_mark
    from sdretrieval.run.commands.suspects_page import render_suspects
    from sdretrieval.store.run_folder import write_text

    _check_writable({"--tsv": tsv, "--html": html})
    if tsv is not None:
        check_to_mark(tsv)
    with stdout_kept_clean():
        record = suspects_of(
            what, overrides=settings or (), runs=runs, rule=rule, margin=margin, percent=percent, limit=count
        )
    kept = write_to_mark(record, tsv) if tsv is not None else 0
    if html is not None:
        write_text(html, render_suspects(record))
    if as_json:
        print_json(record)
        return
    _print(record)
    if tsv is not None:
        marks = f" ({kept} line{'s' * (kept != 1)} marked before stayed)" if kept else ""
        say(f"to mark: {tsv}{marks}: write relevant or not into its first column, then --set corpus.verdicts={tsv}")
    if html is not None:
        say(f"page: {html}")


def _check_writable(files: dict[str, Path | None]) -> None:
    """Before the work: a path that cannot be written to would lose it."""
    from sdretrieval.errors import RequestError

    for option, path in files.items():
        if path is not None and not path.parent.is_dir():
            raise RequestError(f"{option} {path}: there is no folder {path.parent}; make it first")


def _print(record: dict[str, Any]) -> None:
    from sdretrieval.report.page import number

    rows = [
        [number(one["teacher_score"]), number(one["threshold"]), number(one["student_score"]), _cut(one["query"]),
         _cut(one["document"])]
        for one in record["suspects"]
    ]  # fmt: skip
    if rows:
        print_table(["teacher", "above", "student", "query", "suspect"], rows, right=["teacher", "above", "student"])
    curve, name = record["curve"], "margin" if record["rule"] == "margin" else "percent"
    say(
        "",
        f"{record['found']} of {record['candidates']} unlabelled candidates are suspects ({name} {record['value']:g})",
    )
    if record["lists_without_positive"]:
        say(
            f"{record['lists_without_positive']} of {record['lists']} lists have no known positive: no rule judges them"
        )
    say("", f"removed of {curve['candidates']} unlabelled candidates, caught of {curve['held_out']} hidden positives:")
    cells = [
        [f"{one['value']:g}", number(one["removed"]), number(one["removed_share"]), number(one["caught"]),
         number(one["caught_share"])]
        for one in curve["settings"]
    ]  # fmt: skip
    print_table(
        [name, "removed", "share", "caught", "share "], cells, right=[name, "removed", "share", "caught", "share "]
    )
    say("", curve["advice"])


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= EXCERPT else flat[: EXCERPT - 1].rstrip() + "…"
