"""Settings with odd values: for each key of the schema, values that its type or bounds forbid."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sdretrieval.config.problems import field_at, known_paths
from tests.faults.bad_inputs.kinds import BadInput, filled
from tests.faults.place import Place

ODD: dict[Any, tuple[str, ...]] = {
    int: ("-1", "2.5", "many", "{a: 1}", "99999999999999999999999999999999"),
    float: ("-1e-9", "1e300", ".nan", "[0.1]", "true"),
    bool: ("maybe", "3", "[true]"),
    str: ("3", "[a]", ".inf"),
    Literal: ("nonsense", "7", "{a: b}", "''"),
    tuple: ("3", "nonsense", "[[1]]", "[{a: b}]"),
}
KEYS = (
    "mine.dept=5", "mine=5", "mine=[1]", "corpus=x", "=5", "mine.keep", "mine..keep=5", ".=1", "mine.keep.deeper=5",
    "evaluate.measures.7=P@5", "teacher.members.9.weight=1", "teacher.members=[]",
    "teacher.members=[{kind: ensemble}]", "teacher={kind: lexicall}", "teacher={}", "teacher=null", "mine.keep=[",
    "mine.keep={", "mine.keep='", "mine.keep=!!python/object:os.system x", "mine.keep=&a *a", "mine.keep=*a",
    "name=../x", "name=a/b", "name=", "name=store", "name=.", "name=..", "name=-x", "name='a b'", "generations=0",
    "generations=11", "seeds=[4294967296]", "seeds=[13, 13]", "gate.guard=nowhere",
    "evaluate.measures=[nDCG]", "evaluate.measures=[nDCG@0]",
    "evaluate.measures=[nDCG@1.5]", "evaluate.measures=[nDCG@99999999999999999999]", "evaluate.measures=[ndcg@10]",
    "evaluate.measures=[]", "index.kind=IVF0", "index.kind=Nonsense", "index.kind=PQ7", "index.max_memory=lots",
    "mine.keep=31", "train.candidates_per_query=9", "evaluate.split=train", "mine.language=klingon",
    "corpus.verdicts=/nowhere/at/all.tsv", "student.max_tokens=129", "student.freeze=x", "train.freeze=[no_such_part]",
)  # fmt: skip


def bad_inputs() -> Iterator[BadInput]:
    """`plan` of the config with one setting changed; what only the loaded model tells, `run`."""
    for path in dict.fromkeys(known_paths()):  # the members of a mixture share most of theirs
        for value in odd_values(path):
            yield _setting(f"{path}={value}")
    for change in KEYS:
        yield _setting(change)


def _setting(change: str) -> BadInput:
    command = "run" if change.startswith("train.freeze=") else "plan"

    def arguments(place: Place) -> list[str]:
        return [*filled(f"{command} {{config}} --runs {{new}} --set", place), change]

    return BadInput(f"settings: {change}", arguments)


def odd_values(path: str) -> list[str]:
    """Values that the field at `path` must refuse."""
    root: dict[str, Any] = {"teacher": {"kind": "ensemble", "members": [{"kind": "ema"}, {"kind": "lexical"}]}}
    parts = tuple(int(part) if part.isdigit() else part for part in path.split("."))
    field = field_at(parts, root)
    if field is None or isinstance(parts[-1], int) or parts[-1] == "kind":
        return []
    allowed = kinds_of(field.annotation)
    if not allowed or allowed - set(ODD):  # a section
        return []
    values = [value for kind in allowed for value in ODD[kind]]
    if str in allowed:  # whatever is text is text
        values = list(ODD[str])
    if float in allowed:  # or auto, beside it
        values = [*ODD[float], "nonsense"]
    return values


def kinds_of(annotation: Any) -> set[Any]:
    """The plain types that a field takes."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kinds_of(parts[0])
    if origin in (Union, types.UnionType):
        return {kind for part in parts for kind in kinds_of(part)} - {types.NoneType}
    if origin in (Literal, tuple):
        return {origin}
    return {annotation}
