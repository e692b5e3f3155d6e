"""Smaller students, fitted to the vectors of a larger one: they stay in its space, so that its document index can be
searched by the smaller one's queries.

Legend: T texts, B texts of a batch, V tokens of the vocabulary, D dims of the smaller student, F of the larger one.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sdretrieval.encode.batches import budget_batches, features_of, is_static, usual_batch_tokens
from sdretrieval.encode.encoder import Precision, encode_sequences
from sdretrieval.encode.student import Student
from sdretrieval.errors import ModelError, NumericError
from sdretrieval.ragged import Array
from sdretrieval.training.batches import PART_TOKENS, Side
from sdretrieval.training.losses import masked_log_softmax

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

RARE = 1e-3
"""A token's vector is begun with the weight RARE / (RARE + its share of the corpus): frequent ones say little.
Arora et al. (2017)."""
RIDGE = 0.01
"""Of a regression, as a share of the mean square of what it reads."""
SCORES_WEIGHT = 0.2
"""Of the divergence of the scores beside the distance of the vectors."""


def first_layers(model: SentenceTransformer, count: int, name: str, last: int = 0) -> SentenceTransformer:
    """A copy with `count` of the transformer's layers: its first ones, but for the `last` ones, which are its last.
    Raises ModelError if it has no more than these."""
    smaller = copy.deepcopy(model)
    transformer: Any = smaller[0].auto_model
    module, key, layers = found_layers(transformer, count, name)
    kept = [*range(count - last), *range(len(layers) - last, len(layers))]
    setattr(module, key, nn.ModuleList([layers[n] for n in kept]))
    config = transformer.config
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):  # one for each layer, else the saved model does not load
        config.layer_types = [config.layer_types[n] for n in kept]
    return smaller


def found_layers(transformer: Any, count: int, name: str) -> tuple[nn.Module, str, nn.ModuleList]:
    """A transformer's list of layers, the module that holds it, and what it is called there. Raises ModelError if it
    has no more than `count`."""
    layers = int(transformer.config.num_hidden_layers)
    if count >= layers:
        raise ModelError(f"model {name!r} has {layers} layers, found {count} asked for; expected fewer")
    for module in transformer.modules():
        for key, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == layers:
                return module, key, child
    raise ModelError(
        f"model {name!r}: its layers are not to be found, a list of {layers} modules; ask for no layers of it"
    )


def static_model(student: Student, counts_V: Array, precision: Precision) -> SentenceTransformer:
    """A model without a transformer: a text's vector is the mean of its tokens' own, made length 1.

    A token's vector begins as what `student` makes of it alone, times a weight that falls with `counts_V`, how often
    the corpus has it. As in Model2Vec (Tulkens and van Dongen, 2024).
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    specials = student.document_specials
    alone = [student.view.cut(np.array([token], dtype=np.int32), specials)[0] for token in range(len(counts_V))]
    vectors_VD = encode_sequences(student.document_model, alone, specials, precision=precision)
    shares_V = counts_V / max(int(counts_V.sum()), 1)
    weighted_VD = (vectors_VD * (RARE / (RARE + shares_V))[:, None]).astype(np.float32)
    tokenizer = copy.deepcopy(student.tokenizer)  # of its own: how much of a text it reads is a tokenizer's setting
    module = StaticEmbedding(tokenizer, embedding_weights=weighted_VD)
    prompts = {name: text or "" for name, text in student.model.prompts.items()}
    similarity, device = student.model.similarity_fn_name, str(student.model.device)
    return SentenceTransformer(
        modules=[module, Normalize()], device=device, prompts=prompts, similarity_fn_name=similarity
    )


