"""The command line: one file a command, which holds what the user types and the function that does the work.

These functions take objects and strings and are of use from Python too. Modules here import nothing heavy at the top:
`sdretrieval --help` must come at once.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

import sdretrieval
from sdretrieval.cli import (
    compare,
    corpus,
    doubts,
    evaluate,
    export,
    gc,
    init,
    plan,
    probe,
    push,
    run,
    score,
    search,
    serve,
    show,
)
from sdretrieval.cli.limits import limit_met
from sdretrieval.cli.logs import quiet_libraries, said_once, start_logging
from sdretrieval.cli.output import replace_what_cannot_be_shown
from sdretrieval.errors import SdretrievalError
from sdretrieval.formatting import printable
from sdretrieval.progress import run_progress, want_interrupt

INTERRUPTED = 128 + signal.SIGINT
REFUSED = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip
"""What a file system says of a path that the user named wrongly."""

app = typer.Typer(
    name="sdretrieval",
    help="Self-distillation for retrieval: a small bi-encoder that searches your corpus better, without buying labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    run.run_command, init.init_command, plan.plan_command, probe.probe_command, score.score_command,
    evaluate.evaluate_command,
    search.search_command, show.show_command, compare.compare_command, show.report_command,
    doubts.doubts_command, export.export_command, export.verify_command, serve.serve_command, push.push_command,
    gc.gc_command,
):  # fmt: skip
    app.command(command.__name__.removesuffix("_command").replace("_", "-"))(command)
app.add_typer(corpus.app, name="corpus")


def _say_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"sdretrieval {sdretrieval.__version__}\n")
        raise typer.Exit


@app.callback()
def everywhere(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="also show what the libraries log, and when each stage begins")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Self-distillation for retrieval: a small bi-encoder that searches your corpus better, without buying labels."""
    start_logging(verbose)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: exits with 0 (done), 1 (the work failed), 2 (the request was wrong), 130 (Ctrl-C) or 143
    (SIGTERM: `kill`, or a scheduler whose time is up)."""
    quiet_libraries()
    replace_what_cannot_be_shown()
    with _signals_kept() as signals, said_once():
        code = _called(arguments, signals)
    sys.exit(code)


@contextmanager
def _signals_kept() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are noted as well as raised: if a library swallows one, the next unit of work raises it again.

    Yields the numbers of those that came.
    """
    want_interrupt(False)
    run_progress.restart()
    signals: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return

    def interrupted(number: int, frame: FrameType | None) -> NoReturn:
        want_interrupt()
        signals.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        want_interrupt(False)  # what comes next in this process was not interrupted
        for number, handler in before.items():
            signal.signal(number, handler)


def _called(arguments: Sequence[str] | None, signals: Sequence[int]) -> int:
    try:
        code = app(args=arguments, prog_name="sdretrieval", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; nothing is flushed to it once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as problem:
        if limit := limit_met(problem):
            return _failed(limit, 1)
        if isinstance(problem, SdretrievalError):
            return _failed(str(problem), problem.exit_code)
        if isinstance(problem, OSError) and problem.errno in REFUSED and problem.filename is not None:
            what = f"{problem.filename!s:.200}: {problem.strerror}"
            return _failed(f"{what}; expected a path that can be read, or written to", 2)
        # Usage errors of click, which typer carries under a private name: recognised by what they offer.
        usage: Any = problem
        if not hasattr(usage, "format_message"):
            raise
        message, command = usage.format_message(), getattr(usage.ctx, "command_path", "sdretrieval")
        return _failed(f"{message} (see {command} --help)", 2) if message else 2  # help was printed
    if code == INTERRUPTED:
        by = signals[-1] if signals else signal.SIGINT
        kept = "Finished stages are in the store. " if run_progress.stage else ""
        where = f"interrupted{run_progress.stopped_at()}"
        return _failed(f"{where}.\n{kept}To go on, type:\n  {_typed(arguments)}", 128 + by)
    return code if isinstance(code, int) else 0


def _typed(arguments: Sequence[str] | None) -> str:
    """The command as its user can type it again."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        python = shutil.which("python")
        same = python is not None and Path(python).resolve() == Path(sys.executable).resolve()
        words = ["python" if same else sys.executable, "-m", "sdretrieval"]
    else:
        words = [program.name if shutil.which(program.name) == str(program) else str(program)]
    if arguments is not None:  # called from Python
        words = ["sdretrieval"]
    return shlex.join([*words, *(sys.argv[1:] if arguments is None else arguments)])


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"error: {printable(message)}\n")
    return code
