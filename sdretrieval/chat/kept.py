"""Answers that a language model has given, on disk: what was paid for is never asked for again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from sdretrieval.chat.client import Answer
from sdretrieval.digests import DIGEST_BYTES, sealed, unsealed

logger = logging.getLogger("sdretrieval")


class KeptAnswers:
    """Answers of one model, a JSON line each under the digest of its prompt; `FILE` is made with the first.

    A line is on the disk when `add` returns, and carries its own digest: one that a kill tore, or that was damaged, is
    passed over and asked for again. Several processes may add at once.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._answers: dict[str, Answer] = {}
        if not file.exists():
            return
        damaged = 0
        for line in file.read_bytes().split(b"\n"):
            try:
                record = unsealed(json.loads(line)) if line else None
            except (ValueError, RecursionError):
                damaged += 1
                continue
            if record is not None:
                self._answers[record["prompt"]] = Answer(*record["answer"])
        if damaged:
            logger.warning("%s: %d damaged or torn lines are passed over, and asked for again", file, damaged)

    def get(self, prompt: str) -> Answer | None:
        """The answer to a prompt; None if it was not given yet."""
        return self._answers.get(_digest(prompt))

    def add(self, prompt: str, answer: Answer) -> None:
        """Keep an answer."""
        digest = _digest(prompt)
        self._answers[digest] = answer
        self._file.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(sealed({"prompt": digest, "answer": list(answer)})).encode("ascii") + b"\n"
        descriptor = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # torn by a kill: a line of its own
                line = b"\n" + line
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(prompt: str) -> str:
    return hashlib.blake2b(prompt.encode("utf8", "surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()
