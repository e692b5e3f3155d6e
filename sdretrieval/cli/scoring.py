"""`score`: pairs to be scored elsewhere, and what a teacher said, to be used elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sdretrieval.cli.options import ConfigOrRun, Json, Runs, Settings
from sdretrieval.cli.output import print_json, say, stdout_kept_clean


def score(
    target: ConfigOrRun,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="write the pairs to score, with texts (.tsv, .tsv.gz, .parquet)"),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="write what the teacher said: query, document, score (the same endings)"),
    ] = None,
    generation: Annotated[int, typer.Option(min=1, help="whose lists")] = 1,
    teacher_row: Annotated[
        bool,
        typer.Option("--teacher-row", help="with --pairs: also what the report's row teacher@student_0 asks about"),
    ] = False,
    settings: Settings = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Score elsewhere: write the pairs that need a score, or the scores that a teacher gave."""
    from sdretrieval.errors import RequestError

    if (pairs is None) == (export is None):
        raise RequestError("score: give one of --pairs FILE (what is to be scored) and --export FILE (what was scored)")
    if teacher_row and export is not None:
        raise RequestError(
            "--teacher-row goes with --pairs: the scores of that row are of dev and test, not for training"
        )
    from sdretrieval.run.commands.scoring import pairs_to_score, scores_said

    with stdout_kept_clean():
        if pairs is not None:
            record = pairs_to_score(
                target, pairs, generation=generation, teacher_row=teacher_row, overrides=settings or (), runs=runs
            )
        else:
            assert export is not None
            record = scores_said(target, export, generation=generation, overrides=settings or (), runs=runs)
    if as_json:
        print_json(record)
    elif pairs is not None:
        _say_pairs(record)
    else:
        _say_scores(record)


def _say_pairs(record: dict[str, Any]) -> None:
    parts = ", ".join(f"{name} {count:,}" for name, count in record["parts"].items())
    say(
        f"{record['file']}: {record['pairs']:,} pairs of {record['queries']:,} queries and {record['documents']:,} "
        f"documents ({parts})",
        "Score them with any model, write query, document, score to a file, and name it in the config:",
        "  teacher: {kind: scores, file: FILE}",
    )


def _say_scores(record: dict[str, Any]) -> None:
    mixed = [f"{weight:g} {name}" for name, weight in record["weights"].items()]
    said = (
        f"the mixture of {' + '.join(mixed)}, calibrated"
        if len(mixed) > 1
        else f"raw, of {next(iter(record['weights']))}"
    )
    say(
        f"{record['file']}: {record['pairs']:,} pairs of {record['queries']:,} queries; score: {said}",
        f"columns: {', '.join(record['columns'])}",
    )
