"""A whole run of ours against a plain script of sentence-transformers' parts, to the same dev nDCG@10: time and memory.

    python -m benchmarks.end_to_end CONFIG [--set corpus.source=DIR ...] [--rounds 3] [--limit-minutes 120]
        [--at-once] [--threads N] [--runs DIR] [--out FILE]

Ours is `sdretrieval run CONFIG` over an empty store; theirs `benchmarks/peers_scifact.py`, which goes on for more
rounds until it has our dev value, or until rounds or minutes are over. Each is a process of its own, one after the
other, or `--at-once`, with one thread each, so that what else the machine does hits both alike (`--until-dev` says then
when theirs may stop: ours is not known yet). Writes benchmarks/results/end_to_end.json and the tables of
benchmarks/README.md; not where the corpus is cut, which is for trying, nor with `--out`, which takes the JSON.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.children import Child, watch
from benchmarks.inputs import Asked, folder_of
from benchmarks.judge import MEASURE, mean, ndcg_by_query
from benchmarks.ledger_costs import Costs, Reached, costs_of, dev_over_time, first_at
from benchmarks.peers_scifact import read_corpus
from benchmarks.record import Record, Row, update_readme
from benchmarks.sides import Side
from sdretrieval import load_config
from sdretrieval.config import Config
from sdretrieval.encode.student import torch_device
from sdretrieval.errors import SdretrievalError
from sdretrieval.evaluation import paired_test
from sdretrieval.files import read_json, write_json
from sdretrieval.store import Ledger
from sdretrieval.store.run_folder import read_report

HOME = Path(__file__).parent
FASTER, LIGHTER = 3.0, 2.0
"""Targets: as many times as fast to the same dev nDCG@10, and the peers' memory over ours."""


@dataclass
class Ours:
    """A finished run of ours. `seconds` are the command's, start and report included."""

    seconds: float
    peak_bytes: int
    costs: Costs
    values: list[Reached]
    dev: float
    student: Path

    @property
    def student_seconds(self) -> float:
        """Without the controls, and without what else only the report needs."""
        return self.seconds - self.costs.controls - self.costs.report


@dataclass
class Theirs:
    """The finished script. `closing` are the seconds of the measure on the report's split."""

    seconds: float
    peak_bytes: int
    steps: dict[str, float]
    values: list[Reached]
    closing: float
    dev: float
    student: Path

    def seconds_to(self, wanted: float) -> float | None:
        """Until a dev value was reached, with the measure that closes the script; None where it never was."""
        at = first_at(self.values[1:], wanted)  # the first is the base, which nobody trained
        return None if at is None else at + self.closing


def run(asked: argparse.Namespace, folder: Path) -> Record:
    """Both sides, then the record; what they leave stands in `folder`."""
    config = load_config(asked.config, asked.overrides)
    check(config)
    threads = asked.threads or (1 if asked.at_once else None)
    ours = our_child(config, asked, folder, threads)
    theirs = their_child(config, asked, folder, threads)
    print(f"ours: {ours.log}\ntheirs: {theirs.log}", file=sys.stderr, flush=True)
    if asked.at_once:
        watch([ours, theirs])
    else:
        watch([ours])
        until = asked.until_dev or read_report(ours_folder(config, folder))["dev_measures"]["final"][MEASURE]
        theirs.command = [*theirs.command, "--until-dev", repr(until)]
        watch([theirs])
    return report(config, found_ours(config, ours, folder), found_theirs(theirs, folder), threads, asked.at_once)


def check(config: Config) -> None:
    """Raises SystemExit where the script could not learn from the same queries, or nDCG@10 is not measured."""
    corpus = config.corpus
    if not corpus.labels or corpus.generated_queries or corpus.unjudged_queries or corpus.train_queries is not None:
        raise SystemExit(
            f"{config.name}: the peers' script learns from all judged train queries; expected corpus.labels true, no "
            "generated_queries, no unjudged_queries, no train_queries"
        )
    if MEASURE not in (config.gate.measure, *config.evaluate.measures):
        raise SystemExit(f"{config.name}: {MEASURE} is not measured; add it to evaluate.measures")


def ours_folder(config: Config, folder: Path) -> Path:
    """Of the run."""
    return folder / "runs" / config.name


def our_child(config: Config, asked: argparse.Namespace, folder: Path, threads: int | None) -> Child:
    """`sdretrieval run`, as a user types it."""
    settings = [part for one in asked.overrides for part in ("--set", one)]
    command = [sys.executable, "-m", "sdretrieval", "run", asked.config, *settings, "--runs", str(folder / "runs")]
    lines_of = ours_folder(config, folder) / "ledger.jsonl"
    return Child("ours", command, folder / "ours.log", threads, lines_of)


