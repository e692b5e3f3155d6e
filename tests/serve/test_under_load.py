"""Many clients, a full queue, another bundle while requests run, and a server that is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.cli.serve import bound, key_for
from sdretrieval.encode.student import load_student
from sdretrieval.errors import RequestError
from sdretrieval.export.encoders import torch_encoder
from sdretrieval.export.layout import read_manifest
from sdretrieval.export.searcher import Searcher
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.serve.app import Settings, create_app
from sdretrieval.serve.batching import Batcher, QueueFull
from sdretrieval.serve.opened import Current, choose_format, open_bundle
from tests.export.conftest import LIMITS, PROMPTS
from tests.helpers import tiny
from tests.serve.conftest import export, running


class Slow:
    """An encoder that takes its time, and keeps the sizes of its batches."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.batches = seconds, list[int]()

    def encode(self, texts: Sequence[str], are_queries: bool) -> tuple[Any, list[int]]:
        """The length of each text, as its vector."""
        self.batches.append(len(texts))
        time.sleep(self.seconds)
        return np.array([[len(text)] for text in texts], dtype=np.float32), [1] * len(texts)


def slow(folder: Path, seconds: float) -> tuple[Current, Slow]:
    opened, encoder = open_bundle(folder, "torch"), Slow(seconds)
    search = replace(opened.search, encoder=encoder)
    return Current(lambda: replace(opened, search=search)), encoder


def test_requests_that_come_together_are_encoded_together_and_each_gets_its_own(folder: Path) -> None:
    current, encoder = slow(folder, 0.02)

    async def ask() -> list[Any]:
        batcher = Batcher(current, most=16)
        await batcher.start()
        made = await asyncio.gather(*(batcher.encode(["x" * n, "y" * (n + 1)], "query") for n in range(1, 25)))
        await batcher.stop()
        return made

    made = asyncio.run(ask())
    assert [one.vectors_ND.ravel().tolist() for one in made] == [[n, n + 1] for n in range(1, 25)]
    assert sum(encoder.batches) == 48 and len(encoder.batches) < 8 and max(encoder.batches) <= 17


