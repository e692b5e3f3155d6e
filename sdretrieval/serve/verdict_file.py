"""Thumbs up and down from the page, as lines that `corpus.verdicts` takes."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from sdretrieval.corpus.text import content_digest
from sdretrieval.corpus.types import joined
from sdretrieval.corpus.verdicts import marks_text, read_marks
from sdretrieval.errors import RequestError


class VerdictFile:
    """A .jsonl file that grows by whole lines, several threads at a time; a line that a kill cut off is ended first."""

    def __init__(self, path: Path) -> None:
        """Raises RequestError if the file is there and is something else, or is no .jsonl."""
        if path.suffix.lower() != ".jsonl":
            raise RequestError(f"--verdicts {path}: found the ending {path.suffix!r}; expected .jsonl")
        self._path, self._lock = path, threading.Lock()
        if path.exists():
            self._end_last_line()
            read_marks(path)
        else:
            path.touch()

    def add(self, query: str, identifier: str, passage: tuple[str, str], verdict: str) -> None:
        """Append one verdict; on the disk when this returns."""
        text = joined(*passage)
        record = {
            "verdict": verdict, "query": query, "document": " ".join(text.split())[:300], "document_id": identifier,
            "query_digest": content_digest(query).hex(), "document_digest": content_digest(text).hex(),
        }  # fmt: skip
        line = marks_text([record], ".jsonl").encode("utf8", "replace")
        with self._lock, self._path.open("ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())

    def _end_last_line(self) -> None:
        """Take away what a kill left of a line."""
        whole = self._path.read_bytes()
        last = whole.rpartition(b"\n")[2]
        if not last:
            return
        try:
            json.loads(last)
        except ValueError:
            self._path.write_bytes(whole[: len(whole) - len(last)])
        else:
            self._path.write_bytes(whole + b"\n")
