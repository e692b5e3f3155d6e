"""The bi-encoder: a sentence-transformers model together with what this project must know of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdretrieval.encode.batches import pad
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.prompts import Prompts, find_prompts
from sdretrieval.encode.sides import joined_by_side, split_by_side
from sdretrieval.encode.tokens import specials_of
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import ModelError
from sdretrieval.ragged import Array

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Student:
    """A loaded bi-encoder. `view` is what it sees of a document, `query_view` of a query.

    `model` encodes queries, and documents too unless these have an encoder of their own (`document_encoder`).
    """

    model: SentenceTransformer
    digest: str
    prompts: Prompts
    view: View
    query_view: View
    document_encoder: SentenceTransformer | None = None

    @property
    def document_model(self) -> SentenceTransformer:
        """What encodes documents."""
        return self.model if self.document_encoder is None else self.document_encoder

    @property
    def dims(self) -> int:
        """Length of a vector."""
        size = self.model.get_embedding_dimension()
        assert size is not None
        return int(size)

    @cached_property
    def document_specials(self) -> Specials:
        """Ids around a document's window."""
        return specials_of(self.model.tokenizer, self.prompts.document)

    @cached_property
    def query_specials(self) -> Specials:
        """Ids around a query."""
        return specials_of(self.model.tokenizer, self.prompts.query)

    def features(self, sequences: Sequence[Array], specials: Specials) -> dict[str, torch.Tensor]:
        """Padded model inputs for token id sequences, as sentence-transformers' modules expect them."""
        return features_of(self.model, sequences, specials)


def features_of(model: SentenceTransformer, sequences: Sequence[Array], specials: Specials) -> dict[str, Any]:
    """input_ids, attention_mask (and token_type_ids, prompt_length where the model uses them) on the CPU."""
    import torch

    ids_BL, mask_BL = pad(sequences, model.tokenizer.pad_token_id or 0)
    features: dict[str, Any] = {"input_ids": torch.from_numpy(ids_BL), "attention_mask": torch.from_numpy(mask_BL)}
    if "token_type_ids" in model.tokenizer.model_input_names:
        features["token_type_ids"] = torch.zeros_like(features["input_ids"])
    if specials.prompt and not all(getattr(module, "include_prompt", True) for module in model):
        features["prompt_length"] = len(specials.prefix) + len(specials.prompt)
    return features


def load_student(
    name: str,
    *,
    max_tokens: int = 256,
    query_tokens: int | None = 64,
    prompts: Prompts | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Student:
    """Load a bi-encoder by hub id or folder; its own prompts (`find_prompts`) are used unless `prompts` says otherwise.

    The loaded model holds the prompts as `query` and `document`, so that whatever saves it keeps them. A folder whose
    one module routes queries and documents to encoders of their own (`Router`) gives a student with both.

    Raises ModelError where it is not there, is no bi-encoder, or has fewer positions than `max_tokens`.
    """
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    folder = locate_model(name)
    try:
        model = SentenceTransformer(str(folder), device=torch_device(device), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as problem:
        raise ModelError(f"model {name!r} in {folder} does not load as a bi-encoder: {problem}") from problem
    if not (folder / "modules.json").is_file():
        logger.warning(
            "model %r: %s has no modules.json, so mean pooling is assumed; is the folder whole?", name, folder
        )
    found = prompts or find_prompts(folder, name).prompts
    encoders = split_by_side(model, name)
    for encoder in encoders:
        _make_unit_length(encoder)
        check_positions(name, positions_of(encoder[0]), max_tokens)
        encoder.max_seq_length = max_tokens
        encoder.eval()
        _hold_prompts(encoder, found)
    query_view = View(min(query_tokens or max_tokens, max_tokens))
    return Student(encoders[0], model_digest(folder), found, View(max_tokens), query_view, *encoders[1:])


def _hold_prompts(model: SentenceTransformer, prompts: Prompts) -> None:
    """A default that stands for another prompt would be put before texts by a plain `encode`, or not load again."""
    model.prompts = {"query": prompts.query, "document": prompts.document}
    if model.default_prompt_name not in model.prompts:
        model.default_prompt_name = None


def _make_unit_length(model: SentenceTransformer) -> None:
    """Everything here ranks by inner product: a model that asks for the cosine must give vectors of length 1."""
    from sentence_transformers.sentence_transformer.modules import Normalize

    if model.similarity_fn_name == "cosine" and not any(isinstance(module, Normalize) for module in model):
        model.append(Normalize())


def positions_of(transformer: Any) -> int | None:
    """Most tokens that the model has positions for; None where it has no such limit or does not say."""
    config = getattr(getattr(transformer, "auto_model", None), "config", None)
    size = getattr(config, "max_position_embeddings", None)
    if size is None or size <= 0:
        return None
    # RoBERTa and its kin count positions from the padding id on.
    offset = getattr(config, "pad_token_id", 0) + 1 if getattr(config, "model_type", "") in ROBERTA_KIN else 0
    return int(size) - offset


ROBERTA_KIN = ("roberta", "xlm-roberta", "camembert", "mpnet")


def check_positions(name: str, positions: int | None, max_tokens: int) -> None:
    """Raise ModelError where `max_tokens` is longer than the model's positions."""
    if positions is not None and max_tokens > positions:
        raise ModelError(
            f"model {name!r} has {positions} positions, max_tokens asks for {max_tokens}; "
            f"set max_tokens to at most {positions} (a teacher may still see more: view: {{windows: all}})"
        )


def torch_device(device: str) -> str:
    """`auto` is cuda where torch sees one; `cuda` where it sees none is a ModelError."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device: {device} was asked for, torch sees no GPU; use device: auto or cpu")
    return device


def save_student(
    student: SentenceTransformer, folder: Path, document_encoder: SentenceTransformer | None = None
) -> None:
    """Write a plain sentence-transformers folder (safetensors, no generated card).

    With `document_encoder`, what `encode_query` and `encode_document` of the folder's model call are `student` and it.
    """
    whole = student if document_encoder is None else joined_by_side(student, document_encoder)
    whole.save_pretrained(str(folder), create_model_card=False)
