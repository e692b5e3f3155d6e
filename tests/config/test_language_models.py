"""Sections that name a language model: bad values are refused, and a key that was typed into one is never repeated."""

from __future__ import annotations

from typing import Any

import pytest

from sdretrieval.chat import ServedModel
from sdretrieval.config import parse_config, warnings
from tests.helpers.runs.configs import minimal, problems

URL = "an http or https address such as http://localhost:11434/v1, without user, password or ?"
HIDDEN = "what is not shown here, as it may hold a key"
VARIABLE = "expected the name of an environment variable such as OPENAI_API_KEY, never the key itself; or null"


def judged(**section: Any) -> dict[str, Any]:
    return minimal(evaluate={"judge": {"url": "http://localhost/v1", "model": "m", **section}})


def writer(**section: Any) -> dict[str, Any]:
    generate = {"written": 1, "writer": {"url": "http://localhost/v1", "model": "m", **section}}
    return minimal(corpus={"source": "x", "generated_queries": 9, "generate": generate})


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("ftp://host/v1", '"ftp://host/v1"'), ("localhost:11434/v1", '"localhost:11434/v1"'), ("", '""'),
        ("http://", '"http://"'), ("http://host:0/v1", '"http://host:0/v1"'), (7, "7"),
        ("http://host:port/v1", '"http://host:port/v1"'), ("file:///etc/passwd", '"file:///etc/passwd"'),
        ("http://host/v1?key=3", '"http://host/v1?key=3"'), ("http://ho st/v1", '"http://ho st/v1"'),
        ("https://me:sk-secret@host/v1", HIDDEN),
    ],
)  # fmt: skip
def test_an_address_that_is_none(url: object, found: str) -> None:
    assert problems(judged(url=url)) == [f"evaluate.judge.url: found {found}; expected {URL}"]
    assert problems(writer(url=url)) == [f"corpus.generate.writer.url: found {found}; expected {URL}; or null"]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"model": ""}, 'model: found ""; expected text (not empty)'),
        ({"concurrency": 0}, "concurrency: found 0; expected a whole number (at least 1, at most 256)"),
        ({"concurrency": 1000}, "concurrency: found 1000; expected a whole number (at least 1, at most 256)"),
        ({"timeout": 0}, "timeout: found 0; expected a number (at least 1, at most 3600)"),
        ({"timeout": "long"}, 'timeout: found "long"; expected a number (at least 1, at most 3600)'),
        ({"key_variable": "sk-secret"}, f"key_variable: found {HIDDEN}; {VARIABLE}"),
        ({"key_variable": ""}, f"key_variable: found {HIDDEN}; {VARIABLE}"),
        (
            {"api_key": "sk-secret"},
            f"api_key: unknown key (found {HIDDEN}); {VARIABLE.replace('expected', 'expected key_variable:')}",
        ),
        (
            {"headers": {"Authorization": "sk-secret"}},
            f"headers: unknown key (found {HIDDEN}); expected one of url, model, key_variable, concurrency, timeout",
        ),
    ],
)
def test_each_bad_value_has_its_message(setting: dict[str, Any], line: str) -> None:
    assert problems(judged(**setting)) == [f"evaluate.judge.{line}"]


def test_a_section_is_no_text_and_wants_an_address() -> None:
    keys = "url, model, key_variable, concurrency, timeout"
    assert problems(minimal(evaluate={"judge": "sk-secret"})) == [
        f"evaluate.judge: found {HIDDEN}; expected null or a section with the keys {keys}"
    ]
    assert problems(minimal(evaluate={"judge": {"model": "m"}})) == [f"evaluate.judge.url: missing; expected {URL}"]


def test_the_whole_address_of_a_request_is_taken_for_its_server() -> None:
    config = parse_config(judged(url="https://api.example.com/v1/chat/completions"))
    assert config.evaluate.judge is not None and config.evaluate.judge.url == "https://api.example.com/v1"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            judged(url="http://far.example/v1", key_variable="A_KEY"),
            "evaluate.judge.url: http://far.example/v1 is not encrypted: the key and all texts can be read on their "
            "way; use https",
        ),
        (
            {**writer(), "evaluate": judged()["evaluate"]},
            "evaluate.judge.model: m judges queries that it wrote itself; a model is kind to its own words: name "
            "another one",
        ),
    ],
)
def test_what_is_doubtful_is_said(data: dict[str, Any], line: str) -> None:
    assert line in warnings(parse_config(data))


def reranker(**section: Any) -> dict[str, Any]:
    return minimal(teacher={"kind": "reranker_api", "url": "http://localhost/v1", "model": "m", **section})


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"url": None}, f"url: found null; expected {URL}"),
        ({"url": "https://me:sk-secret@host/v1"}, f"url: found {HIDDEN}; expected {URL}"),
        ({"model": ""}, 'model: found ""; expected text (not empty)'),
        (
            {"documents_per_request": 0},
            "documents_per_request: found 0; expected a whole number (at least 1, at most 1000)",
        ),
        ({"key_variable": "sk-secret"}, f"key_variable: found {HIDDEN}; {VARIABLE}"),
        (
            {"token": "sk-secret"},
            f"token: unknown key (found {HIDDEN}); {VARIABLE.replace('expected', 'expected key_variable:')}",
        ),
        ({"weight": -1}, "weight: found -1; expected a number from 0 to 1000, or auto"),
    ],
)
def test_each_bad_value_of_a_reranker_has_its_message(setting: dict[str, Any], line: str) -> None:
    assert problems(reranker(**setting)) == [f"teacher.{line}"]


def test_a_rerankers_address_and_what_is_doubtful_of_it() -> None:
    config = parse_config(reranker(url="http://far.example/v2/rerank/", key_variable="A_KEY"))
    assert getattr(config.teacher, "url", None) == "http://far.example/v2"
    assert any(line.startswith("teacher.url: http://far.example/v2 is not encrypted") for line in warnings(config))
    batch = {**reranker(), "train": {"scope": "batch"}}
    (line,) = problems(batch)
    assert line.startswith(
        'train.scope: found "batch", but teacher is a reranker_api, which scores only the pairs of the lists'
    )


@pytest.mark.parametrize("url", ["http://localhost:1/v1", "http://127.0.0.1/v1", "http://[::1]:8/v1"])
def test_on_this_machine_a_key_needs_no_encryption(url: str) -> None:
    assert not any("encrypted" in line for line in warnings(parse_config(judged(url=url, key_variable="A_KEY"))))
    assert ServedModel(url, "m").is_local and not ServedModel("https://localhost.example.com/v1", "m").is_local
