"""`serve`: an exported folder, or a finished run, behind HTTP."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import signal
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdretrieval.cli.lookup import Serving
from sdretrieval.cli.options import Json, Runs
from sdretrieval.cli.output import say
from sdretrieval.cli.search import search_of
from sdretrieval.errors import MissingPackageError, RequestError
from sdretrieval.store.run_folder import find_run

if TYPE_CHECKING:
    from sdretrieval.serve.opened import Current, Opened

logger = logging.getLogger("sdretrieval")

KEY_VARIABLE = "SDRETRIEVAL_API_KEY"
SECONDS_TO_END = 30
"""For requests that are under way when the server is stopped."""


def serve_command(
    where: Annotated[str, typer.Argument(metavar="DIR_OR_RUN", help="an exported folder, or a run's name or folder")],
    host: Annotated[str, typer.Option("--host", help="the address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free")] = 8080,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="F",
            help="of a folder: torch, onnx, onnx-int8, openvino; else the fastest that "
            "gives the vectors that were measured",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="DIR", help="a second exported folder, which the page shows beside"),
    ] = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(
            "--verdicts", metavar="FILE", help="keep thumbs up and down in this .jsonl file (corpus.verdicts)"
        ),
    ] = None,
    waiting: Annotated[int, typer.Option("--waiting", min=1, help="texts that may wait before 429 is answered")] = 1024,
    no_key: Annotated[
        bool, typer.Option("--no-key", help=f"listen beyond this machine without a key in {KEY_VARIABLE}")
    ] = False,
    log_texts: Annotated[bool, typer.Option("--log-texts", help="write queries and texts to the log")] = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Serve embeddings and search over HTTP, with a page at /."""
    try:
        import uvicorn

        from sdretrieval.serve.app import Settings, create_app
    except ModuleNotFoundError as problem:
        raise MissingPackageError(
            f"serve needs the package {problem.name}, which is not installed; run: pip install 'sdretrieval[serve]'"
        ) from problem

    settings = Settings(key=key_for(host, no_key), verdicts=verdicts, log_texts=log_texts, room=waiting)
    listening = bound(host, port)
    current = opened(where, format, against, runs)
    app = create_app(current, settings)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    now = current.now
    if as_json:
        facts = {"address": address, "name": now.name, "version": now.version, "format": now.format}
        print(json.dumps(facts), flush=True)  # one line, which a program that waits for it can read
    else:
        say(f"{address}: {now.name}, {now.documents:,} documents, {now.format} ({now.why_format})")
    signal.signal(signal.SIGHUP, lambda number, frame: current.look_now())
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=SECONDS_TO_END, server_header=False
    )
    with suppress(KeyboardInterrupt):  # that is how a server ends; uvicorn has answered what was under way
        uvicorn.Server(config).run(sockets=[listening])


def key_for(host: str, no_key: bool) -> str | None:
    """The key that requests must bring. Raises RequestError if there is none where others can ask."""
    key = os.environ.get(KEY_VARIABLE, "").strip() or None
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if key is None and not here and not no_key:
        raise RequestError(
            f"--host {host}: others could ask, and {KEY_VARIABLE} is not set; expected a key there: export "
            f"{KEY_VARIABLE}=..., or --no-key if something else keeps others out"
        )
    return key


def bound(host: str, port: int) -> socket.socket:
    """A socket at this address, before anything is loaded. Raises RequestError if it is taken, or none of this
    machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as problem:
        listening.close()
        raise RequestError(
            f"--host {host} --port {port}: {problem.strerror or problem}; expected an address of this machine that is "
            "free: try --port 0"
        ) from problem
    return listening


def opened(where: str, format: str | None, against: Path | None, runs: Path | None) -> Current:
    """What `where` names, open. A folder is looked at again when it changes; a run stays as it is."""
    from sdretrieval.export.layout import is_bundle
    from sdretrieval.serve.opened import Current, open_bundle

    if is_bundle(Path(where)):
        return Current(partial(open_bundle, Path(where), format, against), Path(where))
    if format not in (None, "torch") or against is not None:
        option = "--against" if against is not None else f"--format {format}"
        raise RequestError(
            f"{option}: {where} is no exported folder; run: sdretrieval export {where} DIR, and serve DIR"
        )
    return Current(partial(open_run, where, runs))


def open_run(where: str, runs: Path | None) -> Opened:
    """A finished run: its final student, and the one it began with beside it."""
    from sdretrieval.serve.opened import Opened

    serving = Serving.of(find_run(where, runs))
    student = serving.student()
    search, base = search_of(serving), search_of(serving, base=True)
    logger.info("%s is a run, served by torch; an exported folder (sdretrieval export) answers faster", where)
    return Opened(
        serving.config.name, str(serving.record["keys"]["vectors"]), search, "torch", "a run holds no other",
        student.dims, len(search.ids), student.view.max_tokens, student.unit_length, base,
    )  # fmt: skip
