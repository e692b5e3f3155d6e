"""`report`: a run's HTML page, made again from its numbers."""

from __future__ import annotations

from sdretrieval.cli.options import Json, RunName, Runs
from sdretrieval.cli.output import print_json, say
from sdretrieval.store.run_folder import find_run, read_json, read_report, write_text


def report_command(run: RunName, runs: Runs = None, as_json: Json = False) -> None:
    """Make a run's HTML page again from its numbers, and print its path."""
    from sdretrieval.report.page import render

    folder = find_run(run, runs)
    write_text(folder / "report.html", render(read_report(folder), read_json(folder / "details.json")))
    page = str((folder / "report.html").resolve())
    print_json({"report": page}) if as_json else say(page)
