"""A served bundle under load: does it refuse instead of failing, how long do answers take, does its memory grow?

    python -m benchmarks.serve_load BUNDLE [--seconds N] [--clients N] [--format F ...] [--texts N]

Starts `sdretrieval serve` on a free port once for each format and prints three tables. *Load*: N clients, each with one
request at a time, ask `/search` for N seconds: answers by status, the 50th and 99th percentile of the time to a 200,
answers a second, and the server's memory after a first second and in the end. *One at a time*: queries a second of one
client, beside the torch student called from Python (`Searcher.search`, no HTTP). *Bulk*: tokens a second of N documents
in requests of 64 to `/embed` by four clients, beside fastembed with the bundle's own graph, if it is installed. Queries
are the first words of documents.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from sdretrieval.export.documents import Passages
from sdretrieval.export.layout import GRAPHS, read_manifest
from sdretrieval.export.searcher import Searcher

WORDS, QUERIES, SEED, ALONE, A_REQUEST, BULK_CLIENTS = 8, 500, 13, 10.0, 64, 4
"""Of a query; how many queries; seconds that one client alone asks; texts of a bulk request."""


@contextmanager
def served(bundle: Path, format: str, waiting: int) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a server."""
    command = [sys.executable, "-m", "sdretrieval", "serve", str(bundle), "--port", "0", "--json", "--format", format,
               "--waiting", str(waiting)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["address"], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def texts_of(bundle: Path, count: int) -> list[str]:
    """Documents as the student reads them, drawn with a fixed seed."""
    passages = Passages(bundle)
    rows = random.Random(SEED).choices(range(len(passages)), k=count)
    return [" ".join(passages.passage(row)).strip() or "empty" for row in rows]


def load(address: str, server: psutil.Process, queries: Sequence[str], clients: int, seconds: float) -> list[str]:
    """Cells of the first table."""
    statuses: Counter[str] = Counter()
    times: list[float] = []
    memory: list[int] = []
    ends, lock = time.monotonic() + seconds, threading.Lock()

    def client(number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(base_url=address, timeout=60) as session:
            while time.monotonic() < ends:
                began = time.perf_counter()
                try:
                    status = str(session.post("/search", json={"query": chance.choice(queries)}).status_code)
                except httpx.HTTPError as problem:
                    status = type(problem).__name__
                took = time.perf_counter() - began
                with lock:
                    statuses[status] += 1
                    if status == "200":
                        times.append(took)
                if status == "429":
                    time.sleep(1.0)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    memory.append(server.memory_info().rss)
    for thread in threads:
        thread.join()
    memory.append(server.memory_info().rss)
    by_time = statistics.quantiles(times, n=100)
    return [
        ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items())),
        f"{by_time[49] * 1000:.0f}", f"{by_time[98] * 1000:.0f}", f"{len(times) / seconds:.0f}",
        f"{memory[0] / 1e6:.0f}", f"{memory[1] / 1e6:.0f}",
    ]  # fmt: skip


def alone(ask: object, queries: Sequence[str]) -> float:
    """Queries a second of one client."""
    assert callable(ask)
    for query in queries[:20]:
        ask(query)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < ALONE:
        ask(queries[done % len(queries)])
        done += 1
    return done / (time.perf_counter() - began)


def bulk(address: str, texts: Sequence[str]) -> float:
    """Texts a second."""
    parts = [texts[start : start + A_REQUEST] for start in range(0, len(texts), A_REQUEST)]
    with httpx.Client(base_url=address, timeout=600) as session, ThreadPoolExecutor(BULK_CLIENTS) as pool:
        began = time.perf_counter()
        for answer in pool.map(lambda part: session.post("/embed", json={"inputs": part}), parts):
            answer.raise_for_status()
        return len(texts) / (time.perf_counter() - began)


def by_fastembed(bundle: Path, format: str, texts: Sequence[str]) -> float | None:
    """Texts a second of fastembed with this graph; None if it is not installed."""
    try:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType
    except ModuleNotFoundError:
        return None
    name = f"{bundle.name}-{format}"
    TextEmbedding.add_custom_model(
        model=name, pooling=PoolingType.DISABLED, normalization=False, sources=ModelSource(hf=f"none/{name}"),
        dim=read_manifest(bundle).dims, model_file=GRAPHS[format],
    )  # fmt: skip
    model = TextEmbedding(name, specific_model_path=str(bundle))
    list(model.embed(texts[:A_REQUEST]))
    began = time.perf_counter()
    list(model.embed(texts, batch_size=A_REQUEST))
    return len(texts) / (time.perf_counter() - began)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--format", action="append")
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--waiting", type=int, default=1024)
    asked = parser.parse_args()
    formats = asked.format or [name for name in read_manifest(asked.bundle).formats if name != "openvino"]
    queries = [" ".join(text.split()[:WORDS]) for text in texts_of(asked.bundle, QUERIES)]
    texts, searcher = texts_of(asked.bundle, asked.texts), Searcher.open(asked.bundle, device="cpu")
    tokens = statistics.mean(searcher.encoder.encode(texts[:A_REQUEST], False)[1])
    plain = alone(searcher.search, queries)
    rows: list[list[str]] = []
    for format in formats:
        with served(asked.bundle, format, asked.waiting) as (address, server):
            with httpx.Client(base_url=address, timeout=60) as session:
                one = alone(
                    lambda query, to=session: to.post("/search", json={"query": query}).raise_for_status(), queries
                )
            each = bulk(address, texts)
            cells = load(address, server, queries, asked.clients, asked.seconds)
        other = by_fastembed(asked.bundle, format, texts) if format in GRAPHS else None
        beside = "not installed" if other is None else f"{other * tokens:,.0f}"
        rows.append([format, *cells, f"{one:.0f} ({one / plain:.1f})", f"{each * tokens:,.0f}", beside])
    print(
        f"{asked.clients} clients, {asked.seconds:g} s; one at a time: times the torch student's {plain:.0f} queries a "
        f"second in brackets; bulk: {len(texts)} documents of {tokens:.0f} tokens\n"
    )
    head = ["format", "answers", "p50, ms", "p99, ms", "answers/s", "MB after 1 s", "MB in the end",
            "one at a time, queries/s", "bulk, tokens/s", "fastembed, tokens/s"]  # fmt: skip
    for line in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
