"""What the machine is, as far as measured choices depend on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine_name() -> str:
    """Processor, cores and operating system: a measured precision holds for this and no other."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"
