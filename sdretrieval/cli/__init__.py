"""The command line: each command is a thin shell around a plain function of `sdretrieval.run` or `sdretrieval.corpus`.

Modules here import nothing heavy at the top: `sdretrieval --help` must come at once.
"""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from sdretrieval.cli import bundles, corpora, looking, measuring, planning, running, scoring, suspects
from sdretrieval.cli.logs import quiet_libraries, start_logging
from sdretrieval.errors import SdretrievalError
from sdretrieval.progress import want_interrupt

INTERRUPTED = 130
REFUSED = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS)
"""What a file system says of a path that the user named wrongly."""

app = typer.Typer(
    name="sdretrieval",
    help="Self-distillation for retrieval: a small bi-encoder that searches your corpus better, without buying labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    running.run, planning.plan, running.probe, scoring.score, measuring.evaluate, looking.search, looking.show,
    measuring.compare, looking.report, suspects.fn_report, bundles.export, bundles.verify, running.gc,
):  # fmt: skip
    app.command()(command)
app.add_typer(corpora.app, name="corpus")


@app.callback()
def everywhere(
    verbose: Annotated[bool, typer.Option("--verbose", help="show what the libraries underneath log, too")] = False,
) -> None:
    """Self-distillation for retrieval: a small bi-encoder that searches your corpus better, without buying labels."""
    start_logging(verbose)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: exits with 0 (done), 1 (the work failed), 2 (the request was wrong) or 130 (interrupted)."""
    quiet_libraries()
    with _interrupts_kept():
        code = _called(arguments)
    sys.exit(code)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Ctrl-C is noted as well as raised: where a library swallows it, the next unit of work raises it again."""
    want_interrupt(False)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupted(signal_number: int, frame: FrameType | None) -> NoReturn:
        want_interrupt()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _called(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=arguments, prog_name="sdretrieval", standalone_mode=False)
    except SdretrievalError as problem:
        return _failed(str(problem), problem.exit_code)
    except OSError as problem:
        return _file_trouble(problem)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as problem:
        # Usage errors of click, which typer carries under a private name: recognised by what they offer.
        if not hasattr(problem, "format_message"):
            raise
        return _misused(problem)
    if code == INTERRUPTED:
        return _failed("interrupted; finished stages are in the store; run again to continue", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _file_trouble(problem: OSError) -> int:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return _failed(f"no space left on the disk ({problem}); make room and run again: it continues", 1)
    if problem.errno not in REFUSED or problem.filename is None:
        raise problem
    return _failed(f"{problem.filename}: {problem.strerror}; expected a path that can be read, or written to", 2)


def _misused(problem: Any) -> int:
    message, command = problem.format_message(), getattr(problem.ctx, "command_path", "sdretrieval")
    return _failed(f"{message} ({command} --help shows what is understood)", 2) if message else 2  # help was printed


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code
