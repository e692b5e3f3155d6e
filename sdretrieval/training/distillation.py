"""The losses that the trainer calls: the teacher's term, and InfoNCE on known positives beside it.

Legend: Q queries of the training, B queries of the batch, M distinct documents of the batch (each encoded once, in
however many lists), D dims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sdretrieval.errors import NumericError
from sdretrieval.targets.calibrate import Statistics, apply
from sdretrieval.training.losses import (
    anchors,
    embedding_distance,
    info_nce,
    listwise_kl,
    margin_mse,
    masked_log_softmax,
    weighted_mean,
    with_labels,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from sdretrieval.teachers.protocols import LiveTeacher
    from sdretrieval.training.exits import Exits

Labels = dict[str, Tensor]
Term = Tensor | None


class Distillation(nn.Module):
    """A teacher's term (`teacher_term` of a subclass) plus `hard_label_weight` x InfoNCE on known positives.

    `labelled_share`: of the training's queries, those with a known positive. InfoNCE is a mean over these; divided by
    the queries of a batch and this share, not by the labelled ones that the batch happens to have, each counts the same
    whichever queries share its batch. `label_evidence`: of `with_labels`, 0 = the teacher's target as it is.
    `batch_tokens`: most tokens of a piece of the batch, padding included. Each piece is encoded without what its way
    back needs, and again on the way back, with the gradient of its vectors: memory holds one piece, whatever the batch,
    and loss and gradients are the same (Gao et al. 2021). None keeps all of the batch.

    Regime: `features` = [queries, documents part 1, part 2, ...]: model inputs, documents in parts of similar length.
    `labels` (from `Collator`): order_M puts the parts' rows back in column order; target_log_probs_BM (-inf =
    excluded); positive_BM, negative_BM for the hard term; weight_B; queries_B (for messages); for
    `EmbeddingDistillation` also the teacher's vectors, teacher_queries_BD and teacher_documents_MD. If documents
    keep the vectors they have, documents_MD holds these, and `features` are the queries alone, in parts. half_BM, if
    the student has a lexical half, is what that adds to its scores.

    | inputs                         | labels                               | term      |
    |--------------------------------|--------------------------------------|-----------|
    | B queries, M documents         | log-probabilities (B, M)             | KL        |
    | B queries, M documents         | log-probabilities, positives (B, M)  | MarginMSE |
    | B queries, M documents         | vectors (B, D), (M, D)               | embedding |
    | B queries, M documents         | positive, negative masks (B, M)      | InfoNCE   |

    Relation to other losses: DistillKLDivLoss and MarginMSELoss take a fixed list per query; here columns are shared by
    all queries of the batch, and a teacher that can score every pair gives the whole matrix.

    The teacher is never a child module of this loss: the trainer replaces every child called `model` by the student.
    """

    name = "teacher"
    """Of the teacher's term in the metrics."""

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        student_temperature: float,
        hard_label_weight: float = 0.0,
        labelled_share: float = 1.0,
        label_evidence: float = 0.0,
        live: LiveTargets | None = None,
        batch_tokens: int | None = None,
        exits: Exits | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.student_temperature = student_temperature
        self.hard_label_weight, self.labelled_share = hard_label_weight, labelled_share
        self.label_evidence = label_evidence
        self.batch_tokens = batch_tokens
        self._live, self._exits = live, exits
        self.step = 0

    def teacher_term(self, queries_BD: Tensor, documents_MD: Tensor, scores_BM: Tensor, labels: Labels) -> Term:
        """The term that follows the teacher, a scalar; None if there is none."""
        raise NotImplementedError

    def forward(self, features: list[dict[str, Any]], labels: Labels) -> dict[str, Tensor]:
        """The weighted terms by name; the trainer sums and logs them. Raises NumericError naming step and batch."""
        kept_MD = labels.get("documents_MD")
        queries, parts = (features[:1], features[1:]) if kept_MD is None else (features, [])
        queries_BD, *exits_BD = self._vectors(queries)
        if kept_MD is None:
            documents_MD, *exits_MD = (vectors_MD[labels["order_M"]] for vectors_MD in self._vectors(parts))
        else:
            documents_MD, exits_MD = kept_MD.to(queries_BD.dtype), []
        scores_BM = queries_BD @ documents_MD.T
        if "half_BM" in labels:
            scores_BM = scores_BM + labels["half_BM"].to(scores_BM.dtype)
        if self._live is not None:
            labels = {**labels, "target_log_probs_BM": self._live.targets(queries, parts, labels)}
        if self.label_evidence:
            known = with_labels(labels["target_log_probs_BM"], labels["positive_BM"], self.label_evidence)
            labels = {**labels, "target_log_probs_BM": known}
        term = self.teacher_term(queries_BD, documents_MD, scores_BM, labels)
        terms = {} if term is None else {self.name: term}
        if self.hard_label_weight:
            hard_B = info_nce(scores_BM, labels["positive_BM"], labels["negative_BM"], self.student_temperature)
            terms["hard"] = self.hard_label_weight * hard_B.mean() / self.labelled_share
        if self._exits is not None:
            terms["exits"] = self._exits_term(exits_BD, exits_MD, scores_BM, labels.get("half_BM"))
        self._check_finite(terms, labels)
        return terms

    def _exits_term(
        self, exits_BD: Sequence[Tensor], exits_MD: Sequence[Tensor], scores_BM: Tensor, half_BM: Tensor | None
    ) -> Tensor:
        """Mean over exits and queries of KL(the student's own distribution over the batch's documents || an exit's)."""
        wanted_BM = torch.log_softmax(scores_BM.detach().float() / self.student_temperature, dim=1)
        alike_B = torch.ones(len(wanted_BM), device=wanted_BM.device)
        values = []
        for queries_BD, documents_MD in zip(exits_BD, exits_MD, strict=True):
            found_BM = queries_BD.float() @ documents_MD.float().T
            if half_BM is not None:
                found_BM = found_BM + half_BM
            values.append(listwise_kl(found_BM, wanted_BM, self.student_temperature, alike_B))
        return torch.stack(values).mean()

    def _vectors(self, parts: list[dict[str, Any]]) -> list[Tensor]:
        """Of the student, (texts, D), then of each exit."""
        if self.batch_tokens is None:
            made = [self._embed(part) for part in parts]
        else:  # dropout's random numbers and the number format are those of the first time
            again = [piece for part in parts for piece in pieces(part, self.batch_tokens)]
            made = [checkpoint(self._embed, piece, use_reentrant=False) for piece in again]
        return [torch.cat(vectors) for vectors in zip(*made, strict=True)]

    def _embed(self, part: dict[str, Any]) -> tuple[Tensor, ...]:
        features = dict(part)  # the model adds its own to what it is given
        if self._exits is not None:
            return tuple(self._exits.vectors(self.model, features))
        return (self.model(features)["sentence_embedding"],)

    def _check_finite(self, terms: dict[str, Tensor], labels: Labels) -> None:
        broken = [name for name, value in terms.items() if not bool(torch.isfinite(value))]
        if broken:
            raise NumericError(
                f"training: the term {broken[0]} is not finite at step {self.step + 1}, in the batch of queries "
                f"{labels['queries_B'].tolist()}; lower train.learning_rate or raise train.student_temperature, "
                "or train in float32. Checkpoints up to here are kept"
            )


