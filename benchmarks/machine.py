"""What a measurement was made with."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str:
    """Of this project, `-dirty` where its code or configs differ from it; what benchmarks write does not count."""
    at = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ":/sdretrieval", ":/configs", ":/indexes/*.yaml", ":/benchmarks/*.py")
    return f"{at}-dirty" if at and changed else at or "unknown"


def _git(*arguments: str) -> str:
    asked = ["git", *arguments]
    found = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip()
