"""Pieces of a document find each other among those of other documents: what a student learns from a corpus before any
teacher.

Legend: B documents of a batch, P pieces (two of each document), D dims.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from sdretrieval.encode.batches import budget_batches, features_of, is_static, usual_batch_tokens
from sdretrieval.errors import NumericError
from sdretrieval.ragged import Array
from sdretrieval.training.batches import PART_TOKENS, Side

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LEAST_TOKENS, MOST_TOKENS = 8, 40
"""Of a piece, evenly drawn: as long as a query or a sentence."""


@dataclass
class PieceBatches:
    """Collates visits of documents into two pieces of each: one as a query, one as a document.

    `rows_N`: of the documents that have pieces, in `documents`. `group_N`: equal if two documents' texts are.
    """

    model: SentenceTransformer
    queries: Side
    documents: Side
    rows_N: Array
    group_N: Array
    seed: int
    valid_label_columns: list[str] = field(default_factory=lambda: ["label"])

    def __len__(self) -> int:
        return len(self.rows_N)

    def __call__(self, visits: Sequence[dict[str, int]]) -> dict[str, Any]:
        """One batch: part0_*, part1_* ... features of pieces of similar length of one side. The label: `order_P` puts
        the vectors of all parts into the order of the documents, those that are queries first; `group_B`."""
        device = self.model.device.type
        most = PART_TOKENS if device == "cpu" else usual_batch_tokens(device)
        if is_static(self.model):  # nothing is padded, and each part would have a gradient of the whole table
            most = sys.maxsize
        rows_B = self.rows_N[[visit["position"] for visit in visits]]
        sides: tuple[list[Array], list[Array]] = ([], [])
        for visit, row in zip(visits, rows_B.tolist(), strict=True):
            chance = np.random.default_rng((self.seed, row, visit["visit"]))
            content = self.documents.tokens[row]
            for pieces in sides:
                pieces.append(piece(content, chance))
        batch: dict[str, Any] = {}
        places: list[Array] = []
        for number, (side, pieces) in enumerate(zip((self.queries, self.documents), sides, strict=True)):
            sequences = [side.view.cut(one, side.specials)[0] for one in pieces]
            for part in budget_batches([len(one) for one in sequences], most):
                shown = features_of(self.model, [sequences[i] for i in part], side.specials)
                batch.update({f"part{len(places)}_{name}": value for name, value in shown.items()})
                places.append(part + number * len(rows_B))
        order_P, group_B = np.argsort(np.concatenate(places)), self.group_N[rows_B]
        return {**batch, "label": {"order_P": torch.from_numpy(order_P), "group_B": torch.from_numpy(group_B)}}


def piece(content: Array, chance: np.random.Generator) -> Array:
    """Some tokens of a document that follow each other: at most half of a short one, so that two of it differ."""
    most = min(MOST_TOKENS, max(len(content) // 2, LEAST_TOKENS))
    length = int(chance.integers(LEAST_TOKENS, most + 1))
    start = int(chance.integers(max(len(content) - length, 0) + 1))
    return content[start : start + length]


class SameDocument(nn.Module):
    """InfoNCE, either way, of two pieces of each document among those of the batch's other documents: the contrastive
    step of COCO-DR (Yu et al. 2022, arXiv 2210.15212) on pieces as Contriever crops them (Izacard et al. 2022, arXiv
    2112.09118). Copies of a document are no negatives of it. See `PieceBatches` for `labels`."""

    def __init__(self, model: SentenceTransformer, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        self.step = 0

    def forward(self, features: list[dict[str, Any]], labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss by its name. Raises NumericError if it is not finite."""
        vectors_PD = torch.cat([self.model(part)["sentence_embedding"] for part in features]).float()
        vectors_PD = normalize(vectors_PD, dim=1)  # a model of inner products has longer ones, of any length
        one_BD, other_BD = vectors_PD[labels["order_P"]].chunk(2)
        loss = same_document(one_BD @ other_BD.T / self.temperature, labels["group_B"])
        if not bool(torch.isfinite(loss)):
            raise NumericError(
                f"pretraining: the loss is not finite at step {self.step + 1}; lower pretrain.learning_rate, or train "
                "in float32 (train.precision)"
            )
        return {"pieces": loss}


def same_document(scores_BB: Tensor, group_B: Tensor) -> Tensor:
    """Mean of both directions' cross-entropy, in nats; row and column i are of the same document."""
    copies_BB = (group_B[:, None] == group_B) & ~torch.eye(len(group_B), dtype=torch.bool, device=group_B.device)
    scores_BB = scores_BB.masked_fill(copies_BB, -torch.inf)
    itself_B = torch.arange(len(scores_BB), device=scores_BB.device)
    return (cross_entropy(scores_BB, itself_B) + cross_entropy(scores_BB.T, itself_B)) / 2
