"""The sentence-transformers trainer, and what happens beside its optimiser: the moving average, metrics, resumable
checkpoints, progress."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback

from sdretrieval.digests import sealed, unsealed
from sdretrieval.errors import DamagedArtifact, NumericError
from sdretrieval.files import read_json, write_json
from sdretrieval.store.manifest import FileRecord, difference, record_files

if TYPE_CHECKING:
    from sdretrieval.encode.pace import Pace
    from sdretrieval.progress import Progress
    from sdretrieval.teachers.ema import LiveEma, WeightAverage
    from sdretrieval.training.distillation import Distillation
    from sdretrieval.training.pretrain import SameDocument
    from sdretrieval.training.reranker import PositiveFirst
    from sdretrieval.training.smaller import SameVectors

    Loss = Distillation | SameVectors | PositiveFirst | SameDocument

logger = logging.getLogger("sdretrieval")

COMPLETE = "complete.json"
"""Written last into a checkpoint, with size and digest of each of its files: one without it was cut short by a kill."""

LEARNING = "learning.safetensors"
"""The weights that learn, in a checkpoint."""
LOGGED = (
    "loss", "kl", "margin_mse", "embedding", "hard", "exits", "pieces", "cosine", "scores", "learning_rate",
    "grad_norm",
)  # fmt: skip


class AverageCallback(TrainerCallback):
    """Keeps the student's moving average (and a live teacher) in step, saves it with every checkpoint."""

    def __init__(self, student: torch.nn.Module, average: WeightAverage, live: LiveEma | None) -> None:
        self._student, self._average, self._live = student, average, live

    def restore(self, checkpoint: Path) -> None:
        """Take the averages from a checkpoint."""
        self._average.restore(load_file(checkpoint / "average.safetensors"))
        if self._live is not None:
            self._live.restore(load_file(checkpoint / "live.safetensors"))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each optimiser update."""
        self._average.update(self._student)
        if self._live is not None:
            self._live.update(self._student, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Beside the trainer's own files."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        save_file(_unshared(self._average.state), folder / "average.safetensors")
        if self._live is not None:
            save_file(_unshared(self._live.average.state), folder / "live.safetensors")


class MetricsCallback(TrainerCallback):
    """One JSON line an update in `metrics.jsonl`; a progress bar; the step number for the loss's messages."""

    def __init__(self, path: Path, loss: Loss, progress: Progress, pace: Pace) -> None:
        self._path, self._loss, self._progress, self._pace = path, loss, progress, pace

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A resumed run drops the lines after its checkpoint: they are about to be written again."""
        if state.is_world_process_zero:
            done = state.global_step or -1  # a run that starts again from nothing keeps nothing
            keep = [record for record in read_metrics(self._path) if record["step"] <= done]
            self._path.write_text("".join(json.dumps(record) + "\n" for record in keep), encoding="utf8")
        self._progress.resume(state.global_step)
        self._loss.step = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the update."""
        self._loss.step = state.global_step
        self._progress.advance()
        self._pace.step()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Keep what the trainer logs of a step. Raises NumericError for a gradient that is not finite."""
        if not logs or "loss" not in logs:
            return
        record = {name: float(value) for name, value in logs.items() if name in LOGGED}
        if not math.isfinite(record.get("grad_norm", 0.0)):
            raise NumericError(
                f"training: the gradient's norm is {record['grad_norm']} at step {state.global_step}; lower "
                "train.learning_rate (of pretraining pretrain.learning_rate), or train in float32. Checkpoints up to "
                "here are kept"
            )
        self._progress.figures.update(loss=f"{logs['loss']:.4g}")
        if "learning_rate" in logs:
            self._progress.figures["learning rate"] = f"{logs['learning_rate']:.2g}"
        if state.is_world_process_zero:
            append_metrics(self._path, {"step": state.global_step, **record})


class CompleteCallback(TrainerCallback):
    """Marks a checkpoint as whole, the metrics up to it included. Must be the last callback."""

    def __init__(self, metrics: Path) -> None:
        self._metrics = metrics

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """All other files are there."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / COMPLETE).unlink(missing_ok=True)  # of an earlier attempt
        shutil.copy2(self._metrics, folder / self._metrics.name)
        files = {name: asdict(record) for name, record in record_files(folder).items()}
        write_json(folder / COMPLETE, sealed({"step": state.global_step, "files": files}))


def last_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end and is as it was written; what is damaged is named."""
    damaged, whole = [], None
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if not (checkpoint / COMPLETE).exists():
            continue  # cut short by a kill
        problem = _damage(checkpoint)
        if problem is None:
            whole = checkpoint
            break
        damaged.append(f"{checkpoint.name} ({problem})")
    if damaged:
        going_on = f"continues from {whole.name}" if whole else "starts again from the beginning"
        logger.warning("damaged: %s; training %s", ", ".join(damaged), going_on)
    return whole


def _damage(checkpoint: Path) -> str | None:
    try:
        files = unsealed(read_json(checkpoint / COMPLETE))["files"]
        return difference(checkpoint, {name: FileRecord(**record) for name, record in files.items()})
    except (DamagedArtifact, ValueError, TypeError, KeyError, AttributeError) as problem:
        return f"{COMPLETE}: {problem}"


def step_of(checkpoint: Path) -> int:
    """Updates that the student had had when it was saved."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def append_metrics(path: Path, record: dict[str, Any]) -> None:
    """Add one line."""
    with path.open("a", encoding="utf8") as stream:
        stream.write(json.dumps(record) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a line torn by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _unshared(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


class DistillationTrainer(SentenceTransformerTrainer):
    """Saves of a checkpoint's model what learns, nothing else: the rest is where the training started from."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No card: the library's lists the dataset's first rows, here numbers of queries."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        learning = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        save_file(_unshared(learning), folder / LEARNING)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        (model or self.model).load_state_dict(load_file(Path(resume_from_checkpoint) / LEARNING), strict=False)


def in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> DefaultBatchSampler:
    """The schedule is already an array: batches follow it, so that a resumed run sees what it would have seen."""
    order: Any = SequentialSampler(dataset)
    return DefaultBatchSampler(order, batch_size, drop_last)
