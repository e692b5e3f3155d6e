"""What is said on stderr: this project's log lines, short; the libraries' own only if something is wrong."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sdretrieval.formatting import printable

QUIET = (
    "accelerate", "beir", "bm25s", "datasets", "faiss", "filelock", "httpx", "huggingface_hub", "sentence_transformers",
    "torch", "transformers", "urllib3",
)  # fmt: skip

NO_BARS = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


class _ShortLines(logging.Handler):
    """`message`, or `warning: message`, on whatever stderr is now: a drawn progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        mark = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        sys.stderr.write(f"{mark}{printable(self.format(record))}\n")


_handler = _ShortLines()


def quiet_libraries() -> None:
    """No progress bars of theirs. They read these variables once, so this must come before they are imported."""
    for name, value in NO_BARS.items():
        os.environ.setdefault(name, value)


@contextmanager
def said_once() -> Iterator[None]:
    """A library that configures the root logger, as onnxruntime's quantiser does, would repeat every line of ours."""
    logger = logging.getLogger("sdretrieval")
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = before


def start_logging(verbose: bool) -> None:
    """INFO of `sdretrieval` and errors of the libraries; with `verbose` also DEBUG and INFO."""
    logging.getLogger("sdretrieval").setLevel(logging.DEBUG if verbose else logging.INFO)
    _add(logging.getLogger("sdretrieval"))
    if not verbose:
        warnings.simplefilter("ignore")
    for name in QUIET:
        library = logging.getLogger(name)
        library.setLevel(logging.INFO if verbose else logging.ERROR)
        if verbose:
            _add(library)


def _add(logger: logging.Logger) -> None:
    if _handler not in logger.handlers:
        logger.addHandler(_handler)
