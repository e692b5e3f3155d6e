"""A reranker behind a server: what is asked, what is tried again, what is kept, and what a user is told."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdretrieval.chat import ServedModel, parallel
from sdretrieval.chat.rerank import Reranker
from sdretrieval.errors import RequestError, WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.teachers.pairs import PairCache
from sdretrieval.teachers.protocols import FreeTeacher, Teacher
from sdretrieval.teachers.reranker_api import RerankerApiTeacher
from tests.helpers.rerank_server import RerankServer, rerank_server, score_of

QUERIES = ["where is the mast?", "oven dough", "the storm in bergen"]
DOCUMENTS = [f"the mast and the dough{'x' * n} near bergen" for n in range(10)]
LISTS = Ragged.of([[0, 1, 2, 3, 4], [3, 5], [9, 8, 7]], np.int64)
Make = Callable[..., RerankerApiTeacher]


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "FIRST_WAIT", 0.001)


@pytest.fixture
def teacher_of(tmp_path: Path) -> Make:
    def make(server: RerankServer, most: int = 32, name: str = "m", **changed: object) -> RerankerApiTeacher:
        model = ServedModel(server.url, "m", **{"concurrency": 1, "timeout": 5.0, **changed})  # type: ignore[arg-type]
        return RerankerApiTeacher(
            Reranker(model, "teacher", most),
            name=name,
            query_text=QUERIES.__getitem__,
            document_text=DOCUMENTS.__getitem__,
            cache=PairCache(tmp_path / name),
        )

    return make


def scores(teacher: RerankerApiTeacher) -> list[list[float]]:
    return [one.tolist() for one in teacher.score(np.arange(3), LISTS)]


RIGHT = [
    [np.float32(score_of(QUERIES[q], DOCUMENTS[d])) for d in documents] for q, documents in enumerate(LISTS)
]  # by position, though the server sorts its answers


@pytest.mark.parametrize("shape", ["documents", "texts"])
def test_each_document_gets_its_own_score_whatever_the_servers_shape_and_order(shape: str, teacher_of: Make) -> None:
    with rerank_server(shape) as server:
        teacher = teacher_of(server, concurrency=3)
        assert scores(teacher) == RIGHT
        assert set(server.paths) == {"/v1/rerank"} and all(body["raw_scores"] is True for body in server.bodies)
        assert teacher.newly_scored == 10 and teacher.requests == 3
    assert isinstance(teacher, Teacher) and not isinstance(teacher, FreeTeacher)


def test_long_lists_are_parted_and_equal_pairs_asked_for_once(teacher_of: Make) -> None:
    with rerank_server() as server:
        teacher = teacher_of(server, 2)
        assert scores(teacher) == RIGHT
        assert sorted(len(body["documents"]) for body in server.bodies) == [1, 1, 2, 2, 2, 2]
        assert all(body["top_n"] == len(body["documents"]) for body in server.bodies)
        again = teacher.score(np.asarray([0, 0]), Ragged.of([[0, 9], [9, 9]], np.int64))
        assert len(server.bodies) == 7 and server.bodies[-1]["documents"] == [DOCUMENTS[9]]
        assert again[0][1] == again[1][0] == np.float32(score_of(QUERIES[0], DOCUMENTS[9]))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("429 0.05", "status 429"), ("500", "status 500"), ("cut", "no JSON"), ("slow 0.6", "too slow"),
        ("fewer", "other documents"), ("twice", "other documents"), ("nan", "no number"), ("text", "no number"),
        ("unnamed", "another shape"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["documents", "texts"])
def test_what_may_pass_is_tried_again(fault: str, kind: str, shape: str, teacher_of: Make) -> None:
    with rerank_server(shape, ["", fault]) as server:
        teacher = teacher_of(server, timeout=0.4)
        assert scores(teacher) == RIGHT
    assert len(server.bodies) == 4 and dict(teacher._reranker.troubles) == {kind: 1}


@pytest.mark.parametrize(
    ("fault", "requests", "message"),
    [
        ("twice", 3, r"found 5 results for 5 documents, expected each index from 0 to 4 once, 3 times in a row; see "
         r"what the server's own log says, or lower teacher\.documents_per_request \(32\)"),
        ("nan", 3, r"a score of nan, expected a number"),
        ("413 batch size 5 > maximum 4", 1, r"status 413, which says: batch size 5 > maximum 4; see .*"
         r"lower teacher\.documents_per_request \(32\)"),
        ("404", 1, r"status 404.*; check teacher\.url"),
        ("401", 1, r"status 401: it wants a key; name the environment variable that holds it in teacher\.key_variable"),
        ("500", 6, r"status 500, which says: out of order, 6 times in a row"),
    ],
)  # fmt: skip
def test_a_server_without_usable_answers_ends_the_work(
    fault: str, requests: int, message: str, teacher_of: Make
) -> None:
    with rerank_server(rest=fault) as server, pytest.raises(WorkError, match=message) as caught:
        scores(teacher_of(server))
    assert str(caught.value).startswith(f"teacher: m at {server.url}: found ") and len(server.bodies) == requests


def test_what_was_scored_before_the_end_is_not_asked_for_again(teacher_of: Make) -> None:
    with rerank_server(plan=["", ""], rest="500") as server:
        with pytest.raises(WorkError, match="7 scores kept: run again, and only the others are asked for"):
            scores(teacher_of(server))
        server.rest, before = "", len(server.bodies)
        assert scores(teacher_of(server)) == RIGHT
        assert [body["query"] for body in server.bodies[before:]] == [QUERIES[2]]
        assert scores(teacher_of(server)) == RIGHT and len(server.bodies) == before + 1


@pytest.mark.parametrize("digits", [4, 12])
def test_probabilities_teach_by_their_log_odds(digits: int, teacher_of: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    everything = Ragged.of([range(10)] * 3, np.int64)
    with (
        rerank_server() as raw,
        rerank_server(squash=lambda score: round(1 / (1 + math.exp(-score)), digits)) as server,
    ):
        expected = teacher_of(raw, name="raw").score(np.arange(3), everything).values_T
        found = teacher_of(server, name="squashed")
        np.testing.assert_allclose(found.score(np.arange(3), everything).values_T, expected, atol=10.0 ** (4 - digits))
        found.score(np.arange(3), LISTS)
    assert caplog.text.count("squashed answers in probabilities: their log-odds teach") == 1 and expected.min() < 0


def test_a_server_may_send_the_documents_back(teacher_of: Make) -> None:
    texts = [(QUERIES[0], "\u1e3f the mast " * 50_000), (QUERIES[0], "storm")]
    with rerank_server(rest="echo") as server:
        found = teacher_of(server).score_texts(texts)
    assert found.tolist() == [np.float32(score_of(*pair)) for pair in texts]


@pytest.mark.parametrize("name", ["top_n", "return_documents", "raw_scores"])
def test_a_parameter_that_a_server_refuses_is_left_out(name: str, teacher_of: Make) -> None:
    with rerank_server(rest=f"refuses {name}") as server:
        assert scores(teacher_of(server)) == RIGHT
        assert [name in body for body in server.bodies] == [True, False, False, False]


def test_the_cost_is_said_before_the_first_request(teacher_of: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with rerank_server(rest="500") as server, pytest.raises(WorkError):
        scores(teacher_of(server))
    assert "m at http://127.0.0.1" in caplog.text
    assert "is asked for scores of 10 pairs: at most 3 calls, about 148 tokens of texts" in caplog.text


def test_the_key_goes_to_the_server_and_nowhere_else(
    teacher_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with rerank_server() as server:
        with pytest.raises(RequestError, match=r"teacher\.key_variable: the environment variable RANK_KEY is not set"):
            scores(teacher_of(server, key_variable="RANK_KEY"))
        assert not server.bodies
        monkeypatch.setenv("RANK_KEY", "sk-very-secret")
        scores(teacher_of(server, key_variable="RANK_KEY"))
        assert {head["Authorization"] for head in server.headers} == {"Bearer sk-very-secret"}
    with rerank_server(rest="401") as server, pytest.raises(WorkError) as caught:
        teacher_of(server, key_variable="RANK_KEY").score(np.asarray([0]), Ragged.of([[7]], np.int64))
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "secret" not in f"{caught.value}{caplog.text}" and b"secret" not in kept
