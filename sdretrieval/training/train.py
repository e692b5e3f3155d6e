"""One generation's training, through the sentence-transformers trainer: no training loop of our own."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sdretrieval.encode.pace import Pace
from sdretrieval.progress import Progress
from sdretrieval.training.batches import Collator, count_updates, visiting_order
from sdretrieval.training.lora import add_lora, merge_lora
from sdretrieval.training.speed import dropout_at, freeze, quick_attention
from sdretrieval.training.tracking import Tracking, tracked

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    from sdretrieval.teachers.ema import LiveEma
    from sdretrieval.training.pretrain import PieceBatches
    from sdretrieval.training.reranker import ListBatches
    from sdretrieval.training.smaller import VectorBatches
    from sdretrieval.training.trainer import DistillationTrainer, Loss

    Batches = Collator | VectorBatches | ListBatches | PieceBatches

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
    lora_rank: int | None = None
    save_every: int | None = None
    seed: int = 13


@dataclass
class Trained:
    """What a training left in its folder: `student/`, `average/` (the EMA weights), `metrics.jsonl`."""

    folder: Path
    updates: int
    counts: dict[str, Any] = field(default_factory=dict)


def train(
    model: SentenceTransformer | CrossEncoder,
    batches: Batches,
    loss: Loss,
    settings: TrainSettings,
    folder: Path,
    *,
    live: LiveEma | None = None,
    description: str = "train",
    expected: float | None = None,
    tracking: Tracking | None = None,
) -> Trained:
    """Train `model` in place; continue from the newest whole checkpoint under `folder`, to the same result.

    `expected`: seconds of an update on this machine, see `Pace`. `tracking`: who else gets the figures.
    Raises NumericError naming step and batch if the loss is not finite.
    """
    from transformers.trainer_callback import PrinterCallback

    from sdretrieval.teachers.ema import WeightAverage, decay_of
    from sdretrieval.training.trainer import (
        AverageCallback,
        CompleteCallback,
        MetricsCallback,
        last_complete_checkpoint,
    )

    folder.mkdir(parents=True, exist_ok=True)
    updates = updates_of(len(batches), settings)
    _give_lora(model, live, settings)
    learning = freeze(model, settings.freeze)
    # From here on the model is on its device.
    trainer = _trainer(model, batches, loss, settings, folder, updates, tracking)
    if live is not None:
        live.to(model.device)
    average = WeightAverage(model, decay_of(settings.half_life, updates))
    averaging, metrics = AverageCallback(model, average, live), folder / "metrics.jsonl"
    pace = Pace(description, model.device.type, expected)
    quick = quick_attention(model)
    with Progress(description, updates, "updates") as progress, pace, dropout_at(model, settings.dropout), quick:
        trainer.remove_callback(PrinterCallback)
        # Metrics first: it clears the file of what an earlier, killed attempt wrote. Complete last: all is there then.
        for callback in (MetricsCallback(metrics, loss, progress, pace), averaging, CompleteCallback(metrics)):
            trainer.add_callback(callback)
        checkpoint = last_complete_checkpoint(folder / "trainer")
        if checkpoint is not None:
            logger.info("training continues from %s", checkpoint.name)
            averaging.restore(checkpoint)
            shutil.copy2(checkpoint / metrics.name, metrics)
        with tracked(trainer, tracking):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        done = int(trainer.state.global_step)
    # Back to plain float32: mixed precision wraps the model's forward.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    averaged = average.module(model)
    if settings.lora_rank is not None:
        for network in (model, averaged):
            merge_lora(network)
    model.requires_grad_(True).eval()
    _save(trainer, model, averaged, folder)
    queries = done * settings.queries_per_batch * settings.gradient_accumulation * processes()
    counts = {"updates": done, "queries": queries, "learning_parameters": learning}
    return Trained(folder, done, counts)


def _save(trainer: DistillationTrainer, model: Any, averaged: Any, folder: Path) -> None:
    """The first process writes student and average as plain folders and drops the checkpoints; the others wait."""
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        for network, name in ((model, "student"), (averaged, "average")):
            network.save_pretrained(str(folder / name), create_model_card=False)
        shutil.rmtree(folder / "trainer", ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def _give_lora(model: SentenceTransformer | CrossEncoder, live: LiveEma | None, settings: TrainSettings) -> None:
    if settings.lora_rank is None:
        return
    add_lora(model, settings.lora_rank, settings.seed)
    if live is not None:  # it follows the student, matrices and all
        add_lora(live.network, settings.lora_rank, settings.seed)
        live.restart()


def updates_of(queries: int, settings: TrainSettings) -> int:
    """Optimiser updates that `settings` make of so many training queries; each process takes its own batches."""
    per_update = settings.queries_per_batch * settings.gradient_accumulation * processes()
    return count_updates(queries, settings.epochs, per_update)


def processes() -> int:
    """Processes of a distributed training, as torchrun and accelerate announce them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _trainer(
    model: SentenceTransformer | CrossEncoder, batches: Batches, loss: Loss, settings: TrainSettings, folder: Path,
    updates: int, tracking: Tracking | None,
) -> DistillationTrainer:  # fmt: skip
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainingArguments

    from sdretrieval.training.trainer import DistillationTrainer, in_order

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
        **({"report_to": "none"} if tracking is None else tracking.arguments()),
        disable_tqdm=True,
        seed=settings.seed,
        batch_sampler=in_order,
        dataloader_drop_last=True,
        dataloader_pin_memory=model.device.type == "cuda",
    )
    # One process drives one GPU; for several GPUs start several processes (torchrun, accelerate launch).
    arguments._n_gpu = min(arguments.n_gpu, 1)
    per_update = settings.queries_per_batch * settings.gradient_accumulation * processes()
    positions, visits = visiting_order(len(batches), updates * per_update, settings.seed)
    collate: Any = batches  # the library's type is its own class; it calls it and reads `valid_label_columns`
    network: Any = model  # a cross-encoder, too: the library's trainer of these differs in how it collates
    return DistillationTrainer(
        model=network,
        args=arguments,
        train_dataset=Dataset.from_dict({"position": positions, "visit": visits}),
        loss=loss,
        data_collator=collate,
    )
