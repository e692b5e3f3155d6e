"""Stage 0/precision: which number format this machine trains and encodes faster in."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.student import torch_device
from sdretrieval.files import read_json, write_json
from sdretrieval.stages.run import Run, student_from
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

Task = Literal["train", "encode"]


class NumberFormat(NamedTuple):
    """What a config asks for, and, if that is auto, the artifact that says what was measured."""

    wanted: str
    measured: Artifact | None
    task: Task

    @property
    def inputs(self) -> list[Artifact]:
        """Of a stage that computes in it."""
        return [self.measured] if self.measured else []

    def chosen(self) -> Precision:
        """The format itself."""
        wanted = read_json(self.measured.path / "precision.json")[self.task] if self.measured else self.wanted
        return "bfloat16" if wanted == "bfloat16" else "float32"


def number_format(run: Run, task: Task) -> NumberFormat:
    """The format of a task. Where the config says auto, both are measured, once a store, machine and model."""
    wanted = run.config.train.precision if task == "train" else run.config.student.encode_precision
    return NumberFormat(wanted, measure_precision(run) if wanted == "auto" else None, task)


def measure_precision(run: Run) -> Artifact:
    """The faster number format of training, and that of encoding, on this machine."""

    def build(work: Work) -> None:
        from sdretrieval.training.speed import faster_precision

        model = student_from(run.base.student, run.config).model  # one of its own: trials change its number format
        record: dict[str, Any] = {}
        for task in ("train", "encode"):
            precision, ratio = faster_precision(model, training=task == "train")
            record[task] = precision
            record[f"{task}_float32_seconds_over_bfloat16_seconds"] = round(ratio, 3)
        write_json(work.folder / "precision.json", record)
        work.counts.update(record)

    identity = {"machine": machine_name(run.config.student.device)}
    return run.runner.stage("0/precision", 2, identity, [run.base.key], build)


def machine_name(device: str = "cpu") -> str:
    """Processor, cores and operating system, and the GPU if `device` means one: what was measured holds for these and
    no others."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    name = f"{model}, {os.cpu_count()} cores, {platform.system()}"
    if torch_device(device) != "cuda":
        return name
    import torch

    return f"{name}, {torch.cuda.get_device_name()}"
