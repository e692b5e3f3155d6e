"""Model folders that are broken, met by a run, an evaluation and as a teacher."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.bad_inputs.kinds import BadInput, Spoil, cut, data, folder_instead, gone, lines, spoilt, text

POOLING = "1_Pooling/config.json"


def changed(name: str, **fields: Any) -> Spoil:
    """A JSON file with other values; None leaves a field out."""

    def spoil(folder: Path) -> None:
        record = {**json.loads((folder / name).read_text(encoding="utf8")), **fields}
        kept = {key: value for key, value in record.items() if value is not None}
        (folder / name).write_text(json.dumps(kept), encoding="utf8")

    return spoil


BROKEN: dict[str, Spoil] = {
    "no weights": gone("model.safetensors"),
    "empty weights": text("model.safetensors", ""),
    "weights cut short": cut("model.safetensors"),
    "weights that are text": text("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "weights whose heading is endless": data("model.safetensors", b"\xff" * 64),
    "a folder of weights": folder_instead("model.safetensors"),
    "no config": gone("config.json"),
    "an empty config": text("config.json", ""),
    "a config that is a list": text("config.json", "[]"),
    "a config that is no JSON": text("config.json", "{"),
    "a config that is binary": data("config.json", bytes(range(256))),
    "a config of no known model": text("config.json", '{"model_type": "nonsense"}'),
    "a config without a model": text("config.json", "{}"),
    "a hidden size of text": changed("config.json", hidden_size="many"),
    "a hidden size that is another": changed("config.json", hidden_size=48),
    "heads that do not divide": changed("config.json", num_attention_heads=5),
    "a vocabulary of another size": changed("config.json", vocab_size=7),
    "no tokenizer": lambda folder: [path.unlink() for path in folder.glob("*token*")] + [gone("vocab.txt")(folder)]
    if (folder / "vocab.txt").exists() else [path.unlink() for path in folder.glob("*token*")],
    "a broken tokenizer": text("tokenizer.json", "{"),
    "an empty tokenizer": text("tokenizer.json", ""),
    "a tokenizer that is a list": text("tokenizer.json", "[]"),
    "broken modules": text("modules.json", "{"),
    "modules that are a mapping": text("modules.json", "{}"),
    "no modules at all": text("modules.json", "[]"),
    "modules without a type": text("modules.json", '[{"idx": 0, "name": "0", "path": ""}]'),
    "modules of an unknown type": text(
        "modules.json", '[{"idx": 0, "name": "0", "path": "", "type": "no.such.Module"}]'
    ),
    "modules that are somewhere else": text(
        "modules.json",
        '[{"idx": 0, "name": "0", "path": "nowhere", "type": "sentence_transformers.models.Transformer"}]',
    ),
    "modules that are a word": text("modules.json", '"Transformer"'),
    "no pooling": gone(POOLING),
    "a broken pooling": text(POOLING, "{"),
    "a pooling of nothing known": text(POOLING, '{"pooling_mode": "nonsense", "embedding_dimension": 32}'),
}  # fmt: skip
"""In a copy of the tiny bi-encoder."""
NAMES = tuple(
    "run {config} --runs {new} --set student.model=" + name
    for name in (
        "nobody/nothing",
        "''",
        "/nowhere",
        "{corpus}",
        "{config}",
        "x" * 5000,
        "~nosuchuser/m",
        "a/b/c",
        "../x",
        "{cross_encoder}/x",
    )
)


def bad_inputs() -> Iterator[BadInput]:
    """Each fault, met by each command; names of no model; models of another kind than asked for."""
    run = "run {config} --runs {new} --set student.model={spoilt} --until 0/tokens"
    teacher = "run {config} --runs {new} --until 0/encode:teacher0 --set 'teacher={{kind: dense, model: {spoilt}}}'"
    yield from spoilt("models", BROKEN, "student", [run])
    yield from spoilt("models", BROKEN, "student", ["evaluate {spoilt} --corpus {corpus} --runs {new}"])
    few = {
        what: BROKEN[what] for what in ("no weights", "a config that is no JSON", "broken modules", "weights cut short")
    }
    yield from spoilt("models, as a teacher", few, "student", [teacher], (1, 2))
    yield from spoilt("models, of a run", few, "student", ["corpus check {corpus} --model {spoilt}"], (0, 1, 2))
    yield from lines("models", NAMES)
    yield from lines(
        "models",
        [
            "run {config} --runs {new} --set 'teacher={{kind: cross_encoder, model: {student}}}'",
            "run {config} --runs {new} --set 'teacher={{kind: dense, model: {cross_encoder}}}'",
        ],
    )
