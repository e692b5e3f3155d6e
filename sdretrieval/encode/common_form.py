"""A saved model in the form that every reader of sentence-transformers folders knows.

sentence-transformers 6 writes other names than its versions before it. It reads both, but text-embeddings-inference
(1.9), vLLM (before September 2026), infinity and sentence-transformers 5 read the older ones alone: one cannot parse
the new files, another pools in another way and does not say so. The vectors are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdretrieval.encode.model_files import CARD, MODULES, ROUTER, modules_of, read_settings
from sdretrieval.files import read_json, write_json

OLD_MODULES = "sentence_transformers.models"
OLD_NAMES = ("Transformer", "Pooling", "Normalize", "Dense", "Dropout", "LayerNorm", "Router", "StaticEmbedding",
             "WeightedLayerPooling", "WordEmbeddings", "WordWeights", "BoW", "CNN", "LSTM")  # fmt: skip
"""Modules that had these names before sentence-transformers 6, all in `OLD_MODULES`."""
POOLING = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
LENGTHS, TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS = (
    "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
PLAIN_TRANSFORMER = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
"""What the new file says of an encoder of texts, and the old form takes for granted."""
QUERY_LENGTH = "query_length"
"""The old form has one length for both sides; that of queries moves to `config_sentence_transformers.json`, whose
unknown keys every reader passes over."""
HERE = ("is_local", "local_files_only")
"""Where transformers 5 found the tokenizer, which means nothing to anybody else."""
ONLY_NEW = {"TokenizersBackend": "PreTrainedTokenizerFast"}
"""transformers 5's class of tokenizers, and what all versions call it."""
LONGEST = 1 << 20
"""transformers writes a number above this for a tokenizer without a limit."""


def write_common_form(folder: Path) -> None:
    """Rewrite in place what `save_pretrained` of sentence-transformers wrote into `folder`, the models inside it (those
    of each side, the transformer beside a lexical half) included. Files in the older form stay as they are."""
    for name, rewrite in REWRITES.items():
        for file in sorted(folder.rglob(name)):
            rewrite(file)


def _modules(file: Path) -> None:
    modules = modules_of(file.parent)
    write_json(file, [{**one, "type": _old_type(one["type"])} for one in modules])
    for one in modules:
        _module_settings(file.parent / one["path"], one["type"])


def _routes(file: Path) -> None:
    routes = read_json(file)
    for path, kind in routes["types"].items():
        _module_settings(file.parent / path, kind)
    routes["types"] = {path: _old_type(kind) for path, kind in routes["types"].items()}
    write_json(file, routes)


def _old_type(kind: str) -> str:
    library, name = kind.split(".")[0], kind.rpartition(".")[2]
    return f"{OLD_MODULES}.{name}" if library == "sentence_transformers" and name in OLD_NAMES else kind


def _module_settings(folder: Path, kind: str) -> None:
    """The settings of one module, which the types of the list around it tell."""
    file, name = folder / "config.json", kind.rpartition(".")[2]
    settings = read_settings(file)
    if name == "Pooling" and "pooling_mode" in settings:
        modes = settings.pop("pooling_mode")
        chosen = [modes] if isinstance(modes, str) else modes
        old = {"word_embedding_dimension": settings.pop("embedding_dimension")}
        write_json(file, {**old, **{key: mode in chosen for mode, key in POOLING.items()}, **settings})
    elif name in ("Normalize", "Dense"):  # the older ones take no such keys, and fail on them
        write_json(
            file, {key: settings[key] for key in settings if key not in NEW_KEYS or settings[key] != NEW_KEYS[key]}
        )


NEW_KEYS: dict[str, Any] = {
    "module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding", "use_residual": False,
}  # fmt: skip
"""Keys that the older modules lack, with what they stand for there."""


def _lengths(file: Path) -> None:
    """What a transformer reads. One that does more than encode texts keeps the new form: no older reader has it."""
    settings, tokenizer = read_json(file), read_settings(file.parent / TOKENIZER_CONFIG)
    longest = tokenizer.get("model_max_length")
    if "transformer_task" not in settings or not isinstance(longest, int) or longest > LONGEST:
        return
    plain = all(settings.get(key) == value for key, value in PLAIN_TRANSFORMER.items())
    if not plain or list(settings.get("modality_config", {"text": 1})) != ["text"]:
        return
    write_json(file, {"max_seq_length": longest, "do_lower_case": False})
    card = next((folder / CARD for folder in file.parents if (folder / CARD).is_file()), None)
    if isinstance(settings.get(QUERY_LENGTH), int) and card is not None:
        write_json(card, {**read_json(card), QUERY_LENGTH: settings[QUERY_LENGTH]})


def _tokenizer(file: Path) -> None:
    """The same length in all three places where readers look for it, and special tokens in the file of their own."""
    from tokenizers import Tokenizer

    settings = read_json(file)
    longest = settings.get("model_max_length")
    kept = {key: value for key, value in settings.items() if key not in HERE}
    if (kind := str(kept.get("tokenizer_class"))) in ONLY_NEW:
        kept["tokenizer_class"] = ONLY_NEW[kind]
    if isinstance(longest, int) and longest <= LONGEST:
        if "max_length" in kept:
            kept["max_length"] = longest
        if (words := file.parent / TOKENIZER).is_file():
            tokenizer = Tokenizer.from_file(str(words))
            tokenizer.enable_truncation(longest)
            tokenizer.save(str(words))
    write_json(file, kept)
    special = {key: kept[key] for key in sorted(kept) if key.endswith("_token") and isinstance(kept[key], str)}
    if special and not (file.parent / SPECIAL_TOKENS).exists():
        write_json(file.parent / SPECIAL_TOKENS, special)


REWRITES: dict[str, Callable[[Path], None]] = {
    LENGTHS: _lengths,  # before the tokenizer's, which it reads
    TOKENIZER_CONFIG: _tokenizer,
    ROUTER: _routes,
    MODULES: _modules,
}
