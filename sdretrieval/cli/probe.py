"""`probe`: what a teacher knows that the student does not."""

from __future__ import annotations

from sdretrieval.cli.options import ConfigFile, Json, Runs, Settings
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean


def probe_command(config: ConfigFile, settings: Settings = None, runs: Runs = None, as_json: Json = False) -> None:
    """How much better the teacher ranks the student's own candidates: is there anything to learn?"""
    from sdretrieval.formatting import quantity
    from sdretrieval.report.page import dev_name, number, p_value, signed, span
    from sdretrieval.run.api import probe_config
    from sdretrieval.stages.probe import with_holm

    with stdout_kept_clean():
        record = probe_config(config, overrides=settings or (), runs=runs)
    record["rows"] = with_holm(record["rows"])
    if as_json:
        print_json(record)
        return
    judged = f", judged by {record['judge']}" if record["judge"] else ""
    mark = f" (estimate, on synthetic queries{judged})" if record["estimate"] else ""
    say(
        f"dev: {quantity(record['n_queries'], 'queries')}{mark}; the student alone: {record['measure']} "
        f"{number(record['student'])}"
    )
    rows = [
        [row["teacher"], number(row["value"]), signed(row["difference"]), span(row["interval95"]),
         p_value(row["p_holm"])]
        for row in record["rows"]
    ]  # fmt: skip
    value = f"{dev_name(record['estimate'], record['judge'])} {record['measure']}"
    columns = ["teacher", value, "headroom", "95 % interval", "p (Holm)"]
    if record["predicted"]:
        columns.append("predicted")
        rows = [[*row, signed(of["predicted"])] for row, of in zip(rows, record["rows"], strict=True)]
    print_table(columns, rows, right=[value, "headroom", "p (Holm)", "predicted"])
    parts = [(w, m["name"]) for w, m in zip(record["weights"], record["members"], strict=True) if w > 0]
    mixture = " + ".join(name if len(parts) == 1 else f"{weight:g} {name}" for weight, name in parts)
    advice = "train" if record["train"] else "skip training, there is nothing to learn"
    if record["predicted"]:
        mark = " (predicted from queries that people asked)" if record["predicted"]["queries"] else " (predicted)"
    if record["predicted"] or not record["train"]:
        advice += f": {record['reason']}"
    what = "best mixture" if record["chosen"] else "the config's mixture" if len(record["members"]) > 1 else "teacher"
    say("", f"{what}: {mixture}", f"advice{mark}: {advice}")
    for doubt in record["doubts"]:
        say(f"this estimate is not to be trusted: {doubt}")
