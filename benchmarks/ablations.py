"""What each part of the teacher, or of what is minimised, gives, on dev: equal updates, one table.

    python -m benchmarks.ablations configs/stdlib.yaml [--table teachers|objectives] [--rows lexical,all] [--runs DIR]
        [--set KEY=VALUE ...]

Only dev is measured. Every row (`benchmarks/ablation_rows.py`) trains one student from the base (rows `generations-N`:
N of them), measured before the gate, so that a row that fails is seen as what it is. Writes runs/ablations-NAME.json
and prints a Markdown table for docs/ABLATIONS.md; rows of an earlier call with the same settings stay in it.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.ablation_rows import TABLES
from sdretrieval import load_config
from sdretrieval.evaluation import holm, paired_test, verdict
from sdretrieval.run.api import open_run
from sdretrieval.run.loop import loop
from sdretrieval.stages.evaluate import read_measured
from sdretrieval.store.run_folder import runs_folder, write_json
from sdretrieval.store.runner import Artifact, Stopped

PARTS = ("table", "stride", "lexical", "dense")
"""Arguments that rows are made from: rows of other values stand in another table."""


def measure(config_path: str, name: str, overrides: list[str], runs: Path) -> dict[str, dict[str, float]]:
    """Per-query dev values of `base` and of the row's student."""
    config = load_config(config_path, [*overrides, "evaluate.split=dev"])  # no other split is measured
    config = config.model_copy(update={"name": f"ablations-{config.name}"})
    controls = config.evaluate.controls
    # A generation is measured before its gate: what that decides, and its merges, are no part of a row.
    last = f"{controls[0]}/evaluate:dev" if controls else f"{config.generations}/gate"
    with open_run(config, runs=runs, until=last) as run, suppress(Stopped):
        loop(run)
    made = {record["stage"]: record["key"] for record in run.runner.records}

    def values(address: str) -> dict[str, float]:
        artifact = Artifact(made[address], run.store.path_of(made[address]))
        return dict(read_measured(artifact).of(config.gate.measure))

    # A refused generation is not repeated: then the last there is.
    numbers = [int(address.split("/")[0]) for address in made if re.fullmatch(r"[0-9]+/gate", address)]
    row = last if controls else f"{max(numbers) + 1}/evaluate:dev"
    return {
        "base": values("1/evaluate:dev"), "row": values(row), "teacher": values("0/evaluate:teacher:dev"),
    }  # fmt: skip


def table(results: dict[str, dict[str, dict[str, float]]], seed: int) -> list[dict[str, Any]]:
    """One record a row: mean, difference to the base with interval, p and Holm's p."""
    tests = {name: paired_test(values["row"], values["base"], seed) for name, values in results.items()}
    adjusted = holm([test.p for test in tests.values()])
    return [
        {
            "row": name,
            "teacher@student_0": _mean(results[name]["teacher"]),
            "dev": _mean(results[name]["row"]),
            "difference": test.difference,
            "interval95": list(test.interval95),
            "p_holm": p,
            "verdict": verdict(test, p),
        }
        for (name, test), p in zip(tests.items(), adjusted, strict=True)
    ]


def _mean(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values)


def main() -> None:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(run(_arguments()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--table", choices=sorted(TABLES), default="teachers", help="which rows there are")
    parser.add_argument("--rows", default="", help="names, separated by commas; all where empty")
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--stride", type=int, default=112, help="of the full-context windows")
    parser.add_argument("--lexical", type=float, default=0.5, help="BM25's share in the mixtures")
    parser.add_argument(
        "--dense", default="BAAI/bge-small-en-v1.5", help="the bi-encoder that teaches objectives' rows"
    )
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    return parser.parse_args()


def run(asked: argparse.Namespace) -> str:
    """Measure the rows that were asked for; the table of all rows of these settings, as Markdown."""
    rows, runs = TABLES[asked.table](asked), runs_folder(asked.runs)
    names = [name.strip() for name in asked.rows.split(",") if name.strip()] or list(rows)
    if unknown := sorted(set(names) - set(rows)):
        raise SystemExit(f"unknown rows: {', '.join(unknown)}; expected some of: {', '.join(rows)}")
    config = load_config(asked.config, asked.overrides)
    path = runs / f"ablations-{config.name}.json"
    settings = {"config": config.model_dump(mode="json"), **{name: getattr(asked, name) for name in PARTS}}
    results = _earlier(path, settings)
    for name in names:
        results[name] = measure(asked.config, name, [*asked.overrides, *rows[name]], runs)
        write_json(path, {"settings": settings, "rows": results})
    return markdown(results)


def _earlier(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Rows that an earlier call measured under the same settings: others cannot stand in one table with these."""
    record = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    return dict(record["rows"]) if record.get("settings") == settings else {}


def markdown(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """The table."""
    base = next(iter(results.values()))["base"]
    lines = [
        "| row | teacher reranks | student | difference to base | 95 % interval | p (Holm) | verdict |",
        "|---|---|---|---|---|---|---|",
        f"| base student | | {_mean(base):.4f} | | | | |",
    ]
    for row in table(results, seed=13):
        low, high = row["interval95"]
        lines.append(
            f"| {row['row']} | {row['teacher@student_0']:.4f} | {row['dev']:.4f} | {row['difference']:+.4f} | "
            f"{low:+.4f} to {high:+.4f} | {row['p_holm']:.3g} | {row['verdict']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
