"""From a corpus to a config: each case gets its preset, each choice its reason, and a run takes it as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from sdretrieval.cli.init import choose_config, config_for
from sdretrieval.config import load_config, parse_config
from sdretrieval.corpus.language import Language
from sdretrieval.errors import ConfigError, CorpusError, ModelError, RequestError
from sdretrieval.presets import choose as choosing
from sdretrieval.presets.choose import PRESETS, Findings, choose, config_text, presets_for, read_preset, run_name
from tests.cli.conftest import call  # noqa: F401  # a fixture

FOUND = Findings("c", 1000, {}, 0, [100] * 95 + [500] * 5, "estimated tokens", Language({}, "english"), 0.0, False)


def config_of(found: Findings, *wanted: str) -> tuple[dict[str, Any], dict[str, str]]:
    return choose("corpus", found, presets_for(found, wanted), "mine")


def test_every_preset_is_a_whole_config_with_reasons_of_settings_that_it_has() -> None:
    assert {file.name for file in files("sdretrieval.presets").iterdir() if file.name.endswith(".yaml")} == {
        f"{name}.yaml" for name in PRESETS
    }
    for name in PRESETS:
        assert set(read_preset(name)) == {"for", "settings", "reasons"}
        settings, reasons = config_of(FOUND, name)
        parse_config(settings)
        text = config_text(settings, reasons, ["head"])
        assert yaml.safe_load(text) == settings
        for path, reason in reasons.items():
            assert f"# {reason}" in text, (name, path, "a reason of a setting that is not there")


@pytest.mark.parametrize(
    ("changed", "presets"),
    [
        ({}, ["documents"]),
        ({"judged": {"test": 300}}, ["documents"]),
        ({"judged": {"train": 300, "test": 50}}, ["documents", "judgements"]),
        ({"judged": {"train": 60}, "asked": 60}, ["documents", "query_log"]),
        ({"code": 0.5}, ["documents", "code"]),
        ({"language": Language({}, "german")}, ["documents", "languages"]),
        ({"gpu": True}, ["documents", "gpu"]),
    ],
)
def test_what_is_there_decides(changed: dict[str, Any], presets: list[str]) -> None:
    found = replace(FOUND, **changed)
    assert presets_for(found) == presets
    settings, _ = config_of(found)
    parse_config(settings)


def test_reasons_hold_what_was_found() -> None:
    settings, reasons = config_of(FOUND)
    assert settings["student"]["max_tokens"] == 128 and reasons["student.max_tokens"].startswith("95% of documents")
    assert (settings["corpus"]["dev_queries"], settings["corpus"]["generated_queries"]) == (250, 2000)
    longer, reasons = config_of(replace(FOUND, lengths=[400] * 10))
    assert (
        longer["student"]["max_tokens"] == 256
        and "of longer ones the teacher reads the rest" in reasons["student.max_tokens"]
    )
    german, reasons = config_of(replace(FOUND, language=Language({}, "german")))
    assert german["mine"]["language"] == "german" and reasons["mine.language"] == "the texts look German"
    assert german["student"]["model"] == "intfloat/multilingual-e5-small"
    judged, reasons = config_of(replace(FOUND, judged={"train": 300, "dev": 40}))
    assert "300 judged train queries" in reasons["corpus.labels"] and judged["evaluate"]["split"] == "dev"
    with pytest.raises(RequestError, match="--preset nothing: expected documents, query_log, judgements"):
        presets_for(FOUND, ["nothing"])


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("./docs", "docs"),
        ("beir:scifact", "scifact"),
        ("hf:a/b c", "b-c"),
        ("x/t.csv", "t"),
        ("/", "corpus"),
        (".x", "x"),
    ],
)
def test_names_of_runs(source: str, name: str) -> None:
    assert run_name(source) == name


def test_init_prints_what_run_uses(
    tiny_corpus: Path,
    tiny_student: Path,
    tmp_path: Path,
    call: Callable[..., Any],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_corpus, "papers")
    small = ["--set", f"student.model={tiny_student}", "--set", "train.epochs=1", "--set", "pretrain=null",
             "--set", "corpus.dev_queries=20", "--set", "corpus.generated_queries=40"]  # fmt: skip
    shown = call("init", "papers", *small)
    assert shown.code == 0 and yaml.safe_load(shown.out)["name"] == "papers"
    assert "max_tokens: 128  # the model has no more positions" in shown.out
    assert call("init", "papers", *small, "--json").json()["config"] == yaml.safe_load(shown.out)
    done = call("run", "papers", *small, "--until", "0/tokens")
    assert done.code == 0 and "config.yaml: written, with a reason beside each choice" in done.err
    assert Path("runs/papers/config.yaml").read_text() == shown.out
    again = call("run", "papers", "--until", "0/tokens")
    assert again.code == 0 and "is there, and is used as it is" in again.err
    assert Path("runs/papers/config.yaml").read_text() == shown.out, "a run leaves the reasons"
    changed = call("run", "runs/papers/config.yaml", "--set", "train.epochs=2", "--until", "0/tokens")
    assert changed.code == 0 and load_config(Path("runs/papers/config.yaml")).train.epochs == 2
    assert call("run", "runs/papers/config.yaml", "--preset", "code").err.startswith("error: --preset: ")


def test_what_is_no_corpus_is_one_message(tmp_path: Path, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(CorpusError):
            choose_config(str(source))
    with pytest.raises(ConfigError, match="train.epoch"):
        choose_config(str(tiny_corpus), overrides=["train.epoch=1"])
    with pytest.raises(ConfigError, match="--set x: found no dotted key and value"):
        choose_config(str(tiny_corpus), overrides=["x"])

    def absent(name: str, **how: object) -> Path:
        raise ModelError(f"model {name} is not there")

    monkeypatch.setattr(choosing, "locate_model", absent)
    with pytest.raises(ModelError, match="Any sentence-transformers model will do: --set student.model=FOLDER"):
        config_for(str(tiny_corpus), (), (), tmp_path)
    assert not (tmp_path / "tiny").exists(), "nothing is written for a run that cannot begin"