class ListwiseDistillation(Distillation):
    """KL to the teacher's distribution over each query's documents; see `listwise_kl`. `kl_weight` 0 leaves it out."""

    name = "kl"

    def __init__(self, model: SentenceTransformer, *, kl_weight: float = 1.0, **others: Any) -> None:
        super().__init__(model, **others)
        self.kl_weight = kl_weight

    def teacher_term(self, queries_BD: Tensor, documents_MD: Tensor, scores_BM: Tensor, labels: Labels) -> Term:
        """See Distillation."""
        if not self.kl_weight:
            return None
        kl = listwise_kl(scores_BM, labels["target_log_probs_BM"], self.student_temperature, labels["weight_B"])
        return self.kl_weight * kl


class MarginDistillation(Distillation):
    """Differences of the student's scores regress on those of the teacher's; see `margin_mse` and `margin_scale`.

    `target_temperature`: the targets', by which log-probabilities become scores again, up to a constant a query.
    `scale`: cosines for one unit of the teacher's calibrated score.
    """

    name = "margin_mse"

    def __init__(self, model: SentenceTransformer, *, target_temperature: float, scale: float, **others: Any) -> None:
        super().__init__(model, **others)
        self.target_temperature, self.scale = target_temperature, scale

    def teacher_term(self, queries_BD: Tensor, documents_MD: Tensor, scores_BM: Tensor, labels: Labels) -> Term:
        """See Distillation."""
        targets_BM = labels["target_log_probs_BM"]
        excluded_BM = torch.isneginf(targets_BM)
        anchor_BM = anchors(labels["positive_BM"], targets_BM)
        teacher_BM = targets_BM * self.target_temperature
        per_query = margin_mse(scores_BM, teacher_BM, anchor_BM, excluded_BM, self.scale, self.student_temperature)
        return weighted_mean(per_query, labels["weight_B"])


