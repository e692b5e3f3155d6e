"""One generation's training, through the sentence-transformers trainer: no training loop of our own."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sdretrieval.encode.student import save_student
from sdretrieval.training.parts import dropout_at, freeze
from sdretrieval.training.schedule import count_updates, visiting_order

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

    from sdretrieval.teachers.ema import LiveEma
    from sdretrieval.training.batches import BatchMaker
    from sdretrieval.training.losses import ListwiseDistillation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSettings:
    """How the student learns; defaults follow docs/ABLATIONS.md. `half_life` is that of the kept average."""

    epochs: float = 1.0
    queries_per_batch: int = 16
    learning_rate: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    freeze: tuple[str, ...] = ("word_embeddings",)
    dropout: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_accumulation: int = 1
    half_life: float = 0.25
    save_every: int | None = None
    seed: int = 13


@dataclass(frozen=True)
class EarlyStop:
    """Measure dev every `every` updates, stop after `patience` measurements without a gain."""

    measure: Callable[[], float]
    every: int
    patience: int


@dataclass
class Trained:
    """What a training left in its folder: `student/`, `average/` (the EMA weights), `metrics.jsonl`."""

    folder: Path
    updates: int
    best_step: int | None = None
    counts: dict[str, Any] = field(default_factory=dict)


def train(
    model: SentenceTransformer,
    batches: BatchMaker,
    loss: ListwiseDistillation,
    settings: TrainSettings,
    folder: Path,
    *,
    live: LiveEma | None = None,
    early_stop: EarlyStop | None = None,
    description: str = "train",
) -> Trained:
    """Train `model` in place; continue from the newest whole checkpoint under `folder`, to the same result.

    Raises NumericError naming step and batch where the loss is not finite.
    """
    from sdretrieval.teachers.ema import WeightAverage, decay_of
    from sdretrieval.training.callbacks import AverageCallback, last_complete_checkpoint

    updates = updates_of(len(batches.candidates), settings)
    learning = freeze(model, settings.freeze)
    average = WeightAverage(model, decay_of(settings.half_life, updates))
    averaging = AverageCallback(model, average, live)
    stopping = _stopper(model, early_stop, folder)
    trainer = _trainer(model, batches, loss, settings, folder, updates)
    _add_callbacks(trainer, averaging, stopping, loss, folder, updates, description)
    checkpoint = last_complete_checkpoint(folder / "trainer")
    if checkpoint is not None:
        logger.info("training continues from %s", checkpoint.name)
        averaging.restore(checkpoint)
        if stopping is not None:
            stopping.restore(checkpoint)
    with dropout_at(model, settings.dropout):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    if stopping is not None:
        model.load_state_dict(stopping.best)
    model.requires_grad_(True).eval()
    save_student(model, folder / "student")
    save_student(average.module(model), folder / "average")
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    done = int(trainer.state.global_step)
    counts = {"updates": done, "queries": done * settings.queries_per_batch, "learning_parameters": learning}
    return Trained(folder, done, stopping.best_step if stopping is not None else None, counts)


def updates_of(queries: int, settings: TrainSettings) -> int:
    """Optimiser updates that `settings` make of so many training queries."""
    return count_updates(queries, settings.epochs, settings.queries_per_batch * settings.gradient_accumulation)


def _stopper(model: SentenceTransformer, early_stop: EarlyStop | None, folder: Path) -> Any:
    from sdretrieval.training.callbacks import EarlyStopCallback

    if early_stop is None:
        return None
    return EarlyStopCallback(model, early_stop.measure, early_stop.every, early_stop.patience, folder / "metrics.jsonl")


def _trainer(
    model: SentenceTransformer,
    batches: BatchMaker,
    loss: ListwiseDistillation,
    settings: TrainSettings,
    folder: Path,
    updates: int,
) -> SentenceTransformerTrainer:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=updates,
        per_device_train_batch_size=settings.queries_per_batch,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        warmup_steps=max(1, round(settings.warmup * updates)) if settings.warmup else 0,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bfloat16",
        use_cpu=model.device.type == "cpu",
        save_strategy="steps" if settings.save_every else "no",
        save_steps=settings.save_every or updates,
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        batch_sampler=_in_order,
        dataloader_drop_last=True,
        dataloader_pin_memory=model.device.type == "cuda",
    )
    per_update = settings.queries_per_batch * settings.gradient_accumulation * max(arguments.world_size, 1)
    positions, visits = visiting_order(len(batches.candidates), updates * per_update, settings.seed)
    return SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"position": positions, "visit": visits}),
        loss=loss,
        data_collator=batches,
    )


def _in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> Any:
    """The schedule is already an array: batches follow it, so that a resumed run sees what it would have seen."""
    from torch.utils.data import BatchSampler, SequentialSampler

    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)


def _add_callbacks(
    trainer: SentenceTransformerTrainer,
    averaging: Any,
    stopping: Any,
    loss: ListwiseDistillation,
    folder: Path,
    updates: int,
    description: str,
) -> None:
    from transformers.trainer_callback import PrinterCallback

    from sdretrieval.training.callbacks import CompleteCallback, MetricsCallback

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(averaging)
    if stopping is not None:
        trainer.add_callback(stopping)
    trainer.add_callback(MetricsCallback(folder / "metrics.jsonl", loss, updates, description))
    trainer.add_callback(CompleteCallback())