def tokens_alone(model: SentenceTransformer, tokens_S: Array) -> SentenceTransformer:
    """A static model with the vectors of some tokens, which it knows by their position among these: only what texts
    hold can learn, and a table of a quarter of a million tokens is dear to train."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    first: Any = model[0]
    table_VD = first.embedding.weight.detach().cpu().numpy()
    module = StaticEmbedding(model.tokenizer, embedding_weights=table_VD[tokens_S])
    return SentenceTransformer(modules=[module, Normalize()], device=str(model.device))


def put_tokens(model: SentenceTransformer, tokens_S: Array, learned: SentenceTransformer) -> None:
    """What `tokens_alone` learned, back into `model`."""
    whole: Any = model[0]
    part: Any = learned[0]
    with torch.no_grad():
        whole.embedding.weight[tokens_S] = part.embedding.weight.to(model.device)


def map_modules(map_FD: Array) -> list[nn.Module]:
    """What maps vectors linearly and makes them length 1 again."""
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    weight_DF = torch.from_numpy(np.ascontiguousarray(map_FD.T))
    dims, wide = weight_DF.shape
    return [Dense(wide, dims, bias=False, activation_function=nn.Identity(), init_weight=weight_DF), Normalize()]


def principal_dims(vectors_NF: Array, dims: int) -> Array:
    """The map (F, `dims`) to the directions in which vectors are longest: inner products keep most of their size.

    Not centred: a shift that a query and a document share would change the order.
    """
    second_FF = np.zeros((vectors_NF.shape[1],) * 2)
    for start in range(0, len(vectors_NF), 8192):
        block_NF = np.asarray(vectors_NF[start : start + 8192], dtype=np.float64)
        second_FF += block_NF.T @ block_NF
    _, directions_FF = np.linalg.eigh(second_FF)  # ascending
    return np.ascontiguousarray(directions_FF[:, ::-1][:, :dims], dtype=np.float32)


def linear_map(from_NF: Array, to_ND: Array) -> Array:
    """The map (F, D) that brings vectors nearest to others of the same texts: ridge regression."""
    inner_FF, cross_FD = (from_NF.T.astype(np.float64) @ one_ND for one_ND in (from_NF, to_ND))
    inner_FF += RIDGE * np.trace(inner_FF) / len(inner_FF) * np.eye(len(inner_FF))
    return np.linalg.solve(inner_FF, cross_FD).astype(np.float32)


@dataclass(frozen=True)
class FittedTexts:
    """Texts of one side that a smaller student is fitted on, and the larger one's vectors of them.

    `rows_T`: of `side`, whose texts it reads, and of `targets_ND`. Without a side it reads vectors, as a linear map
    does: those of `read_NF`, or the targets themselves.
    """

    rows_T: Array
    targets_ND: Array
    side: Side | None = None
    read_NF: Array | None = None


@dataclass
class VectorBatches:
    """Collates visits of texts into model features and the vectors to come near to. `texts`: counted one after the
    other, those of the first group first. `row_of_token_V`: of `model`, if it is static and holds `seen` tokens."""

    model: SentenceTransformer
    texts: Sequence[FittedTexts]
    row_of_token_V: Array | None = None
    valid_label_columns: list[str] = field(default_factory=lambda: ["label"])

    @cached_property
    def _starts(self) -> Array:
        return np.cumsum([0, *(len(group.rows_T) for group in self.texts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __call__(self, visits: Sequence[dict[str, int]]) -> dict[str, Any]:
        """One batch: part0_*, part1_* ... features of texts of one side and of similar length, and the label's
        `targets_BD`, in the order of the parts."""
        positions_B = np.sort(np.asarray([visit["position"] for visit in visits], dtype=np.int64))
        device = self.model.device.type
        most = PART_TOKENS if device == "cpu" else usual_batch_tokens(device)
        if is_static(self.model):  # nothing is padded, and each part would have a gradient of the whole table
            most = sys.maxsize
        batch: dict[str, Any] = {}
        targets: list[Array] = []
        for group, start, end in zip(self.texts, self._starts, self._starts[1:], strict=False):
            rows = group.rows_T[positions_B[(positions_B >= start) & (positions_B < end)] - start]
            parts: list[tuple[Array, dict[str, Any]]] = []
            if group.side is None:
                read_ND = group.targets_ND if group.read_NF is None else group.read_NF
                vectors = torch.from_numpy(np.asarray(read_ND[rows], dtype=np.float32))
                parts = [(rows, {"sentence_embedding": vectors})] if len(rows) else []
            else:
                sequences = [group.side.sequence(int(row)) for row in rows]
                for part in budget_batches([len(one) for one in sequences], most):
                    shown = features_of(self.model, [sequences[i] for i in part], group.side.specials)
                    if self.row_of_token_V is not None:
                        shown["input_ids"] = torch.from_numpy(self.row_of_token_V[shown["input_ids"].numpy()])
                    parts.append((rows[part], shown))
            for some, features in parts:
                batch.update({f"part{len(targets)}_{name}": value for name, value in features.items()})
                targets.append(group.targets_ND[some])
        return {**batch, "label": {"targets_BD": torch.from_numpy(np.concatenate(targets).astype(np.float32))}}


class SameVectors(nn.Module):
    """A smaller student's vectors come near to a larger one's: their cosine distance (Vujanic and Rueckstiess, 2025,
    arXiv 2509.12539), and the divergence of what a batch's texts score among each other (Fang et al., 2021, arXiv
    2101.04731), which says where distance matters. Without `distance` the latter alone: what both sides are encoded by
    may leave the larger one's space. See `VectorBatches` for `labels`.
    """

    def __init__(self, model: SentenceTransformer, temperature: float, *, distance: bool = True) -> None:
        super().__init__()
        self.model, self.temperature, self.distance = model, temperature, distance
        self.step = 0

    def forward(self, features: list[dict[str, Any]], labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms by name. Raises NumericError if one is not finite."""
        vectors_BD = torch.cat([self.model(part)["sentence_embedding"] for part in features]).float()
        targets_BD = labels["targets_BD"]
        scores = divergence(vectors_BD, targets_BD, self.temperature)
        if self.distance:
            distance = (1 - (vectors_BD * targets_BD).sum(dim=1)).mean()
            terms = {"cosine": distance, "scores": SCORES_WEIGHT * scores}
        else:
            terms = {"scores": scores}
        if not all(bool(torch.isfinite(term)) for term in terms.values()):
            raise NumericError(
                f"smaller: the loss is not finite at step {self.step + 1}; give the smaller student fewer passes "
                "(smaller.epochs), or train in float32 (train.precision)"
            )
        return terms


def divergence(vectors_BD: Tensor, targets_BD: Tensor, temperature: float) -> Tensor:
    """Mean over texts of KL(softmax of the target's cosines with all other texts / temperature || the same of the
    vectors), in nats. All vectors have length 1."""
    itself = torch.eye(len(vectors_BD), dtype=torch.bool, device=vectors_BD.device)
    found, wanted = (
        masked_log_softmax(rows_BD @ rows_BD.T / temperature, itself) for rows_BD in (vectors_BD, targets_BD)
    )
    return (wanted.exp().masked_fill(itself, 0.0) * (wanted - found)).sum(dim=1).mean()
