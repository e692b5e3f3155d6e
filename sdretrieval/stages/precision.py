"""Stage 0/precision: what `auto` means as a number format: measured on a CPU, read off a GPU's capability.

The decision is made once a store, kind of device and model. Keys of vectors and trainings hold the format itself, never
auto: another measurement gives other artifacts, and a run that is resumed or repeated keeps to the record.
"""

from __future__ import annotations

import logging
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from sdretrieval.config import Config
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.student import torch_device
from sdretrieval.errors import DamagedArtifact
from sdretrieval.files import read_json, write_json
from sdretrieval.stages.run import Run, student_from
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

logger = logging.getLogger("sdretrieval")

Task = Literal["train", "encode"]
UNKNOWN = "auto"
"""In keys of a plan that comes before the decision: the store has nothing under it."""


def number_format(run: Run, task: Task) -> Precision:
    """The format of a task; if the config says auto, what was decided for both."""
    wanted = _wanted(run.config)[task]
    if wanted != "auto":
        return "bfloat16" if wanted == "bfloat16" else "float32"
    decided: Precision = decision(run).get(task, UNKNOWN)
    return decided


def resolved(run: Run) -> Config:
    """The run's config with the formats that auto stands for in its place."""
    config = run.config
    student = config.student.model_copy(update={"encode_precision": number_format(run, "encode")})
    train = config.train.model_copy(update={"precision": number_format(run, "train")})
    return config.model_copy(update={"student": student, "train": train})


def say_formats(run: Run) -> None:
    """Log what auto means in this run, in one line."""
    auto = [task for task, wanted in _wanted(run.config).items() if wanted == "auto"]
    if auto:
        record = decision(run)
        formats = ", ".join(f"{task} {record[task]} ({record['why'][task]})" for task in auto)
        logger.info("number format auto: %s; decided on %s, and the store keeps to it", formats, record["machine"])


def decision(run: Run) -> dict[str, Any]:
    """What auto means for each task, why, and where that was decided; empty in a plan that comes before it."""
    made = measure_precision(run)
    if run.runner.dry:
        with suppress(DamagedArtifact):
            if run.store.get(made.key) is not None:
                return read_json(made.path / "precision.json")
        return {}
    return read_json(made.path / "precision.json")


def measure_precision(run: Run) -> Artifact:
    """The faster number format of training, and that of encoding.

    The machine is not in the key: on another one the recorded decision goes on to hold.
    """
    device = torch_device(run.config.student.device)

    def build(work: Work) -> None:
        from sdretrieval.training.speed import faster_precision

        model = student_from(run.untrained.student, run.config).model  # one of its own: trials change its number format
        record: dict[str, Any] = {"machine": machine_name(run.config.student.device), "why": {}}
        for task in ("train", "encode"):
            record[task], record["why"][task] = faster_precision(model, training=task == "train")
            work.counts[task] = record[task]
        write_json(work.folder / "precision.json", record)

    return run.runner.stage("0/precision", 4, {"device": device}, [run.untrained.key], build)


def _wanted(config: Config) -> dict[Task, str]:
    return {"train": config.train.precision, "encode": config.student.encode_precision}


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
