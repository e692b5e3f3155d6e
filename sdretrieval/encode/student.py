"""The bi-encoder: a sentence-transformers model, with one encoder or (a `Router`) one for each side, and its limits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sdretrieval.encode.batches import is_static
from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.loading import UNUSED, check_vocabulary, check_weights, embedded_tokens, loaded, reason_of
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.model_files import MODULES, SIDES, check_is_bi_encoder, check_routes, plain_folder
from sdretrieval.encode.prompts import Prompts, find_prompts
from sdretrieval.encode.tokens import specials_of, tokenize, tokenizer_of
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import ModelError
from sdretrieval.ragged import Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)


class TextVectors(Protocol):
    """Vectors of texts, float32 (N, dims)."""

    @property
    def dims(self) -> int:
        """Length of a vector."""

    def queries(self, texts: Sequence[str]) -> Array:
        """Of queries."""

    def documents(self, texts: Sequence[str]) -> Array:
        """Of documents."""


@dataclass(frozen=True)
class Student:
    """A loaded bi-encoder. `view` is what it sees of a document, `query_view` of a query.

    `model` encodes queries, and documents too unless these have an encoder of their own (`document_encoder`). `half`:
    what stands behind the model's dims in each vector, if there is a lexical half.
    """

    model: SentenceTransformer
    digest: str
    prompts: Prompts
    view: View
    query_view: View
    document_encoder: SentenceTransformer | None = None
    name: str = ""
    half: TextVectors | None = None

    @property
    def document_model(self) -> SentenceTransformer:
        """What encodes documents."""
        return self.model if self.document_encoder is None else self.document_encoder

    @property
    def dims(self) -> int:
        """Length of a vector."""
        size = self.model.get_embedding_dimension()
        assert size is not None
        return int(size) + (self.half.dims if self.half else 0)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's, of transformers."""
        return tokenizer_of(self.model)

    @property
    def unit_length(self) -> bool:
        """Whether the model itself makes vectors of length 1, so that an inner product is a cosine."""
        from sentence_transformers.sentence_transformer.modules import Normalize

        return self.half is None and all(isinstance(one[-1], Normalize) for one in (self.model, self.document_model))

    @cached_property
    def document_specials(self) -> Specials:
        """Ids around a document's window."""
        return specials_of(tokenizer_of(self.document_model), self.prompts.document)

    @cached_property
    def query_specials(self) -> Specials:
        """Ids around a query."""
        return specials_of(self.tokenizer, self.prompts.query)


