"""The ledger of a run: one JSON line for each stage that was made or found."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path
from typing import Any

from sdretrieval.digests import sealed, unsealed
from sdretrieval.errors import WorkError

logger = logging.getLogger("sdretrieval")

LEDGER = "ledger.jsonl"
LEDGERS = (LEDGER, "worker.jsonl")


class Ledger:
    """Append-only JSON lines at `path`. A line counts once its newline is on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Add one line, durable when this returns. A torn line that a kill left behind is cut off first."""
        line = json.dumps(sealed(record), allow_nan=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # one of two workers would take the other's line for a torn one
            stream.truncate(self._whole_bytes())
            stream.write(line.encode("utf8"))
            stream.flush()
            os.fsync(stream.fileno())

    def read(self, *, skip_damaged: bool = False) -> list[dict[str, Any]]:
        """All whole lines; none if there is no ledger yet. Raises WorkError on a damaged line before the last, or warns
        and goes on with `skip_damaged`."""
        if not self.path.exists():
            return []
        records = []
        for number, line in enumerate(self.path.read_bytes()[: self._whole_bytes()].split(b"\n")[:-1], start=1):
            try:
                records.append(unsealed(json.loads(line)))
            except (ValueError, RecursionError) as error:
                problem = f"{self.path}, line {number} is damaged ({error})"
                if not skip_damaged:
                    raise WorkError(
                        f"{problem}; run the config again, which lists all its stages again, then remove that line"
                    ) from None
                logger.warning("%s; it is passed over", problem)
        return records

    def keys(self) -> set[str]:
        """The artifacts that the run refers to (field `key` of its lines)."""
        return {str(record["key"]) for record in self.read() if record.get("key")}

    def _whole_bytes(self) -> int:
        return self.path.read_bytes().rfind(b"\n") + 1 if self.path.exists() else 0


def keys_in_ledgers(runs: Path) -> set[str]:
    """Every artifact that some run under the folder `runs` refers to: what `Store.gc` must keep."""
    return {key for name in LEDGERS for path in runs.glob(f"*/{name}") for key in Ledger(path).keys()}  # noqa: SIM118 - no dict
