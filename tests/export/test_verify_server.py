"""`verify --url`: is what a server gives what was measured? Servers of both shapes, right ones and wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from sdretrieval.chat.client import ServedModel
from sdretrieval.chat.embed import EmbedClient
from sdretrieval.cli import main
from sdretrieval.errors import DamagedArtifact, RequestError, WorkError
from sdretrieval.export.encoders import TextEncoder
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.verify import Verification, verify_server
from tests.export.conftest import PROMPTS

Answer = Callable[[str, dict[str, Any]], Any]
"""Path and body -> the answer's JSON, or None for 404."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The address of a server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made = answer(self.path, body)
            data = json.dumps({"error": "no such path"} if made is None else made).encode()
            self.send_response(404 if made is None else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> TextEncoder:
    return Searcher.open(bundle, device="cpu").encoder


def of_inference_server(encoder: TextEncoder) -> Answer:
    """As text-embeddings-inference: it knows prompts by name, and nothing of OpenAI here."""

    def answer(path: str, body: dict[str, Any]) -> Any:
        if path != "/embed":
            return None
        side = {"query": encoder.queries, "document": encoder.documents}[body["prompt_name"]]
        return side(body["inputs"]).tolist()

    return answer


def of_openai(encoder: TextEncoder, change: Callable[[Any], Any] = lambda vectors_ND: vectors_ND) -> Answer:
    """Knows no prompts, and answers in another order."""

    def answer(path: str, body: dict[str, Any]) -> Any:
        if path != "/v1/embeddings":
            return None
        vectors = []
        for text in body["input"]:
            prompt = next(one for one in (PROMPTS.query, PROMPTS.document) if text.startswith(one))
            of_query = prompt == PROMPTS.query
            vectors.append((encoder.queries if of_query else encoder.documents)([text.removeprefix(prompt)])[0])
        data = [{"index": n, "embedding": row} for n, row in enumerate(change(np.stack(vectors)).tolist())]
        return {"data": data[::-1], "model": "m"}

    return answer


def exit_code(*arguments: str) -> int:
    """Of the command line."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def verified(folder: Path, url: str, format: str = "torch") -> Verification:
    return verify_server(folder, EmbedClient(ServedModel(url, "m"), None), format)


@pytest.mark.parametrize("shape", [of_inference_server, of_openai])
def test_a_server_that_does_what_was_measured_passes(
    shape: Callable[[TextEncoder], Answer], bundle: Path, encoder: TextEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(shape(encoder)) as url:
        found = verified(bundle, url)
        assert found.ok, found.to_json()
        kind = "embed" if shape is of_inference_server else "openai"
        assert [check.name for check in found.checks] == [f"served ({kind}): vectors", f"served ({kind}): top 10"]
        assert exit_code("verify", str(bundle), "--url", f"{url}/v1/") == 0
    assert "ok" in capsys.readouterr().out


def test_a_server_that_leaves_the_prompts_out_fails(
    bundle: Path, encoder: TextEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    def bare(path: str, body: dict[str, Any]) -> Any:
        return encoder.documents(body["inputs"]).tolist() if path == "/embed" else None  # one prompt for both sides

    with serving(bare) as url:
        assert exit_code("verify", str(bundle), "--url", url) == 1
    said = capsys.readouterr()
    assert "FAILED" in said.out and "served (embed): vectors" in said.out
    assert f"{url} does not serve what was measured: served (embed): vectors" in said.err
    assert "Compare its pooling, prompts and maximum length" in said.err


def test_small_rounding_passes_and_other_dims_do_not(bundle: Path, encoder: TextEncoder) -> None:
    with serving(of_openai(encoder, lambda vectors_ND: vectors_ND.astype(np.float16).astype(np.float32))) as url:
        assert verified(bundle, url).ok
    with serving(of_openai(encoder, lambda vectors_ND: vectors_ND[:, :16])) as url:
        found = verified(bundle, url)
    assert not found.ok and found.checks[0].detail.startswith("16 from the server, 32 in the bundle")


def test_what_cannot_be_asked_is_one_message(bundle: Path, copied: Path, encoder: TextEncoder) -> None:
    with serving(lambda path, body: None) as url, pytest.raises(WorkError, match=r"found status 404.*/embed or /v1"):
        verified(bundle, url)
    odd = {"data": [{"index": 0}]}
    with serving(lambda path, body: odd) as url, pytest.raises(WorkError, match="found no list of vectors"):
        verified(bundle, url)
    with pytest.raises(WorkError, match=r"127.0.0.1:9: found no connection .* does the server run"):
        verified(bundle, "http://127.0.0.1:9")
    with pytest.raises(RequestError, match="holds no format 'onnx-int8', it holds torch"):
        verified(bundle, "http://127.0.0.1:9", "onnx-int8")
    (copied / "ids.json").write_text("[]")
    with pytest.raises(DamagedArtifact, match="changed since the export: ids.json"):
        verified(copied, "http://127.0.0.1:9")
