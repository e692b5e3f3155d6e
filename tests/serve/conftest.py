"""A small served bundle, and an application around it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.export.bundle import export_bundle
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.probability import Probabilities, ProbabilityMap
from tests.export.conftest import given  # noqa: F401  # a fixture

pytest.importorskip("fastapi", reason="serve needs fastapi: pip install 'sdretrieval[serve]'")
pytest.importorskip("uvicorn", reason="serve needs uvicorn: pip install 'sdretrieval[serve]'")
httpx = pytest.importorskip("httpx", reason="the served application is asked with httpx: pip install httpx")

MAP = ProbabilityMap(bias=-2.0, score=1.5, lead=3.0, coverage=4.0, agreement=2.0)


def export(folder: Path, keywords: dict[str, Any], **changed: Any) -> Path:
    """A bundle with BM25 and probabilities."""
    keywords = keywords | changed
    documents = keywords["documents"]
    lexical = LexicalIndex.build([documents.full_text(row) for row in range(len(documents))])
    export_bundle(folder, **keywords, lexical=lexical, probabilities=Probabilities(MAP, lexical, estimate=True))
    return folder


@pytest.fixture(scope="session")
def folder(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The bundle. Read only."""
    return export(tmp_path_factory.mktemp("serve") / "bundle", given)


@contextmanager
def running(app: Any) -> Iterator[Any]:
    """An HTTP client of the application, which runs as it would for real: uvicorn, a port of this machine."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", access_log=False))
    ready = threading.Event()

    async def started(*arguments: Any, **others: Any) -> None:
        await type(server).startup(server, *arguments, **others)
        ready.set()

    server.startup = started  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert ready.wait(20), "the server does not start"
        (listening,) = server.servers[0].sockets
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Any]]:
    """`serve(folder, key=...)`: a client of a server, which ends with the module."""
    from contextlib import ExitStack

    from sdretrieval.serve.app import Settings, create_app
    from sdretrieval.serve.opened import Current, open_bundle

    with ExitStack() as stack:

        def client(bundle: Path, format: str | None = "torch", against: Path | None = None, **settings: Any) -> Any:
            current = Current(lambda: open_bundle(bundle, format, against), bundle)
            return stack.enter_context(running(create_app(current, Settings(**settings))))

        yield client
