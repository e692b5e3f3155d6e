"""What a model's files say, read without loading it. A folder that cannot be used is refused here, early and in words.

A plan loads no model, and a run loads its teachers hours after it began.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from sdretrieval.errors import ModelError

CONFIG, ADAPTER, MODULES = "config.json", "adapter_config.json", "modules.json"
ROUTER = "router_config.json"
CARD = "config_sentence_transformers.json"
SIDES = ("query", "document")
HALF, PLAIN = "lexical_half", "transformer"
"""Folders of a student with a lexical half: that half, and the student without it, whole."""
BI_ENCODER = "SentenceTransformer"
SIMILARITIES = ("cosine", "dot")
"""By which vectors can be ranked here: both are inner products, the cosine of vectors of length 1."""
WEIGHTS = ("*.safetensors", "*.bin")
WORD_LISTS = ("tokenizer.json", "*vocab*", "*.model", "*.tiktoken", "*bpe*")
"""Names of files that a tokenizer's entries are in."""
TRANSFORMER, STATIC = "Transformer", "StaticEmbedding"
CLASSIFIER, LANGUAGE_MODEL = "ForSequenceClassification", "ForCausalLM"
RERANKER = "CrossEncoder"
MULTI_VECTOR, SPARSE = "MultiVectorEncoder", "SparseEncoder"
TEACHES_AS = {MULTI_VECTOR: "multi_vector", SPARSE: "sparse", BI_ENCODER: "dense", RERANKER: "cross_encoder"}
"""A model's kind in sentence-transformers, and the kind of teacher that it may be."""
COLBERT = {"ColBERT": MULTI_VECTOR, "HF_ColBERT": MULTI_VECTOR}
"""What PyLate and Stanford's own code call such a model."""


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON file of a model, empty if it is not there. Raises ModelError if it holds no JSON object."""
    settings = _read(path)
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ModelError(f"{path} holds a JSON {_kind(settings)}, expected an object; {MEND}")
    return settings


MEND = "is the model's folder whole? Copy or download it again"


def modules_of(folder: Path) -> list[dict[str, Any]]:
    """What `modules.json` lists: path and type of each module; empty if there is no such file.

    Raises ModelError if it lists anything else.
    """
    path = folder / MODULES
    modules = _read(path)
    if modules is None:
        return []
    if not isinstance(modules, list) or not modules:
        raise ModelError(f"{path} holds a JSON {_kind(modules)}, expected a list of the model's modules; {MEND}")
    for module in modules:
        if not isinstance(module, dict) or not all(isinstance(module.get(key), str) for key in ("path", "type")):
            raise ModelError(
                f'{path}: found {json.dumps(module)[:100]}, expected a module as {{"path": ..., "type": ...}}; {MEND}'
            )
    return modules


def _read(path: Path) -> Any:
    """What a JSON file holds, None if it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as problem:
        raise ModelError(f"{path} cannot be read ({str(problem)[:200]}), expected JSON; {MEND}") from problem


def _kind(value: Any) -> str:
    names = {list: "list", dict: "object", str: "text", bool: "truth value", type(None): "null"}
    return "list without entries" if value == [] else names.get(type(value), "number")


def plain_folder(folder: Path) -> Path:
    """The folder of a student without its lexical half; the same if it has none."""
    return folder / PLAIN if (folder / HALF).is_dir() else folder


def check_without_half(name: str, folder: Path) -> None:
    """Raise ModelError if the student in `folder` has a lexical half: another corpus' words say nothing of this one."""
    if (folder / HALF).is_dir():
        raise ModelError(
            f"model {name!r} has a lexical half, which was fitted to the words of another corpus; expected a model "
            f"without one: name {folder / PLAIN}, the same weights alone"
        )


def words_folder(folder: Path) -> Path:
    """The folder of the transformer itself, with its limits and tokenizer; of two encoders, that of the queries.

    Older sentence-transformers folders hold it in a folder of its own, and a router one for each side.
    """
    folder = plain_folder(folder)
    modules = modules_of(folder)
    words = folder / modules[0]["path"] if modules else folder
    return words / next(iter(routes_of(words).get("query", [])), "")


def routes_of(folder: Path) -> dict[str, list[str]]:
    """By side, the names of a router's module folders; empty if `folder` is no router."""
    settings = read_settings(folder / ROUTER)
    routes = settings.get("structure", {})
    lists = isinstance(routes, dict) and all(isinstance(names, list) for names in routes.values())
    if not lists or not all(isinstance(name, str) for names in routes.values() for name in names):
        raise ModelError(f"{folder / ROUTER}: structure lists no module folders by side; {MEND}")
    return dict(routes)


