"""The sentence-transformers trainer without model cards: lineage and figures are written by export, from the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import SequentialSampler

from sdretrieval.encode.student import save_student


class DistillationTrainer(SentenceTransformerTrainer):
    """Saves a checkpoint's model as a plain folder and nothing that needs a network or a pickle of our own."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No card: the library's lists the dataset's first rows, here numbers of queries."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        save_student(self.model, Path(output_dir or str(self.args.output_dir)))


def in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> DefaultBatchSampler:
    """The schedule is already an array: batches follow it, so that a resumed run sees what it would have seen."""
    order: Any = SequentialSampler(dataset)
    return DefaultBatchSampler(order, batch_size, drop_last)
