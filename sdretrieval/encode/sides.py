"""A bi-encoder whose queries and documents have an encoder each, as sentence-transformers knows it: a `Router`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdretrieval.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SIDES = ("query", "document")


def words_folder(folder: Path) -> Path:
    """The folder of the transformer itself, with its limits and tokenizer; of two encoders, that of the queries.

    Older sentence-transformers folders hold it in a folder of its own, and a router one for each side.
    """
    modules = json.loads((folder / "modules.json").read_text("utf8")) if (folder / "modules.json").is_file() else []
    words = folder / modules[0].get("path", "") if modules else folder
    return words / next(iter(routes_of(words).get("query", [])), "")


def routes_of(folder: Path) -> dict[str, list[str]]:
    """By side, the names of a router's module folders; empty where `folder` is no router."""
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
    """The model itself; or, where it routes by side, its encoder of queries and its encoder of documents.

    Raises ModelError where these two cannot share one index or one set of tokens.
    """
    from sentence_transformers.sentence_transformer.modules import Router

    if not isinstance(model[0], Router):
        return [model]
    routes = dict(model[0].sub_modules.items())
    if not set(SIDES) <= set(routes):
        raise ModelError(f"model {name!r} routes by {', '.join(routes)}; expected routes {' and '.join(SIDES)}")
    query, document = (_encoder(model, side) for side in SIDES)
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


def _encoder(model: SentenceTransformer, side: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    first, *rest = model.children()
    own = first.get_submodule(f"sub_modules.{side}").children()
    return SentenceTransformer(
        modules=[*own, *rest], device=str(model.device), similarity_fn_name=model.similarity_fn_name
    )