def their_child(config: Config, asked: argparse.Namespace, folder: Path, threads: int | None) -> Child:
    """The script over the same collection, student and split."""
    settings: dict[str, Any] = {
        "max-documents": config.corpus.max_documents,
        "dev-share": config.corpus.dev_share,
        "seed": config.seed,
        "split": config.evaluate.split,
        "student": folder_of(config.student.model),
        "teacher": folder_of(asked.teacher),
        "max-tokens": config.student.max_tokens,
        "device": torch_device(config.student.device),
        "rounds": asked.rounds,
        "limit-minutes": asked.limit_minutes,
        "until-dev": asked.until_dev if asked.at_once else None,
        "folder": folder / "theirs",
        "out": folder / "theirs.json",
    }
    given = [part for name, value in settings.items() if value is not None for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.peers_scifact", config.corpus.source, *given]
    return Child("theirs", [*command, *shlex.split(asked.peers)], folder / "theirs.log", threads)


def found_ours(config: Config, child: Child, folder: Path) -> Ours:
    """From the run's folder and what was seen from outside."""
    run_folder = ours_folder(config, folder)
    told, ledger = read_report(run_folder), Ledger(run_folder / "ledger.jsonl").read()
    return Ours(
        seconds=child.seconds,
        peak_bytes=max(child.peak_bytes, told["peak_rss_bytes"]),
        costs=costs_of(ledger, config.evaluate.split),
        values=dev_over_time(ledger, child.stamps, MEASURE),
        dev=told["dev_measures"]["final"][MEASURE],
        student=run_folder / "student",
    )


def found_theirs(child: Child, folder: Path) -> Theirs:
    """From what the script wrote; the interpreter's start is added to its own times."""
    told = read_json(folder / "theirs.json")
    start = max(0.0, child.seconds - told["total_seconds"])
    return Theirs(
        seconds=child.seconds,
        peak_bytes=max(child.peak_bytes, told["peak_rss_bytes"]),
        steps=told["seconds"],
        values=[Reached(one["at"] + start, one["dev"]) for one in told["rounds"]],
        closing=told["test_seconds"],
        dev=told["dev"],
        student=folder / "theirs" / "student",
    )


def report(config: Config, ours: Ours, theirs: Theirs, threads: int | None, at_once: bool) -> Record:
    """Rows of time and memory, and both students before one judge."""
    agreement, judged = judged_alike(config, ours, theirs)
    rows = [*time_rows(ours, theirs, agreement), *both_reached(ours, theirs)]
    rows.append(
        Row("memory, theirs over ours", [theirs.peak_bytes / ours.peak_bytes], LIGHTER, memory_of(ours, theirs))
    )
    sides = {
        "ours": Side("ours", [ours.seconds], ours.peak_bytes),
        "ours, to the student alone": Side("ours", [ours.student_seconds], ours.peak_bytes),
        "theirs": Side("theirs", [theirs.seconds], theirs.peak_bytes),
    }
    details = {
        "costs": ours.costs._asdict(), "steps": theirs.steps, "judged": judged, "threads": threads, "at_once": at_once,
        "dev_over_time": {"ours": ours.values, "theirs": theirs.values},
    }  # fmt: skip
    title = f"`{config.name}` from corpus to student; rounds of the peers' script: {len(theirs.values) - 1}"
    return Record("end_to_end", title, rows, notes_of(ours, theirs, threads, at_once), sides, details)


def time_rows(ours: Ours, theirs: Theirs, agreement: str) -> list[Row]:
    """Theirs over ours, without and with controls and report. No target where ours ends as the base: nothing won."""
    reached, target = theirs.seconds_to(ours.dev), FASTER
    goal = f"to dev {MEASURE} {ours.dev:.4f}"
    if ours.dev <= ours.values[0].dev:
        goal, reached, target = (
            f"whole: ours accepted nothing better than the base ({ours.dev:.4f})",
            theirs.seconds,
            None,
        )
    elif reached is None:
        goal += f" (theirs never reached it; its best is {theirs.dev:.4f})"
    spent = theirs.seconds if reached is None else reached
    parts = (("ours without controls and report", ours.student_seconds), ("ours whole", ours.seconds))
    return [
        Row(f"{goal}, {what}", [spent / own], target, memory_of(ours, theirs), agreement, at_least=reached is None)
        for what, own in parts
    ]


def memory_of(ours: Ours, theirs: Theirs) -> str:
    """As a table's cell."""
    return f"{ours.peak_bytes / 1e9:.2f} against {theirs.peak_bytes / 1e9:.2f} GB"


def both_reached(ours: Ours, theirs: Theirs) -> list[Row]:
    """The better of what both reached, where that is more than they began with."""
    shared = min(max(value.dev for value in side.values) for side in (ours, theirs))
    own, other = first_at(ours.values, shared), first_at(theirs.values, shared)
    if own is None or other is None or shared <= max(ours.values[0].dev, theirs.values[0].dev):
        return []
    return [Row(f"to dev {MEASURE} {shared:.4f}, first seen after {own:.0f} and {other:.0f} s", [other / own], FASTER)]


def judged_alike(config: Config, ours: Ours, theirs: Theirs) -> tuple[str, dict[str, Any]]:
    """Both students on the report's split, by one judge, which is no part of any side's time."""
    asked, split = config.corpus, config.evaluate.split
    corpus = read_corpus(asked.source, asked.max_documents, config.seed, asked.dev_share)
    one, other = (ndcg_by_query(str(side.student), corpus, split, config.student.max_tokens) for side in (ours, theirs))
    test = paired_test(one, other, config.seed)
    low, high = test.interval95
    text = f"{split} {MEASURE} {mean(one):.4f} against {mean(other):.4f}, {low:+.3f} to {high:+.3f}"
    judged = {"split": split, "ours": mean(one), "theirs": mean(other), "interval95": [low, high], "p": test.p}
    return text, judged


def notes_of(ours: Ours, theirs: Theirs, threads: int | None, at_once: bool) -> list[str]:
    """Where the time went, and how dev grew."""
    grown = {
        name: ", ".join(f"{value.dev:.4f} ({value.at:.0f} s)" for value in side.values)
        for name, side in (("ours", ours), ("theirs", theirs))
    }
    costs = ours.costs
    rest = ours.seconds - sum(costs)
    count = "as many threads as the libraries take" if threads is None else f"{threads} thread{'s' * (threads != 1)}"
    how = f"{'both at once' if at_once else 'one after the other'}, {count}"
    return [
        f"Ours {ours.seconds:.0f} s ({how}): the student {costs.student:.0f}, controls {costs.controls:.0f}, what else "
        f"the report measures {costs.report:.0f}, start and writing {rest:.0f}. Without controls and report "
        f"{ours.student_seconds:.0f} s (added up, not run by itself).",
        f"Theirs {theirs.seconds:.0f} s: {', '.join(f'{name} {taken:.0f}' for name, taken in theirs.steps.items())}.",
        f"Dev {MEASURE} as each side measured it, when it was first known: ours {grown['ours']} (trained and merged "
        f"students; accepted {ours.dev:.4f}); theirs {grown['theirs']}. Test: float32, one judge, the 95 % interval of "
        "the paired difference.",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    asked = _arguments(arguments)
    with ExitStack() as stack:
        folder = asked.runs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sdretrieval-end-to-end-")))
        if (folder / "runs").exists():
            raise SystemExit(
                f"{folder} holds an earlier comparison, whose store would be used; remove it or name another"
            )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            record = run(asked, folder)
        except (SdretrievalError, RuntimeError) as error:
            raise SystemExit(str(error)) from error
    print(record.markdown(), flush=True)
    if asked.out is not None:
        write_json(asked.out, record.found())
    elif load_config(asked.config, asked.overrides).corpus.max_documents is None:
        record.write(HOME / "results")
        update_readme(HOME / "README.md", HOME / "results")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--teacher", default=Asked.reranker, help="the cross-encoder of the peers' script")
    parser.add_argument("--rounds", type=int, default=3, help="of the peers' script, at most")
    parser.add_argument("--limit-minutes", type=float, default=120.0, help="the peers' script begins no round after")
    parser.add_argument("--until-dev", type=float, default=None, help="instead of our own dev value")
    parser.add_argument("--peers", default="", help='more arguments of the peers\' script: "--epochs 2"')
    parser.add_argument("--at-once", action="store_true", help="both at the same time, one thread each")
    parser.add_argument("--threads", type=int, default=None, help="of each side")
    parser.add_argument("--runs", type=Path, default=None, help="an empty folder to keep both sides' work in")
    parser.add_argument("--out", type=Path, default=None, help="the JSON, instead of benchmarks/results and the README")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
