"""A model's prompts: the caller's, its files', what its authors publish; and what is said of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.encode.prompts import Prompts, find_prompts
from sdretrieval.errors import ModelError

BGE = "Represent this sentence for searching relevant passages: "


def model(folder: Path, **card: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config_sentence_transformers.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({"prompts": {"query": "q: ", "document": "d: "}}, Prompts("q: ", "d: ")),
        ({"prompts": {"query": "q: ", "passage": "p: "}}, Prompts("q: ", "p: ")),
        ({"prompts": {"query": "q: ", "document": "", "passage": "p: "}}, Prompts("q: ", "p: ")),
        ({"prompts": {"retrieval.query": "q: ", "retrieval.passage": "p: ", "x": "s: "}}, Prompts("q: ", "p: ")),
        ({"prompts": {"s2p_query": "q: ", "s2s_query": "s: "}}, Prompts("q: ", "")),
        ({"prompts": {"web": "w: "}, "default_prompt_name": "web"}, Prompts("w: ", "w: ")),
        ({"prompts": {"query": "q: "}, "default_prompt_name": "query"}, Prompts("q: ", "")),
        ({"prompts": {"query": None, "web": "w: "}}, Prompts("", "")),
        ({"prompts": {}}, Prompts("", "")),
        ({}, Prompts("", "")),
    ],
)  # fmt: skip
def test_prompts_of_a_models_files(card: dict[str, Any], expected: Prompts, tmp_path: Path) -> None:
    assert find_prompts(model(tmp_path / "mine", **card)).prompts == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BAAI/bge-small-en-v1.5", Prompts(BGE, "")),
        ("intfloat/multilingual-e5-base", Prompts("query: ", "passage: ")),
        ("BAAI/bge-large-zh-v1.5", Prompts("为这个句子生成表示以用于检索相关文章：", "")),
        ("sentence-transformers/all-MiniLM-L6-v2", Prompts()),
        ("me/my-bge-small-en-v1.5-tuned", Prompts()),
    ],
)
def test_published_prompts_are_used_where_the_files_say_nothing(name: str, expected: Prompts, tmp_path: Path) -> None:
    bare = model(tmp_path / "bare")
    assert find_prompts(bare, name).prompts == expected
    cached = model(tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / "0123abcd")
    assert find_prompts(cached, str(cached)).prompts == expected
    assert find_prompts(tmp_path / "no card at all", name).prompts == expected


def test_published_prompts_never_replace_what_the_files_say(tmp_path: Path) -> None:
    emptied = find_prompts(model(tmp_path / "emptied", prompts={"query": "", "document": ""}), "BAAI/bge-base-en")
    assert emptied.prompts == Prompts()
    assert f'set student.prompts: {{query: {json.dumps(BGE)}, document: ""}}' in str(emptied.doubt("bge-base-en"))
    own = find_prompts(model(tmp_path / "own", prompts={"query": "find: "}), "BAAI/bge-base-en")
    assert (own.prompts, own.doubt("bge-base-en")) == (Prompts("find: ", ""), None)


def test_the_callers_prompts_come_first_each_for_itself(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", prompts={"query": "q: ", "document": "d: "})
    found = find_prompts(folder, "m", query="")
    assert found.prompts == Prompts("", "d: ")
    assert found.line("m") == "prompts of m: query none, document 'd: ' (in the model's files)"
    assert find_prompts(folder, "BAAI/bge-base-en", query="x: ", document="").prompts == Prompts("x: ", "")


def test_a_broken_card_is_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", prompts=["query: "])
    with pytest.raises(
        ModelError, match="config_sentence_transformers.json cannot be read .*; expected JSON with prompts"
    ):
        find_prompts(folder)
