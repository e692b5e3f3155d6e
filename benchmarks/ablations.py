"""What each part of the teacher, or of what is minimised, gives: equal updates, one table.

    python -m benchmarks.ablations configs/stdlib.yaml [--table teachers|objectives|asymmetries|generations|queries]
        [--rows "lexical; all"] [--split dev] [--most N] [--against ROW] [--runs DIR] [--set KEY=VALUE ...]
    make ablations DATA=FOLDER          # asymmetries on three of the collections in FOLDER, on test

Every row (`benchmarks/ablation_rows.py`) trains one student from the base (rows `generations-N`: N of them), measured
before the gate, so that a row that fails is seen as what it is. Writes runs/ablations-NAME.json and prints a Markdown
table for docs/ABLATIONS.md; rows of an earlier call with the same settings stay in it, and are not measured again.

What is chosen by a table must be measured on dev. `--split test` is for collections without judged dev queries: then
the table compares methods, and nothing may be chosen by it. `--most` keeps of the collection its documents and so many
of the split's queries, no other judgements: a quick table. `--against` compares the rows with one of them, not with the
base.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.ablation_rows import TABLES
from benchmarks.mixing import SEED
from sdretrieval import load_config
from sdretrieval.corpus.text import hash_rank
from sdretrieval.evaluation import holm, paired_test, verdict
from sdretrieval.files import write_json
from sdretrieval.run.api import open_run
from sdretrieval.run.loop import begins_at, loop
from sdretrieval.stages.evaluate import read_measured
from sdretrieval.stages.gate import ACCEPTED
from sdretrieval.store.run_folder import runs_folder
from sdretrieval.store.runner import Artifact, Stopped

PARTS = ("table", "split", "most", "stride", "lexical", "dense")
"""Arguments that rows are made from or measured by: rows of other values stand in another table."""


SHARED = re.compile(r"0/(?!encode:teacher)|student_0/|1/(encode(?!:teacher)|index|mine$|evaluate)")
"""Stages whose work all rows of a corpus have in common, and the measuring of what is not trained."""


def measure(config_path: str, overrides: list[str], runs: Path, split: str) -> dict[str, Any]:
    """Values by query of the base, of the teacher reranking its top and of the row's student, and the row's seconds:
    of its teacher's vectors, its scores, targets and trainings, whenever they were made."""
    config = load_config(config_path, [*overrides, f"evaluate.split={split}"])  # no other split than it and dev
    config = config.model_copy(update={"name": f"ablations-{config.name}"})
    controls = config.evaluate.controls
    # A generation is measured before its gate: what that decides, and its merges, are no part of a row.
    last = f"{controls[0]}/evaluate:{split}" if controls else f"{config.generations + 1}/evaluate:{split}"
    accepts = patch("sdretrieval.run.loop.judge", lambda *_, **__: ACCEPTED)  # every generation is to be seen
    with open_run(config, runs=runs, until=last) as run, suppress(Stopped), accepts:
        loop(run)
    made = {record["stage"]: record["key"] for record in run.runner.records}

    def values(address: str) -> dict[str, float]:
        artifact = Artifact(made[address], run.store.path_of(made[address]))
        return dict(read_measured(artifact).of(config.gate.measure))

    own = {record["key"]: record["seconds"] for record in run.runner.records if not SHARED.match(record["stage"])}
    return {
        "base": values(f"{begins_at(config)}/evaluate:{split}"), "row": values(last),
        "teacher": values(f"0/evaluate:teacher:{split}"), "seconds": sum(own.values()),
    }  # fmt: skip


def table(results: dict[str, dict[str, Any]], seed: int, against: str | None = None) -> list[dict[str, Any]]:
    """One record a row: means, difference to the base, or to the row `against`, with interval, p and p by Holm,
    seconds."""
    tests = {
        name: paired_test(values["row"], results[against]["row"] if against else values["base"], seed)
        for name, values in results.items()
        if name != against
    }
    adjusted = holm([test.p for test in tests.values()])
    return [
        {
            "row": name,
            "base": _mean(results[name]["base"]),
            "teacher@student_0": _mean(results[name]["teacher"]),
            "student": _mean(results[name]["row"]),
            "difference": test.difference,
            "interval95": list(test.interval95),
            "p": test.p,
            "p_holm": p,
            "verdict": verdict(test, p),
            "seconds": results[name]["seconds"],
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
    parser.add_argument("--rows", default="", help="names, separated by semicolons; all where empty")
    parser.add_argument("--split", default="dev", help="which judged queries measure; see above")
    parser.add_argument("--most", type=int, help="judged queries that measure; all where it is not given")
    parser.add_argument("--against", help="a row to compare with, in place of the base")
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
    names = [name.strip() for name in asked.rows.split(";") if name.strip()] or list(rows)
    if unknown := sorted({*names, asked.against or names[0]} - set(rows)):
        raise SystemExit(f"unknown rows: {', '.join(unknown)}; expected some of: {', '.join(rows)}")
    config = load_config(asked.config, asked.overrides)
    if asked.most:
        part = fewer(Path(config.corpus.source), asked.split, asked.most, runs / "collections" / config.name)
        asked.overrides = [*asked.overrides, f"corpus.source={part}"]
    path = runs / f"ablations-{config.name}.json"
    settings = {"config": config.model_dump(mode="json"), **{name: getattr(asked, name) for name in PARTS}}
    results = _earlier(path, settings)
    for name in names:
        if results.get(name, {}).get("overrides") != rows[name]:
            measured = measure(asked.config, [*asked.overrides, *rows[name]], runs, asked.split)
            results[name] = {**measured, "overrides": rows[name]}
            write_json(path, {"settings": settings, "rows": results})
    return markdown({name: results[name] for name in rows if name in results}, asked.against)


def fewer(source: Path, split: str, most: int, folder: Path) -> Path:
    """A collection in BEIR's layout in `folder`: the documents of `source`, and `most` judged queries of its split."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to((source / name).resolve())
    head, *lines = (source / "qrels" / f"{split}.tsv").read_text(encoding="utf8").splitlines()
    queries = sorted({line.split("\t")[0] for line in lines}, key=lambda query: hash_rank(SEED, query))[:most]
    kept = [line for line in lines if line.split("\t")[0] in set(queries)]
    (folder / "qrels" / f"{split}.tsv").write_text("\n".join([head, *kept]) + "\n", encoding="utf8")
    return folder


def _earlier(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Rows that an earlier call measured under the same settings: others cannot stand in one table with these."""
    record = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    return dict(record["rows"]) if record.get("settings") == settings else {}


def markdown(results: dict[str, dict[str, Any]], against: str | None = None) -> str:
    """The table."""
    lines = [
        "| row | base | teacher reranks | student | difference | 95 % interval | p | p (Holm) | verdict | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table(results, SEED, against):
        low, high = row["interval95"]
        lines.append(
            f"| {row['row']} | {row['base']:.4f} | {row['teacher@student_0']:.4f} | {row['student']:.4f} | "
            f"{row['difference']:+.4f} | {low:+.4f} to {high:+.4f} | {row['p']:.3g} | {row['p_holm']:.3g} | "
            f"{row['verdict']} | {row['seconds']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
