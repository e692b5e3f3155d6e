"""`run`, `probe`, `gc`: the staged pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.options import ConfigFile, Json, Runs, Settings
from sdretrieval.cli.output import TEST_COLUMNS, paired_cells, print_json, print_table, say, stdout_kept_clean

if TYPE_CHECKING:
    from sdretrieval.run.api import RunResult


def run(
    config: ConfigFile,
    settings: Settings = None,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="stop after this stage, such as 1/mine", show_default=False)
    ] = None,
    runs: Runs = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="make stages up to --until in a store that another process uses as well")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a config to its report; what earlier runs finished is not done again."""
    from sdretrieval.run.api import run_config

    with stdout_kept_clean():
        result = run_config(config, overrides=settings or (), runs=runs, until=until, worker=worker)
    if result is None:
        print_json({"stopped_after": until}) if as_json else say(f"Stopped after {until}, as asked.")
    elif as_json:
        print_json(result.report)
    else:
        _print_result(result)


def _print_result(result: RunResult) -> None:
    report, details = result.report, result.details
    print_results_table(report, details["table"])
    say("", details["headline"], *(f"* {note}" for note in details["notes"]), "")
    say(f"report:  {result.folder / 'report.html'}", f"student: {result.folder / 'student'}")


def print_results_table(report: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Systems by dev and test measures, with the paired test of each against the base student."""
    from sdretrieval.report.page import dev_name, number

    measures = list(rows[0]["test"])
    dev = dev_name(report["estimate"])
    parts = {"test": dev} if report["split"] == "dev" else {"dev": dev, "test": report["split"]}
    values = [f"{shown} {measure}" for shown in parts.values() for measure in measures]
    cells = [
        [row["system"], *(number(row[part].get(m)) for part in parts for m in measures), *paired_cells(row)]
        for row in rows
    ]
    say(f"{report['corpus']}, {parts['test']}: {report['n_queries']} queries")
    say(f"differences of {measures[0]}: the row's system less student_0")
    print_table(["system", *values, *TEST_COLUMNS], cells, right=[*values, "difference", "p (Holm)"])


def probe(config: ConfigFile, settings: Settings = None, runs: Runs = None, as_json: Json = False) -> None:
    """Teacher headroom over the base student on its own candidates: is there anything to learn?"""
    from sdretrieval.run.api import probe_config

    with stdout_kept_clean():
        record = probe_config(config, overrides=settings or (), runs=runs)
    from sdretrieval.stages.probe import with_holm

    record["rows"] = with_holm(record["rows"])
    if as_json:
        print_json(record)
        return
    from sdretrieval.report.page import dev_name, number, p_value, signed, span

    mark = " (estimate: queries made from documents)" if record["estimate"] else ""
    say(f"dev: {record['n_queries']} queries{mark}; the student alone: {record['measure']} {number(record['student'])}")
    rows = [
        [
            row["teacher"],
            number(row["value"]),
            signed(row["difference"]),
            span(row["interval95"]),
            p_value(row["p_holm"]),
        ]
        for row in record["rows"]
    ]
    numbers = [f"{dev_name(record['estimate'])} {record['measure']}", "headroom", "p (Holm)"]
    print_table(["teacher", *numbers[:2], "95 % interval", "p (Holm)"], rows, right=numbers)
    advice = "train" if record["train"] else f"do not train: {record['reason']}"
    say("", f"choice: {_mixture(record)}", f"advice{mark}: {advice}")


def _mixture(record: dict[str, Any]) -> str:
    parts = [(w, m["name"]) for w, m in zip(record["weights"], record["members"], strict=True) if w > 0]
    return " + ".join(name if len(parts) == 1 else f"{weight:g} {name}" for weight, name in parts)


def gc(
    runs: Runs = None,
    pretend: Annotated[bool, typer.Option("--pretend", help="only say what would go")] = False,
    as_json: Json = False,
) -> None:
    """Remove what no run refers to from the store."""
    from sdretrieval.store import Store, keys_in_ledgers, readable_bytes
    from sdretrieval.store.run_folder import runs_folder

    root: Path = runs_folder(runs)
    removed = (
        Store(root / "store").gc(lambda: keys_in_ledgers(root), pretend=pretend) if (root / "store").is_dir() else []
    )
    if as_json:
        print_json({"pretend": pretend, "removed": [one._asdict() for one in removed]})
        return
    if removed:
        print_table(["artifact", "size"], [[one.key, readable_bytes(one.bytes)] for one in removed], right=["size"])
    total = readable_bytes(sum(one.bytes for one in removed))
    say(f"{len(removed)} artifacts {'would be' if pretend else 'were'} removed: {total}")
