"""What a term of the loss is, as plain functions; `distillation.py` puts them together.

Legend: B queries of the batch, M distinct documents of the batch (each encoded once, in however many lists), D dims.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sdretrieval.errors import NumericError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import per_entry, reduced


def listwise_kl(student_BM: Tensor, target_log_probs_BM: Tensor, temperature: float, weight_B: Tensor) -> Tensor:
    """Weighted mean over queries of KL(target || student) = sum p_t (log p_t - log p_s), in nats, a scalar.

    `student_BM`: raw scores (cosines); the student's distribution is softmax(scores / temperature) over the documents
    that the teacher scored. `target_log_probs_BM`: log-sum-exp 0 in each row; -inf = excluded, leaves the student's
    softmax too; a row without any document counts 0. `temperature`: the student's, above 0. `weight_B`: mean 1 over
    the training. Cao et al. (2007), Hinton et al. (2015).

    Not multiplied by a squared temperature, as Hinton's is: there one temperature divides both sides and the hard term
    has none. Here the teacher's temperature shapes the target alone, the student's divides the scores of `info_nce`
    too, and so both terms' gradients are (student's - target's probability) / temperature.
    """
    excluded = torch.isneginf(target_log_probs_BM)
    student_log = masked_log_softmax(student_BM.float() / temperature, excluded)
    target_log = target_log_probs_BM.masked_fill(excluded, 0.0)
    target = target_log_probs_BM.exp()
    per_query = (target * (target_log - student_log)).sum(dim=-1)
    return weighted_mean(per_query, weight_B)


def with_labels(target_log_probs_BM: Tensor, positive_BM: Tensor, evidence: float) -> Tensor:
    """The target once the labels are known: p(d) e^evidence / Z for a known positive d, p(d) / Z for the others.

    That is Bayes' rule if a label is right with probability 1 - e and else falls on any of K documents alike, with
    evidence = log(K (1 - e) / e) nats: the same for all labels, so that one which the teacher finds next to impossible
    stays improbable. `target_log_probs_BM` as of `listwise_kl`; what is excluded stays so. Reed et al. (2015) mix the
    label and the prediction with fixed shares.
    """
    excluded_BM = torch.isneginf(target_log_probs_BM)
    log_probs_BM = masked_log_softmax(target_log_probs_BM + evidence * positive_BM, excluded_BM)
    return log_probs_BM.masked_fill(excluded_BM, float("-inf"))


def weighted_mean(values_B: Tensor, weight_B: Tensor) -> Tensor:
    """Mean of weight x value over the batch, divided by its size and not by its weights.

    Weights have mean 1 over the training: so a query counts the same whichever queries share its batch. Batches that
    are accumulated, or spread over processes, then make the update of one large batch, as far as a query's value does
    not depend on the documents that other queries bring (docs/method.md).
    """
    return (values_B * weight_B).sum() / len(weight_B)


def masked_log_softmax(logits_BM: Tensor, excluded_BM: Tensor) -> Tensor:
    """Row-wise log-softmax over what is not excluded; 0 and without gradient where excluded, also for a whole row."""
    # The lowest finite number, not -inf: a row of -inf alone has neither a softmax nor a gradient.
    lowest = torch.finfo(logits_BM.dtype).min
    return torch.log_softmax(logits_BM.masked_fill(excluded_BM, lowest), dim=-1).masked_fill(excluded_BM, 0.0)


def info_nce(student_BM: Tensor, positive_BM: Tensor, negative_BM: Tensor, temperature: float) -> Tensor:
    """Each query's -log(mass of the positives / mass of positives and negatives), shape (B,); 0 without a positive.

    A document's mass is exp(score / temperature), `student_BM` raw scores (cosines). `positive_BM`, `negative_BM`: bool
    masks that do not overlap; a document that is neither (a suspected false negative) is left out.
    van den Oord et al. (2018).
    """
    labelled_B = positive_BM.any(dim=-1)
    # A row without a positive gets all: its logarithms are finite, their difference and its gradient 0.
    positive_BM = positive_BM | ~labelled_B[:, None]
    logits_BM = student_BM.float() / temperature
    allowed_BM = logits_BM.masked_fill(~(positive_BM | negative_BM), float("-inf"))
    hits_BM = logits_BM.masked_fill(~positive_BM, float("-inf"))
    return (torch.logsumexp(allowed_BM, dim=-1) - torch.logsumexp(hits_BM, dim=-1)).masked_fill(~labelled_B, 0.0)


def margin_mse(
    student_BM: Tensor, teacher_BM: Tensor, anchor_BM: Tensor, excluded_BM: Tensor, scale: float, temperature: float
) -> Tensor:
    """Each query's mean over pairs of ((student's margin - scale x teacher's margin) / temperature)^2 / 4, shape (B,).

    A margin is an anchor's score less another document's; the pairs are every anchor of a query with each of its other
    documents. `teacher_BM` is wanted up to a constant a query, which no margin sees. `scale` turns its unit into
    cosines; `temperature` is the student's. A quarter, since the divergence of two softmaxes is to second order half
    the variance of their logits' differences, which is a quarter of the mean square over pairs: so the term is of the
    order of `listwise_kl`. A query without an anchor or without a second document counts 0.
    Hofstaetter et al. (2020), arXiv 2010.02666.
    """
    kept_BM = ~excluded_BM
    error_BM = (student_BM.float() - scale * teacher_BM.masked_fill(excluded_BM, 0.0)).masked_fill(excluded_BM, 0.0)
    count_B = kept_BM.sum(dim=-1)
    # Margins do not see a constant; without it the sums below do not cancel.
    centred_BM = (error_BM - error_BM.sum(dim=-1, keepdim=True) / count_B.clamp_min(1)[:, None]) * kept_BM
    # Sum over d of (e_a - e_d)^2 = n e_a^2 + sum of e_d^2, since the e_d sum to 0: no (B, M, M) is needed.
    spread_B = centred_BM.square().sum(dim=-1)
    of_anchor_BM = count_B[:, None] * centred_BM.square() + spread_B[:, None]
    anchors_BM = anchor_BM & kept_BM
    pairs_B = anchors_BM.sum(dim=-1) * (count_B - 1)
    return (of_anchor_BM * anchors_BM).sum(dim=-1) / pairs_B.clamp_min(1) / (4 * temperature**2)


def anchors(positive_BM: Tensor, target_log_probs_BM: Tensor) -> Tensor:
    """The documents whose margins are learned, bool (B, M): the known positives, or the teacher's best if a query
    has none among the documents that the teacher scored."""
    excluded_BM = torch.isneginf(target_log_probs_BM)
    known_BM = positive_BM & ~excluded_BM
    best_B1 = target_log_probs_BM.argmax(dim=-1, keepdim=True)
    best_BM = torch.zeros_like(known_BM).scatter_(1, best_B1, True) & ~excluded_BM
    return torch.where(known_BM.any(dim=-1, keepdim=True), known_BM, best_BM)


def embedding_distance(student_XD: Tensor, teacher_XD: Tensor) -> Tensor:
    """Squared distance of unit vectors, 2 - 2 cos, of each text, shape (X,): 0 if the direction is the teacher's.

    `student_XD`: vectors of any length but 0; `teacher_XD`: of length 1, in the student's dimensions.
    Vujanic and Rueckstiess (2025), LEAF, arXiv 2509.12539.
    """
    return (torch.nn.functional.normalize(student_XD.float(), dim=-1) - teacher_XD.float()).square().sum(dim=-1)


def margin_scale(student: Ragged, teacher: Ragged) -> float:
    """Standard deviation of the student's scores within its lists, over that of the teacher's.

    How many cosines one unit of the teacher's calibrated score is worth: with it the lists keep their spread and learn
    their order. It is fitted once, on the mined lists and the student as it starts, and stays: a factor learned along
    could shrink to 0, and with it every margin and the loss. A least-squares fit would shrink it by as much as student
    and teacher disagree.

    `student`, `teacher`: scores of the same lists, Q lists of T candidates in all; `teacher` -inf = excluded, left out
    of both. Raises NumericError if either has no spread at all.
    """
    included_T = np.isfinite(teacher.values_T)
    spreads = {}
    for name, lists in (("student", student), ("teacher", teacher)):
        values_T = np.where(included_T, lists.values_T, 0.0).astype(np.float64)
        count_Q = np.maximum(reduced(np.add, included_T, lists, 0.0), 1.0)
        centred_T = values_T - per_entry(reduced(np.add, values_T, lists, 0.0) / count_Q, lists)
        spreads[name] = float(np.sqrt(np.square(centred_T[included_T]).mean())) if included_T.any() else 0.0
        if not spreads[name] > 0:
            raise NumericError(
                f"train.margin_scale auto: the {name}'s scores are equal within every list, so margins have no scale; "
                "set train.margin_scale to a number (cosines for one unit of the teacher's score)"
            )
    return spreads["student"] / spreads["teacher"]
