"""x"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdretrieval.run.commands.searching import search_run


def search_bundle_or_run(where: str, query: str, k: int, *, base: bool, runs: Path | None) -> dict[str, Any]:
    return search_run(where, query, k, base=base, runs=runs)
