"""The bi-encoder: a sentence-transformers model, with one encoder or (a `Router`) one for each side, and its limits."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.prompts import Prompts, find_prompts
from sdretrieval.encode.tokens import specials_of
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import ModelError

if TYPE_CHECKING:
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

    Raises ModelError if it is not there, is no bi-encoder, or has fewer positions than `max_tokens`.
    """
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize

    folder = locate_model(name)
    try:
        model = SentenceTransformer(str(folder), device=torch_device(device), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as problem:
        raise ModelError(f"model {name!r} in {folder} does not load as a bi-encoder: {problem}") from problem
    if not (folder / "modules.json").is_file():
        logger.warning(
            "model %r: %s has no modules.json, so mean pooling is assumed; is the folder whole?", name, folder
        )
    chosen = prompts or find_prompts(folder, name).prompts
    encoders = split_by_side(model, name)
    for encoder in encoders:
        # Everything here ranks by inner product: a model that asks for the cosine must give vectors of length 1.
        if encoder.similarity_fn_name == "cosine" and not any(isinstance(module, Normalize) for module in encoder):
            encoder.append(Normalize())
        check_positions(name, positions_of(encoder[0]), max_tokens)
        encoder.max_seq_length = max_tokens
        encoder.eval()
        encoder.prompts = {"query": chosen.query, "document": chosen.document}
        # A default that names another prompt would be put before texts by a plain `encode`, or not load again.
        if encoder.default_prompt_name not in encoder.prompts:
            encoder.default_prompt_name = None
    query_view = View(min(query_tokens or max_tokens, max_tokens))
    return Student(encoders[0], model_digest(folder), chosen, View(max_tokens), query_view, *encoders[1:])


def positions_of(transformer: Any) -> int | None:
    """Most tokens that the model has positions for; None if it has no such limit or does not say."""
    config = getattr(getattr(transformer, "auto_model", None), "config", None)
    return positions_in(config.to_dict()) if config is not None else None


PADDING_FIRST = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Families of models that count positions from the padding id on."""


def positions_in(settings: Mapping[str, Any]) -> int | None:
    """The same, by the contents of a model's `config.json`."""
    size = settings.get("max_position_embeddings")
    if not isinstance(size, int) or size <= 0:
        return None
    if settings.get("model_type") not in PADDING_FIRST:
        return size
    padding = settings.get("pad_token_id")
    return size - (1 if padding is None else int(padding)) - 1


def check_positions(name: str, positions: int | None, max_tokens: int) -> None:
    """Raise ModelError if `max_tokens` is longer than the model's positions."""
    if positions is not None and max_tokens > positions:
        raise ModelError(
            f"model {name!r} has {positions} positions, max_tokens asks for {max_tokens}; "
            f"set max_tokens to at most {positions} (a teacher may still see more: view: {{windows: all}})"
        )


def torch_device(device: str) -> str:
    """`auto` is cuda if torch sees a GPU; `cuda` if it sees none is a ModelError."""
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


SIDES = ("query", "document")


def words_folder(folder: Path) -> Path:
    """The folder of the transformer itself, with its limits and tokenizer; of two encoders, that of the queries.

    Older sentence-transformers folders hold it in a folder of its own, and a router one for each side.
    """
    modules = json.loads((folder / "modules.json").read_text("utf8")) if (folder / "modules.json").is_file() else []
    words = folder / modules[0].get("path", "") if modules else folder
    return words / next(iter(routes_of(words).get("query", [])), "")


def routes_of(folder: Path) -> dict[str, list[str]]:
    """By side, the names of a router's module folders; empty if `folder` is no router."""
    router = folder / "router_config.json"
    return dict(json.loads(router.read_text("utf8"))["structure"]) if router.is_file() else {}


def joined_by_side(queries: SentenceTransformer, documents: SentenceTransformer) -> SentenceTransformer:
    """One model whose `encode_query` is that of `queries` and whose `encode_document` that of `documents`."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Router

    routes: dict[str, Any] = {"query": list(queries.children()), "document": list(documents.children())}
    # Without a default route a plain `encode`, which cannot know the side, is an error and not the other encoder.
    return SentenceTransformer(
        modules=[Router(routes, default_route=None, allow_empty_key=False)],
        device=str(queries.device),
        prompts={name: text or "" for name, text in queries.prompts.items()},
        similarity_fn_name=queries.similarity_fn_name,
    )


def split_by_side(model: SentenceTransformer, name: str) -> list[SentenceTransformer]:
    """The model itself; or, if it routes by side, its encoder of queries and its encoder of documents.

    Raises ModelError if these two cannot share one index or one set of tokens.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Router

    if not isinstance(model[0], Router):
        return [model]
    routes = dict(model[0].sub_modules.items())
    if not set(SIDES) <= set(routes):
        raise ModelError(f"model {name!r} routes by {', '.join(routes)}; expected routes {' and '.join(SIDES)}")
    first, *rest = model.children()
    query, document = (
        SentenceTransformer(
            modules=[*first.get_submodule(f"sub_modules.{side}").children(), *rest], device=str(model.device),
            similarity_fn_name=model.similarity_fn_name,
        )
        for side in SIDES
    )  # fmt: skip
    sizes = [encoder.get_embedding_dimension() for encoder in (query, document)]
    if sizes[0] != sizes[1]:
        raise ModelError(
            f"model {name!r}: its queries have {sizes[0]} dims, its documents {sizes[1]}; expected the same, which one "
            "index can hold; name another model"
        )
    if query.tokenizer.get_vocab() != document.tokenizer.get_vocab():
        raise ModelError(
            f"model {name!r}: its queries' and documents' encoders have different vocabularies; expected one, since "
            "texts are tokenized once; name another model"
        )
    return [query, document]