class EmbeddingDistillation(Distillation):
    """The student's vectors regress on the teacher's, both sides counting alike; see `embedding_distance`."""

    name = "embedding"

    def teacher_term(self, queries_BD: Tensor, documents_MD: Tensor, scores_BM: Tensor, labels: Labels) -> Term:
        """See Distillation. A query weighs what `weight_B` says, every document 1."""
        queries_B = embedding_distance(queries_BD, labels["teacher_queries_BD"])
        documents_M = embedding_distance(documents_MD, labels["teacher_documents_MD"])
        return weighted_mean(queries_B, labels["weight_B"]) + documents_M.mean()


def pieces(part: dict[str, Any], batch_tokens: int) -> Iterator[dict[str, Any]]:
    """Model inputs of X texts as pieces of whole texts, each of at most `batch_tokens`, padding included, if it has
    several. Inputs that are no rows of token ids (of a static model, of an adapter) stay whole."""
    ids_XL = part.get("input_ids")
    if ids_XL is None or ids_XL.dim() != 2:
        yield part
        return
    texts, length = ids_XL.shape
    size = max(1, batch_tokens // length)
    for start in range(0, texts, size):
        rows = slice(start, start + size)
        yield {name: value[rows] if isinstance(value, Tensor) else value for name, value in part.items()}


@dataclass
class LiveTargets:
    """Targets that move with the student: the live EMA's scores added to the frozen members' before tempering.

    `weight` is the live member's share of the mixture (0 to 1); the rest is the frozen members', already mixed.
    `statistics` calibrate the live scores by the snapshot's own top documents; `temperature` was fitted on it.
    """

    teacher: LiveTeacher
    weight: float
    statistics: Statistics
    temperature: float

    def targets(
        self, queries: list[dict[str, Any]], parts: list[dict[str, Any]], labels: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Log-probabilities (B, M): softmax over (1 - weight) x frozen + weight x live, both calibrated.

        The batch brings the frozen part as log-probabilities, which are its scores / temperature up to a constant.
        """
        frozen_BM = labels["target_log_probs_BM"]
        live_BM = self.teacher.matrix(queries, labels.get("documents_MD", parts))[:, labels["order_M"]]
        if "half_BM" in labels:  # as the student has it
            live_BM = live_BM + labels["half_BM"].to(live_BM.dtype)
        positions = labels["positions_B"].cpu().numpy()
        calibrated = apply(live_BM.float().cpu().numpy(), self.statistics, positions, "live ema")
        calibrated_BM = torch.as_tensor(calibrated, device=live_BM.device)
        excluded = torch.isneginf(frozen_BM)
        kept_BM = (1 - self.weight) * frozen_BM.masked_fill(excluded, 0.0)
        logits_BM = kept_BM + self.weight * calibrated_BM / self.temperature
        return masked_log_softmax(logits_BM, excluded).masked_fill(excluded, float("-inf"))
