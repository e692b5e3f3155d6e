"""Config files that are none, or that would keep a parser busy for ever."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.bad_inputs.kinds import BadInput
from tests.faults.place import Place

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "blank lines": b"\n\n\n",
    "a comment": b"# to be written\n",
    "a list": b"- a\n- b\n",
    "a word": b"config\n",
    "a number": b"7\n",
    "a date": b"2026-01-01\n",
    "an open bracket": b"mine: [1, 2\n",
    "a tab": b"mine:\n\tkeep: 5\n",
    "an open quote": b"name: 'x\n",
    "a colon too many": b"a: b: c\n",
    "a key twice": b"name: x\nname: y\n",
    "a list as a key": b"? [a, b]\n: c\n",
    "a number as a key": b"1: c\n",
    "null as a key": b"null: c\n",
    "bytes that are not UTF-8": b"name: \xff\xfe\xfa\n",
    "UTF-16": "name: x\n".encode("utf-16"),
    "zero bytes": b"name: \x00\x00\n",
    "binary": bytes(range(256)) * 4,
    "control characters": b"name: \x07\x1b[31m\n",
    "two documents": b"name: x\n---\nname: y\n",
    "a Python object": b"!!python/object/apply:os.system ['true']\n",
    "an unknown tag": b"name: !secret x\n",
    "an unknown anchor": b"name: *nobody\n",
    "a reference to itself": b"&a {name: *a}\n",
    "a section that holds itself": b"corpus: &a {source: *a}\n",
    "billion laughs": LAUGHS.encode(),
    "deep nesting": b"[" * 5000 + b"]" * 5000,
    "deep mappings": b"".join(b" " * n + b"a:\n" for n in range(1500)),
    "20,000 unknown keys": b"".join(b"key%d: 1\n" % n for n in range(20_000)),
    "a very long line": b"name: " + b"x" * 2_000_000 + b"\n",
    "a number of 5,000 digits": b"seed: " + b"9" * 5000 + b"\n",
    "JSON that ends early": b'{"name": "x", "corpus": {',
    "HTML": b"<!doctype html><html><body>Not found</body></html>",
    "a name alone": b"name: x\n",
    "sections that are null": b"name: x\ncorpus: null\nstudent: null\nteacher: null\n",
}
"""The file's bytes, by what they are."""
PATHS = (
    "/nowhere/x.yaml",
    "{folder}",
    "/dev/null",
    "x" * 5000 + ".yaml",
    "{folder}/x.yaml/y.yaml",
    "~nosuchuser/x.yaml",
)


def bad_inputs() -> Iterator[BadInput]:
    """Met by `plan`."""
    for what, content in CONTENTS.items():

        def arguments(place: Place, content: bytes = content) -> list[object]:
            path = place.scratch() / "bad.yaml"
            path.write_bytes(content)
            return ["plan", path, "--runs", place.scratch() / "new"]

        yield BadInput(f"config files: {what}", arguments)
    for name in PATHS:
        yield BadInput(
            f"config files: the path {name[:40]}", lambda place, name=name: ["plan", name.format(folder=place.folder)]
        )  # type: ignore[misc]
