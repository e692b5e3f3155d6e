"""How BM25 reads a corpus: what of it is in keys, what the log doubts, what `evaluate` takes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.cli.evaluate import evaluate_models
from sdretrieval.indexes import LexicalIndex
from sdretrieval.run.api import plan_config, run_config
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of

GERMAN = (
    "Die Katzen schlafen auf den Dächern, und der Hund ist nicht in der Stadt, aber das ist auch gut für die Ruhe. "
)


def grown(corpus: Path, folder: Path, *texts: str) -> Path:
    """A copy of a collection with more documents."""
    copy = Path(shutil.copytree(corpus, folder))
    with (copy / "corpus.jsonl").open("a", encoding="utf8") as file:
        file.writelines(json.dumps({"_id": f"more{n}", "title": "", "text": t}) + "\n" for n, t in enumerate(texts))
    return copy


def lexical(config: Any, runs: Path) -> tuple[Path, dict[str, Any]]:
    """The run's folder, and the ledger's last line of its BM25 index."""
    run_config(config, runs=runs, until="0/lexical")
    folder = runs / config.name
    return folder, [line for line in ledger_of(folder) if line["stage"] == "0/lexical"][-1]


def test_scripts_without_spaces_are_found_and_a_language_has_a_key_of_its_own(
    make_config: MakeConfig, tiny_corpus: Path, tmp_path: Path
) -> None:
    source = grown(tiny_corpus, tmp_path / "corpus", "北京是中国的首都。")
    folder, made = lexical(make_config(f"corpus.source={source}"), tmp_path)
    assert LexicalIndex.load(artifact(folder, "0/lexical")).search(["首都"], 1).rows_Qk[0, 0] == 120
    plan = {line.address: line for line in plan_config(make_config(f"corpus.source={source}"), runs=tmp_path)}
    assert plan["0/lexical"].cached
    _, german = lexical(make_config(f"corpus.source={source}", "mine.language=german"), tmp_path)
    assert german["identity"]["language"] == "german"
    assert german["key"] != made["key"]


def test_the_log_doubts_a_stemmer_and_auto_takes_the_right_one(
    make_config: MakeConfig, tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(logging.getLogger("sdretrieval"), "propagate", True)
    source = grown(tiny_corpus, tmp_path / "corpus", *[GERMAN * 9] * 400)
    with caplog.at_level(logging.INFO, logger="sdretrieval"):
        folder, _ = lexical(make_config(f"corpus.source={source}"), tmp_path)
    assert any("the texts look German" in line and "mine.language: german" in line for line in caplog.messages)
    assert LexicalIndex.load(artifact(folder, "0/lexical")).vocabulary.stemmer == "english"
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="sdretrieval"):
        folder, _ = lexical(make_config(f"corpus.source={source}", "mine.language=auto"), tmp_path)
    assert not any("look German" in line for line in caplog.messages)
    assert any("BM25 stems as german (mine.language: auto)" in line for line in caplog.messages)
    index = LexicalIndex.load(artifact(folder, "0/lexical"))
    assert index.vocabulary.stemmer == "german"
    assert index.search(["Katze"], 1).rows_Qk[0, 0] == 120
    evaluate_models("bm25", str(source), runs=tmp_path / "other")
    (kept,) = (tmp_path / "other" / "store").glob("artifacts/*/*/lexical.json")
    assert LexicalIndex.load(kept.parent).vocabulary.stemmer == "german"