def check_routes(name: str, routes: Collection[str]) -> None:
    """Raise ModelError if a router, of which these are the routes, has none for queries or none for documents."""
    if routes and not set(SIDES) <= set(routes):
        raise ModelError(f"model {name!r} routes by {', '.join(routes)}; expected routes {' and '.join(SIDES)}")


def first_type(folder: Path) -> str:
    """The class of the module that reads a query; a folder without `modules.json` holds a transformer alone."""
    folder = plain_folder(folder)
    modules = modules_of(folder)
    if not modules:
        return TRANSFORMER
    router = read_settings(folder / modules[0]["path"] / ROUTER)
    kind: str = modules[0]["type"]
    if router:
        name = next(iter(routes_of(folder / modules[0]["path"]).get("query", [])), "")
        types = router.get("types")
        kind = str(types.get(name, name)) if isinstance(types, dict) else name
    return kind.rpartition(".")[2]


def check_is_bi_encoder(name: str, folder: Path) -> None:
    """Raise ModelError if files in `folder` are damaged or missing, or are of a model that is no bi-encoder or that
    compares its vectors otherwise than by an inner product. Loads nothing.

    A reranker loads as a bi-encoder without complaint: its head is dropped, and mean pooling assumed.
    """
    folder = plain_folder(folder)
    settings, card = check_files(name, folder), read_settings(folder / CARD)
    kinds = _architectures(settings)
    pools = any(module["type"].endswith(".Pooling") for module in modules_of(folder))
    if not pools and any(kind.endswith(CLASSIFIER) for kind in kinds):
        raise ModelError(
            f"model {name!r} is no bi-encoder: its architecture is {', '.join(kinds)}, a reranker's; "
            "give it to a teacher of kind: cross_encoder, or choose a bi-encoder"
        )
    kind = card.get("model_type") or BI_ENCODER
    if kind != BI_ENCODER:
        raise ModelError(
            f"model {name!r} is no bi-encoder: {CARD} says {kind}, expected {BI_ENCODER}, which gives a text one dense "
            f"vector; choose a bi-encoder{_or_teacher(COLBERT.get(kind, kind))}"
        )
    similarity = card.get("similarity_fn_name") or SIMILARITIES[0]
    if similarity not in SIMILARITIES:
        raise ModelError(
            f"model {name!r} compares its vectors by {similarity} ({CARD}: similarity_fn_name), expected "
            f"{' or '.join(SIMILARITIES)}: documents are ranked by inner products; choose another model, or, if its "
            'vectors have length 1, write "cosine" there: it gives the same ranking as their distance'
        )
    if card.get("truncate_dim") is not None:
        raise ModelError(
            f"model {name!r} keeps the first {card['truncate_dim']} dims of its vectors ({CARD}: truncate_dim), "
            "expected whole vectors; take truncate_dim out of a copy of the model, or choose another model"
        )


def pools_tokens(folder: Path) -> bool:
    """Whether a folder holds a bi-encoder that pools the token vectors of one transformer."""
    if (read_settings(folder / CARD).get("model_type") or BI_ENCODER) != BI_ENCODER or (folder / HALF).is_dir():
        return False
    pools = any(module["type"].endswith(".Pooling") for module in modules_of(folder))
    return pools and first_type(folder) == TRANSFORMER


def _or_teacher(kind: str) -> str:
    """What else a model of this kind can be used for."""
    return f", or give it to a teacher of kind: {TEACHES_AS[kind]}" if kind in TEACHES_AS else ""


def check_has_vectors_of(kind: str, name: str, folder: Path) -> None:
    """Raise ModelError if files in `folder` are damaged or missing, or are not those of a teacher of `kind`:
    multi_vector (which a bi-encoder may be too, by its token vectors) or sparse. Loads nothing.

    Any model loads as either, without complaint: with a random projection, or with a head that was never trained to.
    """
    settings, card = check_files(name, folder), read_settings(folder / CARD)
    expected = MULTI_VECTOR if kind == TEACHES_AS[MULTI_VECTOR] else SPARSE
    says = next((one for one in (card.get("model_type"), *_architectures(settings)) if one), "nothing")
    found = COLBERT.get(says, says)
    if found != expected and not (expected == MULTI_VECTOR and pools_tokens(folder)):
        where = CARD if card.get("model_type") else CONFIG
        raise ModelError(
            f"model {name!r} is no {expected}: {where} says {says}; choose a model that sentence-transformers saved as "
            f"a {expected}{_or_teacher(found)}"
        )


