"""A cross-encoder learns from a corpus' own judgements before it teaches: a known positive against the other documents
of its query's list.

Legend: L lists of a batch, P pairs of a batch, W windows of all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sdretrieval.encode.batches import budget_batches, usual_batch_tokens
from sdretrieval.errors import NumericError
from sdretrieval.mining.candidates import Candidates
from sdretrieval.teachers.pair_teacher import Pair
from sdretrieval.teachers.pair_windows import PairWindows
from sdretrieval.training.batches import PART_TOKENS, sampled_entries

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


@dataclass
class ListBatches:
    """Collates visits of lists into pairs as the cross-encoder reads them.

    `candidates`: lists with a known positive and another document. `pair`: the texts of a query row and a document row.
    `width`: pairs of a list that a visit shows, see `sampled_entries`.
    """

    model: CrossEncoder
    windows: PairWindows
    candidates: Candidates
    pair: Callable[[int, int], Pair]
    width: int
    seed: int
    valid_label_columns: list[str] = field(default_factory=lambda: ["label"])

    def __len__(self) -> int:
        return len(self.candidates)

    def __call__(self, visits: Sequence[dict[str, int]]) -> dict[str, Any]:
        """One batch: part0_*, part1_* ... features of windows of similar length. The label: `pair_W` of each window, in
        the order of the parts, `list_P` and `positive_P` of each pair."""
        pairs: list[Pair] = []
        lists, positives = [], []
        for number, visit in enumerate(visits):
            position, row = visit["position"], int(self.candidates.query_rows_Q[visit["position"]])
            positive = self.candidates.positive[position]
            shown = sampled_entries(
                len(positive), self.width, np.flatnonzero(positive), (self.seed, row, visit["visit"])
            )
            pairs += [self.pair(row, int(document)) for document in self.candidates.rows[position][shown]]
            lists += [number] * len(shown)
            positives += positive[shown].tolist()
        batch: dict[str, Any] = {}
        pair_W: list[int] = []
        device, parts = self.model.device.type, 0
        for encoded, owners in self.windows.blocks(pairs):
            most = PART_TOKENS if device == "cpu" else usual_batch_tokens(device)
            for part in budget_batches([len(one["input_ids"]) for one in encoded], most):
                features = self.windows.features([encoded[i] for i in part])
                batch.update({f"part{parts}_{name}": value for name, value in features.items()})
                pair_W += owners[part].tolist()
                parts += 1
        label = {"pair_W": pair_W, "list_P": lists, "positive_P": positives}
        return {**batch, "label": {name: torch.tensor(values) for name, values in label.items()}}


class PositiveFirst(nn.Module):
    """The softmax over a list's logits puts its mass on the known positives (ListNet: Cao et al. 2007; with hard
    negatives Gao, Dai, Callan 2021, arXiv 2101.08751). A pair's logit is its best window's, as the teacher's is."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model
        self.step = 0

    def forward(self, features: list[dict[str, Any]], labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss by its name. Raises NumericError if it is not finite."""
        logits_W = torch.cat(
            [self.model(part)["scores"].reshape(len(part["input_ids"]), -1)[:, 0] for part in features]
        )
        list_P, positive_P = labels["list_P"], labels["positive_P"].bool()
        loss = positive_first(logits_W.float(), labels["pair_W"], list_P, positive_P)
        if not bool(torch.isfinite(loss)):
            raise NumericError(
                f"fitting the cross-encoder: the loss is not finite at step {self.step + 1}; lower "
                "teacher.fit.learning_rate"
            )
        return {"hard": loss}


def positive_first(logits_W: Tensor, pair_W: Tensor, list_P: Tensor, positive_P: Tensor) -> Tensor:
    """Mean over lists of minus the log of the softmax's mass on positives, in nats. Each list has one."""
    lowest_P = logits_W.new_full((len(list_P),), -torch.inf)
    logits_P = lowest_P.scatter_reduce(0, pair_W, logits_W, "amax")
    lists = int(list_P.max()) + 1
    losses = []
    for number in range(lists):
        here = list_P == number
        losses.append(logits_P[here].logsumexp(0) - logits_P[here & positive_P].logsumexp(0))
    return torch.stack(losses).mean()
