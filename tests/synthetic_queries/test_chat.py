"""What a language model is asked for, and which part of its answer is the query."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdretrieval.chat import WRITING, Chat, ServedModel
from sdretrieval.synthetic_queries import chat_writer, writing_cost
from sdretrieval.synthetic_queries.chat import DOCUMENT_WORDS, query_in
from tests.helpers.chat_server import ChatServer, chat_server

TEXTS = [f"Document {n} speaks of topic{chr(97 + n)} and of nothing else" for n in range(12)]


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with chat_server() as one:
        yield one


def chat_of(server: ChatServer, folder: Path) -> Chat:
    return Chat(ServedModel(server.url, "m"), "corpus.generate.writer", folder)


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ("how do plugins load?", "how do plugins load?"),
        ('  "How do plugins load?"  ', "How do plugins load?"),
        ("Here is a question:\n\nHow do plugins load?", "How do plugins load?"),
        ("1. How do plugins load?\n2. Who loads them?", "How do plugins load?"),
        ("- **Question:** How do plugins load?", "How do plugins load?"),
        ("Query: plugin loading order", "plugin loading order"),
        ("Keywords: plugin, loading", "plugin, loading"),
        ('{"query": "plugin loading"}', "plugin loading"),
        ('["plugin loading", "who loads"]', "plugin loading"),
        ('{"queries": [{"text": "plugin loading"}]}', "plugin loading"),
        ("プラグインはいつ読み込まれますか？", "プラグインはいつ読み込まれますか？"),
        ("3 body problem", "3 body problem"),
        ('{"query": "plugin lo', None),
        ('{"query": 3}', None),
        ("", None),
        ("?!", None),
        ("word " * 41, None),
    ],
)  # fmt: skip
def test_the_query_in_an_answer(answer: str, query: str | None) -> None:
    assert query_in(answer) == query


def test_kinds_are_mixed_by_their_shares_and_documents_are_cut(server: ChatServer, tmp_path: Path) -> None:
    chance = random.Random(3)
    texts = [" ".join(chance.choices(["alpha", "beta", "gamma", "delta"], k=9)) + f" number{n}" for n in range(60)]
    before = len(server.prompts)
    chat_writer(chat_of(server, tmp_path), 60)([*texts[1:], "start " + "word " * 5000 + "finish"])
    asked = server.prompts[before:]
    kinds = Counter(next(k for k, one in WRITING.items() if p.startswith(one.text[:20])) for p in asked)
    assert kinds["question"] > kinds["claim"] > 0 and kinds["question"] > kinds["keywords"] > 0
    longest = max(asked, key=len)
    assert longest.count("word ") >= DOCUMENT_WORDS - 1 > 0 and "finish" not in longest and "{" not in longest
    assert sum(one.share for one in WRITING.values()) == 1


def test_a_document_that_is_asked_again_is_asked_for_something_else(server: ChatServer, tmp_path: Path) -> None:
    before = len(server.prompts)
    write = chat_writer(chat_of(server, tmp_path), 10)
    first, again = write(TEXTS[:1]), write(TEXTS[:1])
    assert len(server.prompts) == before + 2
    one, two = server.prompts[before:]
    assert one.partition(".")[0] != two.partition(".")[0], "another kind"
    assert f"Ask for something else than these do:\n- {first[0]}\n" in two and "something else" not in one
    assert first and again


def test_no_more_is_asked_than_was_said_beforehand(server: ChatServer, tmp_path: Path) -> None:
    cost = writing_cost(TEXTS, 10, {"written": 1.0, "sentence": 1.0}, "dev")
    assert cost.calls == 5 and 5 * 60 < cost.prompt_tokens < 5 * 200
    before = len(server.prompts)
    write = chat_writer(chat_of(server, tmp_path), cost.calls)
    queries = [*write(TEXTS[:3]), *write(TEXTS[3:])]
    assert len(queries) == 12 and all(queries[:5]) and not any(queries[5:])
    assert len(server.prompts) == before + 5
