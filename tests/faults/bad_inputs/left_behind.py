"""Finished runs and bundles in which something is broken: a clear message, whatever reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.faults.bad_inputs.kinds import FAILED, BadInput, Spoil, cut, data, gone, spoilt, text

JSON: dict[str, str] = {"empty": "", "open": "{", "a list": "[]", "a word": '"x"', "null": "null", "of nothing": "{}"}
"""What may be in a JSON file instead of what it should hold."""
RUN_FILES = {
    "report.json": ("show tiny", "compare tiny tiny", "export tiny {new}/b", "report tiny"),
    "serving.json": (
        "search tiny dough",
        "export tiny {new}/b",
        "evaluate tiny --corpus {corpus}",
        "compare tiny tiny",
    ),
    "details.json": ("report tiny",),
    "digests.json": ("search tiny dough", "export tiny {new}/b", "evaluate tiny --corpus {corpus}", "show tiny"),
}
"""By file, the commands that read it."""
BUNDLE_FILES = ("bundle.json", "ids.json", "index/card.json", "config.json", "modules.json")
BUNDLE: dict[str, Spoil] = {
    "no index": gone("index/index.faiss"),
    "an index cut short": cut("index/index.faiss"),
    "an index of text": text("index/index.faiss", "x"),
    "no ids": gone("ids.json"),
    "ids cut short": cut("ids.json"),
    "weights cut short": cut("student/model.safetensors"),
    "no weights": gone("student/model.safetensors"),
    "canaries cut short": cut("canaries.safetensors"),
    "binary manifest": data("bundle.json", bytes(range(256))),
}


def bad_inputs() -> Iterator[BadInput]:
    """Runs, ledgers, students, bundles."""
    for file, commands in RUN_FILES.items():
        faults = {f"{file}: {what}": text(f"tiny/{file}", content) for what, content in JSON.items()}
        yield from spoilt("runs", faults, "runs", [f"{command} --runs {{spoilt}}" for command in commands], FAILED)
    ledger: dict[str, Spoil] = {
        "ledger: a line of text": text("tiny/ledger.jsonl", "x\n"),
        "ledger: a line that is a list": text("tiny/ledger.jsonl", "[]\n"),
        "ledger: a line of nothing": text("tiny/ledger.jsonl", "{}\n"),
        "ledger: binary": data("tiny/ledger.jsonl", bytes(range(256)) * 4 + b"\n"),
    }
    yield from spoilt("runs", ledger, "runs", ["show tiny --runs {spoilt}", "gc --pretend --runs {spoilt}"], FAILED)
    students: dict[str, Spoil] = {
        "student: no weights": gone("tiny/student/model.safetensors"),
        "student: weights cut short": cut("tiny/student/model.safetensors"),
        "student: an added file": text("tiny/student/adapter_config.json", "{}"),
        "student: foreign weights": _foreign_weights,
    }
    commands = ["search tiny dough", "evaluate tiny --corpus {corpus}", "export tiny {new}/b"]
    yield from spoilt("runs", students, "runs", [f"{command} --runs {{spoilt}}" for command in commands], FAILED)
    for file in BUNDLE_FILES:
        faults = {f"{file}: {what}": text(file, content) for what, content in JSON.items()}
        yield from spoilt("bundles", faults, "bundle", ["verify {spoilt}"], FAILED)
    yield from spoilt("bundles", BUNDLE, "bundle", ["verify {spoilt}"], FAILED)
    searched = {what: spoil for what, spoil in BUNDLE.items() if not what.startswith("canaries")}
    yield from spoilt("bundles", searched, "bundle", ["search {spoilt} dough"], FAILED)
    broken = {f"bundle.json: {what}": text("bundle.json", content) for what, content in JSON.items()}
    yield from spoilt("bundles", broken, "bundle", ["search {spoilt} dough"], FAILED)


def _foreign_weights(runs: Path) -> None:
    """Of the same shape: the bytes of the same file, in which one weight is another."""
    weights = bytearray((runs / "tiny" / "student" / "model.safetensors").read_bytes())
    weights[-2] ^= 0x40
    (runs / "tiny" / "student" / "model.safetensors").write_bytes(weights)
