"""A server's faults: which are tried again, which end the work, what is kept, and what a user is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import pytest

from sdretrieval.chat import Chat, ServedModel
from sdretrieval.chat import parallel as asking
from sdretrieval.chat.ask import plain_answer
from sdretrieval.errors import RequestError, WorkError
from sdretrieval.progress import want_interrupt
from tests.helpers.chat_server import ChatServer, chat_server

PROMPTS = [f"Write a query.\n\nDocument:\nalpha beta{'x' * n} gamma{'y' * n}" for n in range(8)]
WRITTEN = [f"where is the beta{'x' * n} gamma{'y' * n}?" for n in range(8)]
Ask = Callable[..., Chat]


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.001)


@pytest.fixture
def chat_of(tmp_path: Path) -> Ask:
    def make(server: ChatServer, **changed: object) -> Chat:
        settings = {"concurrency": 1, "timeout": 5.0, **changed}
        return Chat(ServedModel(server.url, "m", **settings), "corpus.generate.writer", tmp_path / "answers")  # type: ignore[arg-type]

    return make


def written(chat: Chat, prompts: list[str] = PROMPTS) -> list[str | None]:
    return chat.ask(prompts, lambda text: text or None, "queries")


def test_answers_come_in_the_order_of_the_prompts_several_at_a_time(chat_of: Ask) -> None:
    with chat_server(rest="slow 0.05") as server:
        assert written(chat_of(server, concurrency=4)) == WRITTEN
    assert 2 <= server.most_at_once <= 4 and set(server.paths) == {"/v1/chat/completions"}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429 0.05", "status 429"), ("500", "status 500"), ("503", "status 503"), ("cut", "no JSON"),
        ("torn", "cut off"), ("html", "no JSON"), ("shape", "another shape"), ("says ", "empty"),
        ("says <think>a query about", "of no use"), ("slow 0.6", "too slow"), ("drips 0.005", "too slow"),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again_and_counted(fault: str, kind: str, chat_of: Ask) -> None:
    with chat_server(["", fault]) as server:
        chat = chat_of(server, timeout=0.4)
        assert written(chat, PROMPTS[:3]) == WRITTEN[:3]
    assert len(server.prompts) == 4 and dict(chat.troubles) == {kind: 1}


def test_all_threads_leave_a_server_alone_as_long_as_it_asks(chat_of: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(["429 0.3"]) as server:
        chat = chat_of(server)
        written(chat, PROMPTS[:1])
        assert chat._not_before > 0 and len(server.prompts) == 2
    with chat_server(["429 4000"]) as server, pytest.raises(WorkError, match=r"it asks to wait 1 h 06 min; run again"):
        written(chat_of(server), PROMPTS[1:2])


@pytest.mark.parametrize(
    ("fault", "requests", "message"),
    [
        ("500", 6, r"found status 500, which says: out of order, 6 times in a row; see what the server's own log says"),
        ("429", 6, r"found status 429, which says: slow down, 6 times .*; wait, lower .*\.concurrency \(1\), or raise"),
        ("slow 0.4", 3, r"no whole answer within 0\.1 s, 3 times in a row; raise corpus\.generate\.writer\.timeout"),
        ("404", 1, r"found status 404.*; check corpus\.generate\.writer\.url, which usually ends in /v1"),
        ("401", 1, r"found status 401: it wants a key; name the environment variable that holds it in .*key_variable"),
        ("302 https://elsewhere/v1", 1, r"a redirect to https://elsewhere/v1, which is not followed; name the address"),
    ],
)
def test_a_server_that_cannot_be_used_ends_the_work_with_one_message(
    fault: str, requests: int, message: str, chat_of: Ask
) -> None:
    with chat_server(rest=fault) as server, pytest.raises(WorkError, match=message) as caught:
        written(chat_of(server, timeout=0.1 if "slow" in fault else 5.0), PROMPTS[:1])
    assert str(caught.value).startswith(f"corpus.generate.writer: m at {server.url}: found ")
    assert len(server.prompts) == requests


def test_nobody_listens(tmp_path: Path) -> None:
    with chat_server() as gone:
        pass
    chat = Chat(ServedModel(gone.url, "m"), "evaluate.judge", tmp_path)
    with pytest.raises(
        WorkError, match=r"no connection \(Connection refused\), 6 times in a row; start the server, or"
    ):
        written(chat)


def test_what_was_answered_before_the_end_is_not_asked_for_again(chat_of: Ask) -> None:
    with chat_server(["", "", ""], rest="500") as server:
        with pytest.raises(WorkError, match="3 answers kept: run again, and only the others are asked for"):
            written(chat_of(server))
        server.rest = ""
        before = len(server.prompts)
        chat = chat_of(server)
        assert written(chat) == WRITTEN
        assert sorted(server.prompts[before:]) == sorted(PROMPTS[3:])
        assert (chat.tally["kept"], chat.tally["asked"], chat.tally["prompt_tokens"]) == (3, 5, 500)
        assert written(chat_of(server)) == WRITTEN and len(server.prompts) == before + 5


def test_a_torn_or_damaged_line_is_asked_for_again(
    chat_of: Ask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with chat_server() as server:
        written(chat_of(server), PROMPTS[:4])
        (file,) = (tmp_path / "answers").iterdir()
        lines = file.read_bytes().splitlines(keepends=True)
        lines[1] = lines[1].replace(b"where", b"there")
        file.write_bytes(b"".join(lines)[:-20])  # a kill in the middle of the last
        assert written(chat_of(server), PROMPTS[:4]) == WRITTEN[:4]
        assert len(server.prompts) == 6 and "2 damaged or torn lines are passed over" in caplog.text
        assert written(chat_of(server), PROMPTS[:4]) == WRITTEN[:4] and len(server.prompts) == 6


def test_answers_of_no_use_are_left_out_and_counted_and_too_many_end_the_work(
    chat_of: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with chat_server(["says ", "says ", "says ", "huge"]) as server:
        chat = chat_of(server)
        assert written(chat) == [None, None, *WRITTEN[2:]] and chat.tally["unusable"] == 2
        chat.say_what_it_took("queries")
    assert "2 prompts brought no usable answer from m at" in caplog.text
    assert "(3 x empty, 1 x too large)" in caplog.text
    assert "left out; the last time it found an answer of more than 500.0 kB" in caplog.text
    many = [f"Document:\nalpha beta{'c' * n}" for n in range(40)]
    last = r"\(10 x status 413\), the last: status 413, which says: out of order; try the prompt by hand"
    with chat_server(rest="413") as server, pytest.raises(WorkError, match=rf"10 of 10 answers of no use {last}"):
        written(chat_of(server), many)
    assert len(server.prompts) < 20


@pytest.mark.parametrize("name", ["max_tokens", "temperature"])
def test_a_parameter_that_a_model_refuses_is_left_out(name: str, chat_of: Ask) -> None:
    with chat_server(rest=f"refuses {name}") as server:
        chat = chat_of(server)
        chat.temperature = 0.0
        assert written(chat, PROMPTS[:3]) == WRITTEN[:3]
    assert [name in body for body in server.bodies] == [True, False, False, False] and not chat.troubles


def test_the_key_goes_to_the_server_and_nowhere_else(
    chat_of: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    with chat_server(["401"]) as server:
        with pytest.raises(RequestError, match=r"writer\.key_variable: the environment variable A_KEY is not set; exp"):
            written(chat_of(server, key_variable="A_KEY"))
        monkeypatch.setenv("A_KEY", "sk secret")
        with pytest.raises(RequestError, match=r"A_KEY holds spaces .*it is not shown") as caught:
            written(chat_of(server, key_variable="A_KEY"))
        monkeypatch.setenv("A_KEY", "sk-secret")
        with pytest.raises(WorkError, match=r"status 401: the key was refused; put a valid key into A_KEY") as refused:
            written(chat_of(server, key_variable="A_KEY"), PROMPTS[:1])
        assert written(chat_of(server, key_variable="A_KEY"), PROMPTS[:1]) == WRITTEN[:1]
    assert server.headers[-1]["Authorization"] == "Bearer sk-secret"
    left = "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    assert "secret" not in f"{caught.value}{refused.value}{caplog.text}{left}"


def test_a_server_on_this_machine_gets_no_password_of_netrc_and_no_proxy(
    chat_of: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with chat_server() as server:
        assert written(chat_of(server), PROMPTS[:1]) == WRITTEN[:1]
    assert "Authorization" not in server.headers[0]


def test_an_interrupt_does_not_wait_for_a_slow_server(chat_of: Ask) -> None:
    with chat_server(rest="slow 3") as server:
        Timer(0.2, want_interrupt).start()
        started = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                written(chat_of(server))
        finally:
            want_interrupt(False)
    assert time.monotonic() - started < 2.5


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a query", "a query"),
        ("<think>What would\nthey ask?</think>\n\na query", "a query"),
        ("```json\n[1]\n```", "[1]"),
        ("Here:\n```\na query\n```\nDone.", "a query"),
        ("<think>for ever", ""),
    ],
)
def test_thoughts_and_fences_are_no_part_of_an_answer(text: str, plain: str) -> None:
    assert plain_answer(text) == plain
