"""The ledger of a run: one JSON line for each stage that was made or found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sdretrieval.errors import WorkError

LEDGER = "ledger.jsonl"
LEDGERS = (LEDGER, "worker.jsonl")


class Ledger:
    """Append-only JSON lines at `path`. A line counts once its newline is on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Add one line, durable when this returns. A torn line that a kill left behind is cut off first."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.truncate(self._whole_bytes())
            stream.write(line.encode("utf8"))
            stream.flush()
            os.fsync(stream.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; none if there is no ledger yet. Raises WorkError on a broken line before the last."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes()[: self._whole_bytes()].splitlines()
        return [self._parsed(number, line) for number, line in enumerate(lines, start=1)]

    def keys(self) -> set[str]:
        """The artifacts that the run refers to (field `key` of its lines)."""
        return {str(record["key"]) for record in self.read() if record.get("key")}

    def _whole_bytes(self) -> int:
        return self.path.read_bytes().rfind(b"\n") + 1 if self.path.exists() else 0

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise WorkError(
                f"{self.path}, line {number} is no JSON ({error}); remove that line: the store still finds its stage"
            ) from None
        if not isinstance(record, dict):
            raise WorkError(
                f"{self.path}, line {number}: found {line.decode('utf8', 'replace')}; expected a JSON object"
            )
        return record


def keys_in_ledgers(runs: Path) -> set[str]:
    """Every artifact that some run under the folder `runs` refers to: what `Store.gc` must keep."""
    return {key for name in LEDGERS for path in runs.glob(f"*/{name}") for key in Ledger(path).keys()}  # noqa: SIM118 - no dict
