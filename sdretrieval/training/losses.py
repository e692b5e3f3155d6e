"""Listwise distillation over the documents of a batch.

Legend: B queries of the batch, M distinct documents of the batch (each encoded once, in however many lists), D dims.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sdretrieval.errors import NumericError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from sdretrieval.training.live import LiveTargets


def listwise_kl(student_BM: Tensor, target_log_probs_BM: Tensor, temperature: float, weight_B: Tensor) -> Tensor:
    """Weighted mean over queries of KL(target || student), in nats.

    The student's distribution is softmax(scores / temperature) over the documents that the teacher scored: an excluded
    document (target log-probability -inf) leaves the student's softmax too; a query without any document counts 0.
    Cao et al. (2007), Hinton et al. (2015).
    """
    excluded = torch.isneginf(target_log_probs_BM)
    student_log = masked_log_softmax(student_BM.float() / temperature, excluded)
    target_log = target_log_probs_BM.masked_fill(excluded, 0.0)
    target = target_log_probs_BM.exp()
    per_query = (target * (target_log - student_log)).sum(dim=-1)
    return (per_query * weight_B).sum() / weight_B.sum().clamp_min(1e-9)


def masked_log_softmax(logits_BM: Tensor, excluded_BM: Tensor) -> Tensor:
    """Row-wise log-softmax over what is not excluded; 0 and without gradient where excluded, also for a whole row."""
    # The lowest finite number, not -inf: a row of -inf alone has neither a softmax nor a gradient.
    lowest = torch.finfo(logits_BM.dtype).min
    return torch.log_softmax(logits_BM.masked_fill(excluded_BM, lowest), dim=-1).masked_fill(excluded_BM, 0.0)


def info_nce(student_BM: Tensor, positive_BM: Tensor, negative_BM: Tensor, temperature: float) -> Tensor:
    """Mean over labelled queries of -log(mass of the positives / mass of positives and negatives).

    A document that is neither (a suspected false negative) is left out. Queries without a positive do not count.
    van den Oord et al. (2018).
    """
    labelled = positive_BM.any(dim=-1)
    if not bool(labelled.any()):
        return student_BM.sum() * 0.0
    # Rows are chosen before the logarithm: that of an empty row is infinite, and its gradient not a number.
    logits, positive = student_BM[labelled].float() / temperature, positive_BM[labelled]
    allowed = logits.masked_fill(~(positive | negative_BM[labelled]), float("-inf"))
    hits = logits.masked_fill(~positive, float("-inf"))
    return (torch.logsumexp(allowed, dim=-1) - torch.logsumexp(hits, dim=-1)).mean()


class ListwiseDistillation(nn.Module):
    """KL to the teacher's distribution plus `hard_label_weight` x InfoNCE on known positives.

    Regime: `features` = [queries, documents part 1, part 2, ...]: model inputs, documents in parts of similar length.
    `labels` (from `BatchMaker`): order_M puts the parts' rows back in column order; target_log_probs_BM (-inf =
    excluded); positive_BM, negative_BM for the hard term; weight_B; queries_B (for messages).

    | inputs                         | labels                               | term      |
    |--------------------------------|--------------------------------------|-----------|
    | B queries, M documents         | log-probabilities (B, M)             | KL        |
    | B queries, M documents         | positive, negative masks (B, M)      | InfoNCE   |

    Relation to other losses: DistillKLDivLoss takes a fixed list per query; here columns are shared by all queries of
    the batch, and a teacher that can judge every pair gives the whole matrix.

    The teacher is never a child module of this loss: the trainer replaces every child called `model` by the student.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        student_temperature: float,
        kl_weight: float = 1.0,
        hard_label_weight: float = 0.0,
        live: LiveTargets | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.student_temperature = student_temperature
        self.kl_weight, self.hard_label_weight = kl_weight, hard_label_weight
        self._live = live
        self.step = 0

    def forward(self, features: list[dict[str, Any]], labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms by name; the trainer sums and logs them. Raises NumericError naming step and batch."""
        queries, parts = features[0], features[1:]
        query_vectors_BD = self.model(queries)["sentence_embedding"]
        document_vectors_MD = torch.cat([self.model(part)["sentence_embedding"] for part in parts])[labels["order_M"]]
        student_BM = query_vectors_BD @ document_vectors_MD.T
        targets_BM = labels["target_log_probs_BM"]
        if self._live is not None:
            targets_BM = self._live.targets(queries, parts, labels)
        terms = {}
        if self.kl_weight:
            kl = listwise_kl(student_BM, targets_BM, self.student_temperature, labels["weight_B"])
            terms["kl"] = self.kl_weight * kl
        if self.hard_label_weight:
            hard = info_nce(student_BM, labels["positive_BM"], labels["negative_BM"], self.student_temperature)
            terms["hard"] = self.hard_label_weight * hard
        self._check_finite(terms, labels)
        return terms

    def _check_finite(self, terms: dict[str, Tensor], labels: dict[str, Tensor]) -> None:
        broken = [name for name, value in terms.items() if not bool(torch.isfinite(value))]
        if broken:
            raise NumericError(
                f"training: the term {broken[0]} is not finite at step {self.step + 1}, in the batch of queries "
                f"{labels['queries_B'].tolist()}; lower train.learning_rate or raise train.student_temperature, "
                "or train in float32. Checkpoints up to here are kept"
            )
