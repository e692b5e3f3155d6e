"""What the machine is, as far as measured choices depend on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from sdretrieval.encode.student import torch_device


def machine_name(device: str = "cpu") -> str:
    """Processor, cores and operating system, and the GPU where `device` means one: what was measured holds for these
    and no others."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    name = f"{model}, {os.cpu_count()} cores, {platform.system()}"
    return f"{name}, {_gpu_name()}" if torch_device(device) == "cuda" else name


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name())
