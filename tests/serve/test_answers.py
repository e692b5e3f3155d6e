"""What the server answers is what the bundle gives, in every shape; what it refuses it says in one sentence."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.chat.client import ServedModel
from sdretrieval.chat.embed import EmbedClient
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.verify import verify_server

TEXTS = ["the ore in oslo", "dough", "coal and ore near the kiln"]


@pytest.fixture(scope="module")
def client(serve: Any, folder: Path) -> Any:
    return serve(folder)


@pytest.fixture(scope="module")
def searcher(folder: Path) -> Searcher:
    return Searcher.open(folder, device="cpu")


def test_openai_shape(client: Any, searcher: Searcher) -> None:
    made = client.post("/v1/embeddings", json={"input": TEXTS, "model": "m"}).json()
    assert [one["index"] for one in made["data"]] == [0, 1, 2] and made["object"] == "list"
    vectors_ND, tokens = searcher.encoder.encode(TEXTS, False)
    np.testing.assert_allclose([one["embedding"] for one in made["data"]], vectors_ND, atol=1e-6)
    assert made["usage"] == {"prompt_tokens": sum(tokens), "total_tokens": sum(tokens)} and made["model"] == "tiny run"
    coded = client.post("/v1/embeddings", json={"input": TEXTS, "model": "m", "encoding_format": "base64"}).json()
    rows = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in coded["data"]]
    np.testing.assert_allclose(np.stack(rows), vectors_ND, atol=1e-6)


@pytest.mark.parametrize("asked", [{"input_type": "query"}, {"model": "tiny-query"}])
def test_the_side_of_queries_can_be_asked_for(asked: dict[str, str], client: Any, searcher: Searcher) -> None:
    made = client.post("/v1/embeddings", json={"input": TEXTS[0], "model": "m", **asked}).json()
    np.testing.assert_allclose(made["data"][0]["embedding"], searcher.encoder.queries(TEXTS[:1])[0], atol=1e-6)
    assert np.abs(searcher.encoder.queries(TEXTS[:1]) - searcher.encoder.documents(TEXTS[:1])).max() > 0.01


def test_fewer_dimensions_have_length_one(client: Any, searcher: Searcher) -> None:
    made = client.post("/v1/embeddings", json={"input": TEXTS[1], "model": "m", "dimensions": 8}).json()
    wanted = searcher.encoder.documents(TEXTS[1:2])[0][:8]
    np.testing.assert_allclose(made["data"][0]["embedding"], wanted / np.linalg.norm(wanted), atol=1e-6)


def test_inference_servers_shape(client: Any, searcher: Searcher) -> None:
    for side, wanted in (("query", searcher.encoder.queries), ("document", searcher.encoder.documents)):
        made = client.post("/embed", json={"inputs": TEXTS, "prompt_name": side}).json()
        np.testing.assert_allclose(made, wanted(TEXTS), atol=1e-6)
    np.testing.assert_allclose(
        client.post("/embed", json={"inputs": "dough"}).json(), searcher.encoder.documents(["dough"]), atol=1e-6
    )


def test_the_server_is_what_was_measured(client: Any, folder: Path) -> None:
    found = verify_server(folder, EmbedClient(ServedModel(str(client.base_url).rstrip("/"), "m"), None))
    assert found.ok and found.checks[0].name == "served (embed): vectors", found.to_json()


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_search_finds_what_the_bundle_finds(mode: Any, client: Any, searcher: Searcher) -> None:
    found = client.post("/search", json={"query": TEXTS[0], "k": 7, "mode": mode}).json()
    wanted = searcher.search(TEXTS[0], 7, mode)
    assert [hit["id"] for hit in found["hits"]] == [hit.document_id for hit in wanted]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
    assert [(hit["title"], hit["text"]) for hit in found["hits"]] == [(hit.title, hit.text) for hit in wanted]
    known = [hit.probability for hit in wanted if hit.probability is not None]
    assert found["best_probability"] == (pytest.approx(max(known), abs=1e-5) if known else None)
    for hit in found["hits"]:
        start, end = hit["passage"]
        assert all(start <= a < b <= end <= len(hit["text"]) for a, b in hit["words"])
        marked = {hit["text"][a:b].lower() for a, b in hit["words"]}
        assert marked <= {"ore", "oslo"}, "the other words are stop words"


def test_filters_by_id(client: Any, searcher: Searcher) -> None:
    everything = [hit.document_id for hit in searcher.search("ore", 120)]
    ids = {"include": [everything[50], everything[3], "nowhere"]}
    found = client.post("/search", json={"query": "ore", "ids": ids}).json()
    assert [(hit["rank"], hit["id"]) for hit in found["hits"]] == [(1, everything[3]), (2, everything[50])]
    found = client.post("/search", json={"query": "ore", "k": 3, "ids": {"exclude": everything[:2]}}).json()
    assert [hit["id"] for hit in found["hits"]] == everything[2:5]


def test_hits_that_are_not_probable_are_left_out_and_the_best_is_said(client: Any) -> None:
    found = client.post("/search", json={"query": "ore", "min_probability": 1.0}).json()
    assert found["hits"] == [] and 0 < found["best_probability"] < 1


REFUSED: list[tuple[str, Any, int, str]] = [
    ("/search", {"query": " "}, 422, "query: it is empty; expected at least one word"),
    ("/search", {"query": ""}, 422, "query: found ''; string should have at least 1 character"),
    ("/search", {}, 422, "query: field required"),
    ("/search", {"query": "x", "k": 0}, 422, "k: found 0; input should be greater than or equal to 1"),
    ("/search", {"query": "x", "colour": 1}, 422, "colour: found 1; extra inputs are not permitted"),
    ("/search", {"query": "x" * 100_001}, 422, "query: found 100,001 characters; string should have at most 100000"),
    ("/search", {"query": "x", "mode": "sparse"}, 422, "mode: found 'sparse'; input should be 'dense', 'lexical'"),
    ("/search", {"query": "x", "system": "base"}, 422, "system: found 'base', which is not served"),
    ("/v1/embeddings", {"input": [1, 2]}, 422, "input: found numbers, the tokens of another tokenizer; expected texts"),
    ("/v1/embeddings", {"input": [[1], [2]]}, 422, "input.0: found [1]; input should be a valid string"),
    ("/v1/embeddings", {"input": []}, 422, "input: found []"),
    ("/v1/embeddings", {"input": ["a", "  "]}, 422, "text 1 is empty; expected at least one word"),
    ("/v1/embeddings", {"input": "a", "dimensions": 33}, 422, "dimensions: found 33, the student has 32; expected"),
    ("/embed", {"inputs": ["a"] * 513}, 422, "inputs: found "),
    ("/verdicts", {"query": "q", "document_id": "d1", "verdict": "not"}, 404, "start the server with --verdicts FILE"),
    ("/nothing", {}, 404, "Not Found"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "message"), REFUSED)
def test_what_is_not_understood_is_one_sentence(path: str, body: Any, status: int, message: str, client: Any) -> None:
    answer = client.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, status) and message in error["message"], error
    assert len(error["message"]) < 300 and "\n" not in error["message"]


def test_a_body_that_is_no_json_or_too_large_is_refused(client: Any) -> None:
    head = {"Content-Type": "application/json"}
    assert (
        client.post("/search", content=b'{"query', headers=head).json()["error"]["message"]
        == "the body is no JSON; expected an object"
    )
    for content in (b"x" * 8_000_001, (b"x" * 100_000 for _ in range(90))):
        answer = client.post("/search", content=content, headers=head)
        assert answer.status_code == 413 and "larger than 8,000,000 bytes" in answer.json()["error"]["message"]


def test_operators_find_what_they_ask_for(client: Any, searcher: Searcher) -> None:
    assert client.get("/health").json() == {"status": "ok"} and client.get("/ready").json()["status"] == "ready"
    info = client.get("/info").json()
    assert (info["dims"], info["documents"], info["format"]) == (32, 120, "torch")
    assert info["modes"] == ["dense", "lexical", "hybrid"] and info["limits"]["texts"] == 512
    measured = client.get("/metrics").text
    assert 'sdretrieval_requests_total{route="/search",status="200"}' in measured
    assert 'route="other",status="404"' in measured, "a path that is none is no label of its own"
    assert re.search(r"sdretrieval_batch_texts_count \d+", measured) and "sdretrieval_waiting_texts 0.0" in measured
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/embeddings", "/embed", "/search", "/info", "/health", "/ready", "/metrics", "/verdicts"} <= set(paths)
    assert client.get("/docs").status_code == 404, "its page loads scripts from elsewhere"


def test_a_key_is_asked_for_everywhere_but_where_nothing_of_the_corpus_is(serve: Any, folder: Path) -> None:
    client = serve(folder, key="secret")
    for path in ("/info", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 401
    assert (
        client.post("/search", json={"query": "ore"})
        .json()["error"]["message"]
        .startswith("the key is missing or wrong")
    )
    for headers in ({"Authorization": "Bearer secre"}, {"Authorization": "Basic x"}, {"x-api-key": "secret2"}):
        assert client.get("/info", headers=headers).status_code == 401
    for headers in ({"Authorization": "Bearer secret"}, {"x-api-key": "secret"}):
        assert client.get("/info", headers=headers).status_code == 200
    assert [client.get(path).status_code for path in ("/", "/page.js", "/health", "/ready")] == [200] * 4


def test_two_students_side_by_side(serve: Any, folder: Path) -> None:
    client = serve(folder, against=folder)
    assert client.get("/info").json()["base"]
    ids = [
        [hit["id"] for hit in client.post("/search", json={"query": "ore", "system": system}).json()["hits"]]
        for system in ("student", "base")
    ]
    assert ids[0] == ids[1] and len(ids[0]) == 10