def test_a_full_queue_refuses_at_once_and_what_waits_is_answered(folder: Path) -> None:
    current, _ = slow(folder, 0.3)

    async def ask() -> tuple[list[Any], float]:
        batcher = Batcher(current, most=4, room=10)
        await batcher.start()
        tasks = [asyncio.create_task(batcher.encode(["x"], "query")) for _ in range(10)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        with pytest.raises(QueueFull):
            await batcher.encode(["x"], "query")
        waited = time.monotonic() - began
        made = await asyncio.gather(*tasks)
        await batcher.encode(["x"] * 50, "query")  # more than the room, but nobody else waits
        await batcher.stop()
        return made, waited

    made, waited = asyncio.run(ask())
    assert len(made) == 10 and waited < 0.1


def test_too_many_clients_are_told_to_come_again(folder: Path) -> None:
    current, _ = slow(folder, 0.2)
    with running(create_app(current, Settings(room=4, batch=2))) as client, ThreadPoolExecutor(16) as pool:
        body = {"input": ["a", "b"], "model": "m"}
        answers = list(pool.map(lambda _: client.post("/v1/embeddings", json=body), range(16)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429} and statuses.count(200) >= 2
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["Retry-After"] == "1" and "try again" in refused.json()["error"]["message"]


def test_an_encoder_that_fails_fails_its_requests_and_no_other(folder: Path) -> None:
    current, encoder = slow(folder, 0.0)

    async def ask() -> Any:
        batcher = Batcher(current)
        await batcher.start()
        whole, encoder.encode = encoder.encode, None  # type: ignore[method-assign, assignment]
        with pytest.raises(TypeError):
            await batcher.encode(["x"], "query")
        encoder.encode = whole  # type: ignore[method-assign]
        made = await batcher.encode(["xyz"], "query")
        await batcher.stop()
        return made

    assert asyncio.run(ask()).vectors_ND.tolist() == [[3.0]]


def test_another_bundle_takes_its_place_and_no_request_is_lost(
    folder: Path, given: dict[str, Any], tmp_path: Path
) -> None:
    served = Path(shutil.copytree(folder, tmp_path / "served"))
    other = tiny.write_student(tmp_path / "other", seed=5)
    student = load_student(str(other), **LIMITS, prompts=PROMPTS, device="cpu")
    vectors_ND = torch_encoder(student).documents([given["documents"].full_text(row) for row in range(120)])
    changed = {
        "student_folder": other, "vectors_ND": vectors_ND, "index": VectorIndex.build(vectors_ND, "exact", "cpu"),
    }  # fmt: skip
    current = Current(lambda: open_bundle(served, "torch"), served)
    answers: list[Any] = []
    with running(create_app(current, Settings())) as client:
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                answers.append(client.post("/search", json={"query": "ore in oslo", "k": 5}))

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        export(served, given, **changed)
        current.look_now()
        ends = time.monotonic() + 30
        while current.swaps == 0 and time.monotonic() < ends:
            time.sleep(0.05)
        time.sleep(0.3)
        (served / "ids.json").write_text("[]")  # a damaged one is not served
        (served / "bundle.json").touch()
        current.look_now()
        time.sleep(1.0)
        stop.set()
        for thread in threads:
            thread.join(10)
    assert current.swaps == 1 and {answer.status_code for answer in answers} == {200}
    wanted = {}
    for place in (folder, export(tmp_path / "again", given, **changed)):
        hits = Searcher.open(place, device="cpu").search("ore in oslo", 5)
        wanted[tuple(hit.document_id for hit in hits)] = place
    found: dict[str, set[Any]] = {}
    for answer in answers:
        record = answer.json()
        found.setdefault(record["version"], set()).add(tuple(hit["id"] for hit in record["hits"]))
    assert len(found) == 2 and all(len(one) == 1 for one in found.values()), "a version gives its own hits alone"
    assert {next(iter(one)) for one in found.values()} == set(wanted)


def test_the_format_is_the_fastest_that_gives_what_was_measured(folder: Path) -> None:
    from sdretrieval.export.layout import Agreement

    manifest = read_manifest(folder)
    assert choose_format(manifest) == ("torch", "the bundle holds no onnx-int8")
    formats = ("torch", "onnx", "onnx-int8")
    near = {"onnx": Agreement(1.0, 1.0), "onnx-int8": Agreement(0.985, 0.95)}
    assert choose_format(replace(manifest, formats=formats, agreement=near))[0] == "onnx-int8"
    far = near | {"onnx-int8": Agreement(0.97, 0.95)}
    format, why = choose_format(replace(manifest, formats=formats, agreement=far))
    assert format == "onnx" and "onnx-int8 is too far from what was measured (lowest cosine 0.970, 95%" in why


def test_nobody_else_can_ask_without_a_key_unless_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDRETRIEVAL_API_KEY", raising=False)
    assert key_for("127.0.0.1", False) is key_for("::1", False) is key_for("localhost", False) is None
    with pytest.raises(RequestError, match=r"--host 0.0.0.0: others could ask, and SDRETRIEVAL_API_KEY is not set"):
        key_for("0.0.0.0", False)
    assert key_for("0.0.0.0", True) is None
    monkeypatch.setenv("SDRETRIEVAL_API_KEY", " secret ")
    assert key_for("0.0.0.0", False) == "secret"
    listening = bound("127.0.0.1", 0)
    listening.listen()
    with listening, pytest.raises(RequestError, match="Address already in use; expected an address of this machine"):
        bound("127.0.0.1", listening.getsockname()[1])


def test_the_command_serves_until_it_is_stopped(folder: Path) -> None:
    import httpx

    command = [sys.executable, "-m", "sdretrieval", "serve", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert httpx.get(f"{ready['address']}/ready", timeout=20).json()["version"] == ready["version"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")
