"""Configs of runs that end within seconds, a collection that BM25 cannot search, and what a run left behind."""

from __future__ import annotations

import json
import random
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.encode.encoder import Embeddings
from sdretrieval.config import Config
from sdretrieval.files import read_json
from sdretrieval.run.api import RunResult, run_config
from sdretrieval.store import Store
from sdretrieval.store.runner import Planned
from sdretrieval.store.run_folder import write_report

MakeConfig = Callable[..., Config]
EMA, LEXICAL = {"kind": "ema", "view": {"windows": "all"}, "weight": 0.3}, {"kind": "lexical", "weight": 0.7}
COSTS = ("seconds", "seconds_this_time", "peak_rss_bytes", "generation_costs", "forecast")


def settings(corpus: Path, student: Path) -> dict[str, Any]:
    """One generation that is accepted: learning from BM25 and the whole documents helps the random student."""
    return {
        "name": "tiny",
        "corpus": {"source": str(corpus)},
        "student": {"model": str(student), "max_tokens": 64, "device": "cpu"},
        "index": {"device": "cpu"},
        "mine": {"depth": 30, "keep": 8},
        "teacher": {"kind": "ensemble", "members": [EMA, LEXICAL]},
        "probe": {"guard": False},  # tests train whatever teacher they name
        "targets": {"calibrate": "zscore"},  # a random student's own scores are nothing to keep
        "train": {
            "candidates_per_query": 6,
            "queries_per_batch": 8,
            "learning_rate": 3e-3,
            "epochs": 4,
            "freeze": [],
            "precision": "float32",
        },
    }


def write_letters(folder: Path) -> Path:
    """A BEIR folder whose texts are single letters: BM25, which reads words, finds nothing, and every query is a copy
    of its document, which any student finds first. 58 documents; 20 train, 20 dev, 12 test queries."""
    chance = random.Random(5)
    texts = [" ".join(chance.choices(string.ascii_lowercase, k=24)) for _ in range(57)]
    documents = [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate([*texts, "here are two words"])]
    queries = [{"_id": f"q{n}", "text": text} for n, text in enumerate(texts)]
    (folder / "qrels").mkdir(parents=True)
    for name, records in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for split, rows in (("train", range(20)), ("dev", range(20, 40)), ("test", range(40, 52))):
        lines = [f"q{n}\td{n}\t1" for n in rows]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return folder


def copy_without(corpus: Path, folder: Path, *splits: str) -> Path:
    """A copy of a collection without the judgements of some splits."""
    copied = Path(shutil.copytree(corpus, folder))
    for split in splits:
        (copied / "qrels" / f"{split}.tsv").unlink()
    return copied


def run(config: Config, runs: Path, **how: Any) -> RunResult:
    """A whole run."""
    result = run_config(config, runs=runs, **how)
    assert result is not None
    return result


def to_run(plan: list[Planned]) -> dict[str, str]:
    """Why, by address, of the stages that a plan would run."""
    return {line.address: line.why for line in plan if not line.cached}


def ledger_of(folder: Path) -> list[dict[str, Any]]:
    """The run's ledger, line by line."""
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text(encoding="utf8").splitlines()]


def made_in(folder: Path, after: int = 0) -> list[str]:
    """Addresses of the stages that were made, not found; `after` leaves out the ledger's first lines."""
    return [record["stage"] for record in ledger_of(folder)[after:] if not record["cached"]]


def keys_of(folder: Path) -> dict[str, str]:
    """Key by stage address, the last one of each."""
    return {record["stage"]: record["key"] for record in ledger_of(folder)}


def artifact(folder: Path, address: str) -> Path:
    """Folder in the store of what a run's stage made."""
    return Store(folder.parent / "store").path_of(keys_of(folder)[address])


def sealed_again(folder: Path) -> None:
    """A finished run in which a test changed something, as if it had been written so."""
    write_report(folder, read_json(folder / "report.json"))


def vectors_ND(folder: Path, address: str) -> NDArray[np.float32]:
    """Documents' vectors of an encode stage."""
    return np.array(Embeddings.load(artifact(folder, address) / "documents").vectors_WD)


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what differs from one run of the same config to the next: seconds and memory."""
    kept = {name: value for name, value in report.items() if name not in COSTS}
    kept["generations"] = [{n: v for n, v in one.items() if n != "seconds"} for one in report["generations"]]
    return kept


def dense(model: Path, **changed: Any) -> dict[str, Any]:
    """A bi-encoder as a teacher."""
    return {"kind": "dense", "model": str(model), "query_tokens": 32, **changed}


def ensemble(*members: dict[str, Any]) -> dict[str, Any]:
    """A mixture of teachers."""
    return {"kind": "ensemble", "members": list(members)}
