"""Where a training's figures go beside its `metrics.jsonl`: TensorBoard, trackio, wandb, by the trainer's own
integrations. Nothing is sent anywhere unless the user named it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sdretrieval.errors import MissingPackageError, RequestError

if TYPE_CHECKING:
    from sdretrieval.training.trainer import DistillationTrainer

Tracker = Literal["tensorboard", "trackio", "wandb"]

WITHOUT_NETWORK = ("offline", "dryrun", "disabled")
"""What WANDB_MODE may say."""


@dataclass(frozen=True)
class Tracking:
    """Of one training: `to` whom, under which `project` (the run) and `name` (the stage). TensorBoard's files are in
    `folder`."""

    to: tuple[Tracker, ...]
    project: str
    name: str
    folder: Path

    def arguments(self) -> dict[str, Any]:
        """Of the trainer, which calls its own integrations."""
        others = [one for one in self.to if one != "tensorboard"]
        return {"report_to": others or "none", "project": self.project, "run_name": f"{self.project} {self.name}"}


def require_trackers(names: Sequence[str]) -> None:
    """Raise MissingPackageError for one that is not installed, RequestError if wandb would ask who you are."""
    for name in names:
        if not find_spec(name):
            raise MissingPackageError(
                f"train.report_to: {name} needs the package {name}, which is not installed; run: pip install {name}"
            )
    if "wandb" in names and os.environ.get("WANDB_MODE") not in WITHOUT_NETWORK:
        import wandb

        if not wandb.login(prompt=False, verify=False):  # asks nobody, neither here nor there
            raise RequestError(
                "train.report_to: wandb has no key of yours; expected one: run `wandb login`, or set WANDB_API_KEY, or "
                "keep figures on this machine by WANDB_MODE=offline"
            )


@contextmanager
def tracked(trainer: DistillationTrainer, tracking: Tracking | None) -> Iterator[None]:
    """While `trainer` trains: a run of its own with each tracker, ended with the training."""
    if tracking is None:
        yield
        return
    if "tensorboard" in tracking.to:
        from transformers.integrations.integration_utils import TensorBoardCallback

        board = TensorBoardCallback()
        board.logging_dir = str(tracking.folder / tracking.name.replace("/", "-"))
        trainer.add_callback(board)
    if "wandb" not in tracking.to or not trainer.is_world_process_zero():
        yield
        return
    import wandb

    # The trainer's integration takes a run that is there; one of its own would go on into the next training.
    with wandb.init(project=os.environ.get("WANDB_PROJECT", tracking.project), name=tracking.name):
        yield
