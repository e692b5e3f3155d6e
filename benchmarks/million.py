"""How much memory a run over a million passages takes, stage by stage; and what a kill costs.

    python -m benchmarks.million [--passages 1000000] [--student MODEL] [--runs DIR] [--out FILE]
    python -m benchmarks.million --kill 10 --passages 20000 [--seed 13]

The first writes distinct passages of at most 64 tokens, cut from what is installed (`benchmarks/passages.py`), as a
BEIR folder of documents alone, runs `configs/million.yaml` over it in this process, and prints seconds and peak
resident memory of each stage, and the most of all. The second runs the same in a process of its own that is killed at
random moments and started again, and says what each kill cost and whether the end differs (`benchmarks/killed.py`).
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

from benchmarks import killed
from benchmarks.passages import cut_files, distinct, exactly
from benchmarks.record import measured_with
from sdretrieval.config import Config, load_config
from sdretrieval.encode.locate import locate_model
from sdretrieval.files import write_json
from sdretrieval.progress import track
from sdretrieval.run.api import run_config
from sdretrieval.store import Ledger
from sdretrieval.store.memory import peak_of_work

CONFIG = Path(__file__).parents[1] / "configs" / "million.yaml"
TOKENS = 64
SPECIALS = 2
"""Tokens around a passage: [CLS] and [SEP]."""
TARGET_BYTES = 4 * 10**9
WORDS_KNOWN = 1 << 18
"""Whose number of word pieces is remembered while passages are cut: a word is seldom new."""


def collection(folder: Path, count: int, student: str) -> Path:
    """`folder` with `corpus.jsonl` of `count` passages; kept where it is there already."""
    path = folder / "corpus.jsonl"
    if path.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    fitting = exactly(count, distinct(_short(cut_files(), student)))
    with path.with_suffix(".new").open("w", encoding="utf8") as file:
        for number, text in enumerate(track(fitting, "write passages", "passages", count)):
            file.write(json.dumps({"_id": f"p{number}", "title": "", "text": text}) + "\n")
    path.with_suffix(".new").replace(path)
    return folder


def _short(texts: Iterable[str], student: str) -> Iterator[str]:
    """Each text's first words, as many as the student's TOKENS reach."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(locate_model(student))).backend_tokenizer

    @lru_cache(WORDS_KNOWN)
    def pieces(word: str) -> int:
        return len(tokenizer.encode(word, add_special_tokens=False))

    for text in texts:
        words = text.split()
        ends = accumulate(map(pieces, words))
        if fitting := words[: sum(1 for _ in takewhile((TOKENS - SPECIALS).__ge__, ends))]:
            yield " ".join(fitting)


def config_over(folder: Path, student: str | None, overrides: Sequence[str] = ()) -> Config:
    """The published config over the passages in `folder`."""
    model = [f"student.model={student}"] if student else []
    return load_config(CONFIG, [f"corpus.source={folder}", *model, *overrides])


def measure(config: Config, runs: Path) -> dict[str, Any]:
    """Run it, or go on with it; seconds and bytes of each stage that was made, and the most that the process held."""
    with peak_of_work() as most:
        result = run_config(config, runs=runs)
    assert result is not None
    made = {
        line["stage"]: line for line in Ledger(result.folder / "ledger.jsonl").read() if not line.get("cached", True)
    }
    names = ("stage", "seconds", "peak_rss_bytes", "peak_is_own")
    stages = [{name: line[name] for name in names} for line in made.values()]
    # What an earlier process made before it was killed counts as well.
    highest = max(most.rss_bytes, *(stage["peak_rss_bytes"] for stage in stages))
    return {"stages": stages, "most_rss_bytes": highest, "measures": result.report["measures"]}


def table(found: dict[str, Any]) -> str:
    """Stages as they were made, then the whole process."""
    lines = ["| stage | seconds | peak memory |", "|---|---|---|"]
    for stage in found["stages"]:
        own = "" if stage["peak_is_own"] else " (of the process so far)"
        lines.append(f"| {stage['stage']} | {stage['seconds']:,.1f} | {stage['peak_rss_bytes'] / 1e9:.2f} GB{own} |")
    seconds = sum(stage["seconds"] for stage in found["stages"])
    met = "met" if found["most_rss_bytes"] < TARGET_BYTES else "**not met**"
    most = f"{found['most_rss_bytes'] / 1e9:.2f} GB (target {TARGET_BYTES / 1e9:g}: {met})"
    return "\n".join([*lines, f"| **all, and between stages** | {seconds:,.1f} | {most} |"])


def main() -> None:
    """The command."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("sdretrieval").setLevel(logging.INFO)
    given = _arguments()
    config = load_config(CONFIG)
    student = given.student or config.student.model
    runs = given.runs or Path("runs") / f"million-{given.passages}"
    folder = collection(runs / "passages", given.passages, student)
    config = config_over(folder.resolve(), given.student, given.set)
    if given.kill:
        print(killed.table(*killed.run_killed(config, runs, given.kill, given.seed)), flush=True)
        return
    found = {"passages": given.passages, **measure(config, runs), **measured_with()}
    print(table(found), flush=True)
    if given.out is not None:
        write_json(given.out, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--student", default=None, help="instead of the config's")
    parser.add_argument("--runs", type=Path, default=None, help="instead of runs/million-PASSAGES")
    parser.add_argument("--out", type=Path, default=None, help="JSON of all figures")
    parser.add_argument("--kill", type=int, default=0, metavar="TIMES", help="kill it so often instead of measuring it")
    parser.add_argument("--seed", type=int, default=13, help="of the moments")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="as of sdretrieval run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
