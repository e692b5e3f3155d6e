"""The benchmark over a million passages: what it writes, what its tables say, and what counts as a different end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.killed import Kill, differing
from benchmarks.killed import table as kill_table
from benchmarks.million import TOKENS, collection, config_over, table
from sdretrieval.files import write_json
from sdretrieval.store import Ledger, Store


def test_passages_are_distinct_and_fit_into_the_students_window(tiny_student: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = collection(tmp_path / "passages", 400, str(tiny_student))
    records = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    texts = [record["text"] for record in records]
    assert [record["_id"] for record in records] == [f"p{n}" for n in range(400)] and len(set(texts)) == 400
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_student))
    assert max(map(len, tokenizer(texts)["input_ids"])) <= TOKENS
    written = (folder / "corpus.jsonl").stat().st_mtime_ns
    assert collection(folder, 400, str(tiny_student)) == folder, "made once"
    assert (folder / "corpus.jsonl").stat().st_mtime_ns == written


def test_the_config_is_over_these_passages_and_reads_no_label(tmp_path: Path) -> None:
    config = config_over(tmp_path, "other/model", ["train.epochs=2"])
    assert (config.corpus.source, config.student.model, config.train.epochs) == (str(tmp_path), "other/model", 2)
    assert not config.corpus.labels and config.student.max_tokens == TOKENS


@pytest.mark.parametrize(("most", "verdict"), [(3_500_000_000, "met"), (4_100_000_000, "**not met**")])
def test_the_table_has_each_stage_and_the_most_of_all(most: int, verdict: str) -> None:
    stages = [
        {"stage": "0/corpus", "seconds": 61.24, "peak_rss_bytes": 900_000_000, "peak_is_own": True},
        {"stage": "1/encode", "seconds": 1200.0, "peak_rss_bytes": 1_500_000_000, "peak_is_own": False},
    ]
    text = table({"stages": stages, "most_rss_bytes": most})
    assert "| 0/corpus | 61.2 | 0.90 GB |" in text
    assert "| 1/encode | 1,200.0 | 1.50 GB (of the process so far) |" in text
    assert f"| 1,261.2 | {most / 1e9:.2f} GB (target 4: {verdict}) |" in text


def _run(runs: Path, files: dict[str, str], measure: float = 0.5) -> Path:
    store, ledger = Store(runs / "store"), Ledger(runs / "million" / "ledger.jsonl")
    (runs / "million").mkdir(parents=True)
    for stage, content in files.items():
        with store.make(f"key-{stage}", stage, {}) as work:
            (work.folder / "made.txt").write_text(content)
            (work.folder / "card.json").write_text(str(runs))  # as if it held seconds
        ledger.append({"stage": f"0/{stage}", "key": f"key-{stage}", "cached": False})
    write_json(runs / "million" / "report.json", {"measures": {"final": {"nDCG@10": measure}}})
    return runs


def test_another_content_measure_or_stage_is_a_different_end(tmp_path: Path) -> None:
    whole = _run(tmp_path / "a", {"corpus": "texts", "tokens": "ids"})
    assert differing("million", whole, _run(tmp_path / "b", {"corpus": "texts", "tokens": "ids"})) == []
    other = _run(tmp_path / "c", {"corpus": "texts", "tokens": "others", "encode": "vectors"}, 0.4)
    assert differing("million", whole, other) == ["0/encode", "0/tokens: made.txt", "report.json: measures"]


def test_the_table_of_kills_says_what_each_cost() -> None:
    text = kill_table([Kill("1/encode", 3.21, 'chunks.json {"done": 4096}')], [])
    assert '| 1/encode | 3.2 | chunks.json {"done": 4096} |' in text and "every artifact and measure equals" in text
    assert "differs from a run that was left alone: 0/tokens" in kill_table([], ["0/tokens"])