def check_is_reranker(name: str, folder: Path) -> None:
    """Raise ModelError if files in `folder` are damaged or missing, or say that it holds no reranker; loads nothing.

    A bi-encoder loads as a cross-encoder without complaint: with a random head. A language model does, too: its word
    for yes is taken, whether or not it ever learned to judge.
    """
    settings, card = check_files(name, folder), read_settings(folder / CARD)
    kinds, kind = _architectures(settings), card.get("model_type")
    if any(one.endswith(CLASSIFIER) for one in kinds):  # transformers writes the labels unless they are its two
        labels = settings.get("id2label")
        check_one_output(name, len(labels) if isinstance(labels, dict) else settings.get("num_labels", 2))
    elif kind == RERANKER or any(module["type"].endswith(".LogitScore") for module in modules_of(folder)):
        return  # its other modules make a score of a vector or of a word's logit
    elif any(one.endswith(LANGUAGE_MODEL) for one in kinds):
        raise ModelError(
            f"model {name!r} is a language model ({', '.join(kinds)}), and nothing in its files says which of its "
            f"words means relevant; if it is a reranker, save it once as sentence-transformers' {RERANKER}, with a "
            "LogitScore module and a chat template for query and document, and name that folder"
        )
    elif kinds:
        raise ModelError(
            f"model {name!r} is no cross-encoder: its architecture is {', '.join(kinds)}, expected one that "
            f"ends in {CLASSIFIER}, or a folder that sentence-transformers saved as a {RERANKER}; choose a reranker"
        )
    elif any(module["type"].endswith(".Pooling") for module in modules_of(folder)):
        raise ModelError(
            f"model {name!r} is no cross-encoder: {MODULES} names a Pooling, as a bi-encoder's does, expected "
            "a model with a classification head; choose a reranker"
        )


def _architectures(settings: Mapping[str, Any]) -> list[str]:
    kinds = settings.get("architectures")
    return list(map(str, kinds)) if isinstance(kinds, list) else []


def check_one_output(name: str, outputs: int) -> None:
    """Raise ModelError if a cross-encoder gives more than one number for a pair."""
    if outputs != 1:
        raise ModelError(f"cross-encoder {name!r} has {outputs} outputs, expected 1 relevance logit; choose a reranker")


def check_files(name: str, folder: Path) -> Mapping[str, Any]:
    """The contents of the network's `config.json`, empty for a static model.

    Raises ModelError if settings, weights or words are missing or damaged, or are those of an adapter or of quantised
    weights, which cannot be trained or averaged.
    """
    words = words_folder(folder)
    routes = routes_of(folder / modules_of(folder)[0]["path"]) if modules_of(folder) else {}
    check_routes(name, routes)
    if adapter := read_settings(words / ADAPTER) or read_settings(folder / ADAPTER):
        base = adapter.get("base_model_name_or_path") or "its base"
        raise ModelError(
            f"model {name!r} is a PEFT adapter ({ADAPTER}), expected a model with weights of its own; merge it into "
            f"{base} with peft's merge_and_unload, save the result and name that folder"
        )
    settings = read_settings(words / CONFIG)
    first = first_type(folder)
    if first not in (TRANSFORMER, STATIC):
        return settings  # of an unusual make: only loading it can tell
    if not settings and first != STATIC:
        raise ModelError(f"model {name!r}: {words} lacks {CONFIG}, or it is empty; {MEND}")
    if quantised := settings.get("quantization_config"):
        method = quantised.get("quant_method", "some way") if isinstance(quantised, dict) else quantised
        raise ModelError(
            f"model {name!r} holds quantised weights ({CONFIG}: quantization_config, {method}), expected float "
            "weights, which can be averaged and trained; name the model that they were made of"
        )
    if not any(chain.from_iterable(words.glob(pattern) for pattern in WEIGHTS)):
        raise ModelError(f"model {name!r}: {words} holds no weights, expected model.safetensors; {MEND}")
    if not any(chain.from_iterable(words.glob(pattern) for pattern in WORD_LISTS)):
        raise ModelError(f"model {name!r}: {words} holds no tokenizer, expected tokenizer.json; {MEND}")
    for module in modules_of(folder)[1:]:
        read_settings(folder / module["path"] / CONFIG)
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors"))):
        _check_tensors(name, path)
    return settings


def _check_tensors(name: str, path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy"):  # reads the header, and compares it with the file's length
            pass
    except (OSError, SafetensorError) as problem:
        raise ModelError(f"model {name!r}: {path} is damaged or cut short ({problem}); {MEND}") from problem
