"""A model's folder that is broken, or a name that is none: exit 2 and one message, from every command that takes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call

Damage = Callable[[Path], object]


def replaced(name: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def removed(*names: str) -> Damage:
    return lambda folder: [(folder / name).unlink() for name in names]


def changed(name: str, **settings: Any) -> Damage:
    """A setting that is None is taken out."""

    def change(folder: Path) -> None:
        card = {**json.loads((folder / name).read_text()), **settings}
        (folder / name).write_text(json.dumps({key: value for key, value in card.items() if value is not None}))

    return change


def cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def weights_as(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Damage:
    def apply(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})

    return apply


def without_a_layer(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if "layer.1." not in name}


def with_nan(tensors: dict[str, Any]) -> dict[str, Any]:
    tensors["encoder.layer.0.output.dense.weight"][3, 3] = float("nan")
    return tensors


def wider(tensors: dict[str, Any]) -> dict[str, Any]:
    name = "encoder.layer.0.output.dense.bias"
    return {**tensors, name: tensors[name].repeat(2)}


def without_words(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")


def of_other_words(folder: Path) -> None:
    """As many entries as the model has, but none that a text holds."""
    path = folder / "tokenizer.json"
    words = json.loads(path.read_text())
    vocabulary = words["model"]["vocab"]
    words["model"]["vocab"] = {(key if key.startswith("[") else f"\u4e00{n}"): n for key, n in vocabulary.items()}
    path.write_text(json.dumps(words))


MODULES = "modules.json"
CARD = "config_sentence_transformers.json"
BROKEN: dict[str, tuple[Damage, str]] = {
    "no weights": (removed("model.safetensors"), "holds no weights, expected model.safetensors"),
    "weights cut short": (cut_short, "model.safetensors is damaged or cut short"),
    "weights that are none": (replaced("model.safetensors", b"half a downl"), "is damaged or cut short"),
    "weights of half the model": (weights_as(without_a_layer), "its files lack the weights encoder.layer.1."),
    "weights of another shape": (weights_as(wider), "weights of another shape than config.json says: encoder.layer.0"),
    "weights of NaN": (weights_as(with_nan), "encoder.layer.0.output.dense.weight hold NaN or infinity"),
    "modules that are no JSON": (replaced(MODULES, '[{"idx": 0,'), "cannot be read"),
    "modules that are no list": (replaced(MODULES, "{}"), "holds a JSON object, expected a list"),
    "no modules at all": (replaced(MODULES, "[]"), "holds a JSON list without entries, expected a list"),
    "modules without a path": (replaced(MODULES, '[{"idx": 0}]'), 'found {"idx": 0}, expected a module as'),
    "modules whose path is no path": (
        replaced(MODULES, json.dumps([{"path": "m" * 5000, "type": "m.Transformer"}])), "cannot be read ([Errno 36]",
    ),
    "no config": (removed("config.json"), "lacks config.json"),
    "a config that is no JSON": (replaced("config.json", "{"), "config.json cannot be read"),
    "a config that is no object": (replaced("config.json", "[1]"), "holds a JSON list, expected an object"),
    "a config of another type": (changed("config.json", model_type="distilbert"), "its files lack the weights"),
    "a config of no known type": (changed("config.json", model_type="bert-2"), "does not load as a bi-encoder: "),
    "a config of more layers": (changed("config.json", num_hidden_layers=3), "lack the weights encoder.layer.2."),
    "a pooling of another size": (
        changed("1_Pooling/config.json", embedding_dimension=16), "gives no vectors of 16 dims for a text",
    ),
    "a pooling of no known kind": (changed("1_Pooling/config.json", pooling_mode="best"), "Invalid pooling mode"),
    "a pooling that is no JSON": (replaced("1_Pooling/config.json", "no"), "1_Pooling/config.json cannot be read"),
    "no tokenizer": (removed("tokenizer.json"), "holds no tokenizer, expected tokenizer.json"),
    "a tokenizer of five words": (without_words, "its tokenizer's ids go up to 4, its embedding matrix has"),
    "a tokenizer of other words": (of_other_words, "as [UNK], the unknown word"),
    "an adapter": (
        replaced("adapter_config.json", '{"base_model_name_or_path": "org/base"}'), "merge it into org/base",
    ),
    "quantised weights": (
        changed("config.json", quantization_config={"quant_method": "gptq"}), "holds quantised weights",
    ),
    "distances": (changed(CARD, similarity_fn_name="euclidean"), "compares its vectors by euclidean"),
    "blocks": (changed(CARD, similarity_fn_name="manhattan"), "compares its vectors by manhattan"),
    "part of its vectors": (changed(CARD, truncate_dim=16), "keeps the first 16 dims of its vectors"),
    "a sparse encoder": (changed(CARD, model_type="SparseEncoder"), "says SparseEncoder, expected SentenceTransformer"),
    "prompts that are none": (changed(CARD, prompts=["query: "]), "cannot be read"),
    "an empty folder": (lambda folder: [shutil.rmtree(folder), folder.mkdir()], "no modules.json or config.json in it"),
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `evaluate` finds its BM25 index again."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_folder_is_refused_with_one_message(
    fault: str, tiny_student: Path, tiny_corpus: Path, config: Path, tmp_path: Path, runs: Path, call: Call
) -> None:
    damage, expected = BROKEN[fault]
    folder = Path(shutil.copytree(tiny_student, tmp_path / "model"))
    damage(folder)
    asked = [(command, config, "--set", f"student.model={folder}") for command in ("run", "plan")]
    # `run` and `plan` refuse by the same line: most faults are tried with one of them, in turn.
    number = list(BROKEN).index(fault)
    asked = asked if number % 8 == 0 else asked[number % 2 :][:1]
    for arguments in (*asked, ("evaluate", folder, "--corpus", tiny_corpus)):
        done = call(*arguments, "--runs", runs)
        lines = done.err.strip().splitlines()
        assert (done.code, done.out) == (2, ""), (arguments[0], done)
        assert lines[-1].startswith("error: ") and expected in lines[-1], (arguments[0], lines)
        assert len([line for line in lines if line.startswith("error: ") or "Traceback" in line]) == 1


NAMES = {
    "a file": ("{student}/model.safetensors", "is a file, expected the folder of a sentence-transformers model"),
    "5,000 characters": ("m" * 5000, "... (5,000 characters) "),
    "a path of 5,000 characters": ("/tmp/" + "m/" * 2500, "... (5,005 characters) "),
    "nobody's folder": ("~nosuchuser/model", "cannot be looked for (Could not determine home directory.)"),
    "nowhere": ("no/such/model", "model 'no/such/model' is not there; looked in: local folder"),
}


@pytest.mark.parametrize("fault", NAMES)
def test_a_name_that_is_no_model(
    fault: str, tiny_student: Path, tiny_corpus: Path, config: Path, tmp_path: Path, call: Call
) -> None:
    name, expected = (text.format(student=tiny_student) for text in NAMES[fault])
    for arguments in (
        ("run", config, "--set", f"student.model={name}"),
        ("plan", config, "--set", f"teacher={{kind: dense, model: {name}}}"),
        ("evaluate", name, "--corpus", tiny_corpus),
    ):
        done = call(*arguments, "--runs", tmp_path / "runs")
        assert (done.code, done.out) == (2, ""), (arguments[0], done)
        assert expected in done.err and "Traceback" not in done.err and len(done.err) < 2000, done.err


@pytest.mark.parametrize("kind", ["dense", "cross_encoder"])
@pytest.mark.parametrize("fault", ["weights cut short", "no config", "no tokenizer", "an adapter", "quantised weights"])
def test_a_broken_teacher_is_refused_before_any_work(
    fault: str, kind: str, tiny_student: Path, tiny_cross_encoder: Path, config: Path, tmp_path: Path, call: Call
) -> None:
    damage, expected = BROKEN[fault]
    folder = Path(shutil.copytree(tiny_student if kind == "dense" else tiny_cross_encoder, tmp_path / "teacher"))
    damage(folder)
    tokens = "view: {max_tokens: 64}" if kind == "dense" else "max_tokens: 64"
    teacher = f"teacher={{kind: {kind}, model: {folder}, {tokens}}}"
    done = call("run", config, "--runs", tmp_path / "runs", "--set", teacher)
    assert done.code == 2 and expected in done.err and "Traceback" not in done.err, done.err
    assert not list(tmp_path.glob("runs/store/artifacts/*/*"))