def load_student(
    name: str,
    *,
    max_tokens: int = 256,
    query_tokens: int | None = None,
    prompts: Prompts | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Student:
    """Load a bi-encoder by hub id or folder, in float32, with `prompts`; None: its own (`find_prompts`).

    The loaded model holds prompts and lengths, so that whatever saves it keeps them: its `encode_query` and
    `encode_document` read what is read here. A folder whose one module routes queries and documents to encoders of
    their own (`Router`) gives a student with both. A static model has one length for both sides, `max_tokens`. Of a
    student with a lexical half this loads the rest; `with_half` adds it.

    Raises ModelError if it is not there, is damaged, is no bi-encoder that is ranked by an inner product, has another
    model's tokenizer, or has fewer positions than `max_tokens`.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize

    folder, where = locate_model(name), torch_device(device)
    plain = plain_folder(folder)
    check_is_bi_encoder(name, folder)
    chosen, digest = prompts or find_prompts(folder, name).prompts, model_digest(folder)
    model = loaded(
        f"model {name!r} in {folder} does not load as a bi-encoder",
        lambda: SentenceTransformer(str(plain), device=where, trust_remote_code=trust_remote_code),
        UNUSED,
    )
    if not (plain / MODULES).is_file():
        logger.warning(
            "model %r: %s has no modules.json, so mean pooling is assumed; is the folder whole?", name, folder
        )
    encoders = split_by_side(model, name)
    query_view = View(max_tokens if is_static(encoders[0]) else min(query_tokens or max_tokens, max_tokens))
    for encoder in encoders:
        _check_make(name, encoder)
        # Everything here ranks by inner product: a model that asks for the cosine must give vectors of length 1.
        if encoder.similarity_fn_name == "cosine" and not isinstance(encoder[-1], Normalize):
            encoder.append(Normalize())
        check_positions(name, positions_of(encoder[0]), max_tokens)
        _make_float32(name, encoder, digest)
        encoder.eval()
        encoder.prompts = {"query": chosen.query, "document": chosen.document}
        # A default that names another prompt would be put before texts by a plain `encode`, or not load again.
        if encoder.default_prompt_name not in encoder.prompts:
            encoder.default_prompt_name = None
        _keep_lengths(encoder, max_tokens, query_view.max_tokens)
        if digest not in _sound:
            _check_sound(name, encoder)
    _sound.add(digest)
    document_encoder = encoders[1] if len(encoders) > 1 else None
    return Student(encoders[0], digest, chosen, View(max_tokens), query_view, document_encoder, name)


_sound: set[str] = set()
"""Digests of models that this process has tried: a run loads its base student several times."""


def _check_make(name: str, encoder: SentenceTransformer) -> None:
    """Raise ModelError if the parts of a model are such that its vectors are not those that sentence-transformers gives
    for a plain text."""
    from sentence_transformers.sentence_transformer.modules import Router

    first, tokenizer = encoder[0], getattr(encoder[0], "tokenizer", None)
    if not is_static(encoder) and not hasattr(tokenizer, "num_special_tokens_to_add"):
        raise ModelError(
            f"model {name!r} begins with a {type(first).__name__}, expected a Transformer or a StaticEmbedding, whose "
            "tokens can be cut into windows; choose another model"
        )
    if "message" in getattr(first, "modality_config", ()):
        raise ModelError(
            f"model {name!r} puts texts into a chat template, which is no prompt that is put before a text; expected a "
            "model that reads plain texts; choose another"
        )
    if any(isinstance(module, Router) for module in encoder):
        raise ModelError(
            f"model {name!r} has a Router behind its first module, expected one before all others; choose another model"
        )


def _make_float32(name: str, encoder: SentenceTransformer, digest: str) -> None:
    """Half precision is for storage and for frozen models: an update of training is lost in its rounding."""
    formats = {tensor.dtype for tensor in (*encoder.parameters(), *encoder.buffers()) if tensor.dtype.is_floating_point}
    halved = ", ".join(sorted(str(one).removeprefix("torch.") for one in formats if one.itemsize < 4))
    if halved:
        _say_format(name, digest, halved)
    encoder.float()


@cache
def _say_format(name: str, digest: str, halved: str) -> None:
    """Once for a model: a run loads its base student several times."""
    logger.info("model %s is stored in %s: it is loaded in float32", name, halved)


def _keep_lengths(encoder: Any, max_tokens: int, query_tokens: int) -> None:
    """What is saved reads as much of a text as is read, and measured, here."""
    if is_static(encoder):
        encoder.tokenizer.enable_truncation(max_tokens)
        return
    encoder.max_seq_length, first = max_tokens, encoder[0]
    first.query_length, first.document_length = query_tokens, max_tokens
    # A view shows a text's first tokens, and a batch's padding comes behind them.
    encoder.tokenizer.truncation_side = encoder.tokenizer.padding_side = "right"


def _check_sound(name: str, encoder: SentenceTransformer) -> None:
    """Raise ModelError if weights or words are not the model's, or its parts do not fit: tried on two short texts."""
    check_weights(name, encoder)
    tokenizer = tokenizer_of(encoder)
    check_vocabulary(name, tokenizer, embedded_tokens(encoder))
    specials, dims = specials_of(tokenizer), encoder.get_embedding_dimension()
    texts = [View(8 + specials.count).cut(ids, specials)[0] for ids in tokenize(["a", "one text"], tokenizer)]
    try:
        made = encode_sequences(encoder, texts, specials)
    except Exception as problem:
        raise ModelError(
            f"model {name!r} gives no vectors of {dims} dims for a text ({reason_of(problem)}): do its modules' "
            "settings and weights fit together? Copy or download it again"
        ) from problem
    if not np.isfinite(made).all():
        raise ModelError(f"model {name!r} gives vectors with NaN or infinity in float32; name another model")


def positions_of(transformer: Any) -> int | None:
    """Most tokens that the model has positions for; None if it has no such limit or does not say."""
    config = getattr(getattr(transformer, "auto_model", None), "config", None)
    return positions_in(config.to_dict()) if config is not None else None


PADDING_FIRST = (
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "luke",
    "ibert", "xmod", "data2vec-text",
)  # fmt: skip
"""Families of models that count positions from the padding id on."""


def positions_in(settings: Mapping[str, Any]) -> int | None:
    """The same, by the contents of a model's `config.json`."""
    size = settings.get("max_position_embeddings")
    if size is None and isinstance(settings.get("text_config"), Mapping):  # of a model that reads images as well
        return positions_in(settings["text_config"])
    if not isinstance(size, int) or size <= 0:
        return None
    if settings.get("model_type") not in PADDING_FIRST:
        return size
    padding = settings.get("pad_token_id")
    return size - (padding if isinstance(padding, int) else 1) - 1


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
    check_routes(name, dict(model[0].sub_modules.items()))
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
