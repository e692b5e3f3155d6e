"""From YAML text and `--set` to a checked `Config`, or one ConfigError that lists every problem."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sdretrieval.config import problems
from sdretrieval.config.conflicts import conflicts
from sdretrieval.config.schema import Config, IndexConfig
from sdretrieval.config.yaml_text import CHARACTERS_AT_MOST, DEPTH_AT_MOST, read_yaml, write_yaml
from sdretrieval.errors import ConfigError, RequestError
from sdretrieval.paths import typed_path

REPAIR_ROUNDS = 3
"""A broken value may hide a missing one, which may hide another: after three rounds nothing more is learnt."""

LISTED_AT_MOST = 20
"""Problems that a message lists."""
POSITION = re.compile("[0-9]{1,9}")

INDEX_EXAMPLE = "{kind: PQ16, rescore: 4}"
STAND_INS: dict[str, object] = {
    "name": "x", "model": "x", "source": "x", "kind": "lexical", "file": "x",
    "corpus": {"source": "x"}, "student": {"model": "x"}, "teacher": {"kind": "lexical"},
    "members": [{"kind": "lexical"}, {"kind": "lexical"}],
}  # fmt: skip
"""Valid values for required fields that are broken, so that the checks between fields still run on the others."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a run's YAML, apply `--set` texts (`a.b=c`), check everything.

    Raises ConfigError: no such file, broken YAML (with line and column), or all problems of its contents at once.
    """
    path = typed_path(path)
    return _parse(read_yaml(_read_text(path), f"config {path}"), overrides, f"config {path}")


def parse_config(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """`load_config` for data that is already in memory; `data` itself is not changed."""
    return _parse(data, overrides, "config")


def with_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of a config's data with `--set` texts applied. Raises ConfigError for one that cannot be."""
    changed = _plain(data)
    for override in overrides:
        if problem := _apply(changed, override):
            raise ConfigError(f"--set {_short(override)}: {problem}")
    return dict(changed)


def read_index_section(given: str) -> IndexConfig:
    """A recipe alone: a YAML file such as `indexes/pq16.yaml`, or its text, such as `{kind: PQ16, rescore: 4}`.

    Checked as in a whole config. Raises ConfigError, which names the dotted path; RequestError if there is no such
    file.
    """
    text = given
    if not given.lstrip().startswith("{"):
        path = typed_path(given)
        if not path.is_file():
            raise RequestError(
                f"--index {path}: there is no such file; expected a recipe or its text: '{INDEX_EXAMPLE}'"
            )
        text = _read_text(path)
    try:
        section = read_yaml(text, "--index")
    except ConfigError as problem:
        raise RequestError(f"{problem}; expected such as {INDEX_EXAMPLE}") from None
    rest = {"name": "recipe", "corpus": {"source": "-"}, "student": {"model": "-"}, "teacher": {"kind": "lexical"}}
    return parse_config({**rest, "index": section}).index


def dump_config(config: Config) -> str:
    """The resolved config as YAML, every default written out; `load_config` reads it back to an equal Config."""
    return write_yaml(config.model_dump(mode="json"))


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"config {path} is a folder; expected a YAML file")
    try:
        with path.open("rb") as file:  # which may be endless
            data = file.read(4 * CHARACTERS_AT_MOST + 1)
        return data.decode("utf8" if len(data) <= 4 * CHARACTERS_AT_MOST else "latin-1")  # refused for its length
    except FileNotFoundError:
        names = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, names, n=1)
        hint = f"did you mean {path.parent / close[0]}?" if close else "expected a YAML file, such as those in configs/"
        raise ConfigError(f"config {path}: no such file; {hint}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config {path}: byte {error.start} is not UTF-8; expected a YAML file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"config {path} cannot be read: {error.strerror}; expected a readable YAML file") from None


def _parse(raw: object, overrides: Sequence[str], where: str) -> Config:
    if not isinstance(raw, Mapping):
        kind = {list: "a list", type(None): "nothing", str: "text"}.get(type(raw), "a single value")
        raise ConfigError(f"{where}: found {kind}; expected a mapping with the keys {', '.join(Config.model_fields)}")
    data = _plain(raw)
    mistakes: list[tuple[str, str]] = []
    applied = []
    for override in overrides:
        problem = _apply(data, override)
        if problem is None:
            applied.append(override.partition("=")[0].strip())
        else:
            mistakes.append((f"--set {_short(override)}", problem))
    config, errors = _validate(data)
    paths = [problems.real_path(error, data) for error in errors]
    mistakes += [
        (problems.dotted(path), problems.describe(error, data))
        for path, error in zip(paths[:LISTED_AT_MOST], errors, strict=False)
    ]
    hidden = max(0, len(errors) - LISTED_AT_MOST)
    blamed = [*(path for path, _ in mistakes), *map(problems.dotted, paths)]
    for conflict in conflicts(config) if config is not None else ():
        pairs = [(bad, path) for bad in blamed for path in conflict.paths]
        if not any(f"{bad}.".startswith(f"{path}.") or f"{path}.".startswith(f"{bad}.") for bad, path in pairs):
            mistakes.append((conflict.paths[0], conflict.text))
    if mistakes or config is None:
        count = len(mistakes) + hidden
        lines = [f"{where} has {count:,} problem{'s' if count > 1 else ''}:"]
        for path, text in mistakes:
            origin = " (from --set)" if any(key == path or key.startswith(f"{path}.") for key in applied) else ""
            lines.append(f"  {_short(path)}: {text}{origin}")
        raise ConfigError("\n".join(lines) + (f"\n  and {hidden:,} more" if hidden else ""))
    return config


def _short(text: str) -> str:
    return text if len(text) <= problems.FOUND_LIMIT else f"{text[: problems.FOUND_LIMIT - 3]}..."


def _plain(value: Any) -> Any:
    """A copy made of dicts and lists alone, as YAML would have given."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _validate(data: dict[str, Any]) -> tuple[Config | None, list[ErrorDetails]]:
    """A Config and no errors; or, with errors, a Config in which each broken value has a stand-in (None: no use)."""
    try:
        return Config.model_validate(data), []
    except ValidationError as error:
        errors = _errors(error, data)
    repaired, current = copy.deepcopy(data), errors
    for _ in range(REPAIR_ROUNDS):
        paths = [problems.real_path(item, repaired) for item in current]
        for path in paths:
            _stand_in(repaired, path)
        try:
            return Config.model_validate(repaired), errors
        except ValidationError as error:
            current = _errors(error, repaired)
    return None, errors


def _errors(error: ValidationError, data: dict[str, Any]) -> list[ErrorDetails]:
    return [item for item in error.errors(include_url=False) if not problems.is_echo(item, data)]


def _stand_in(data: Any, path: problems.Path) -> None:
    parent = problems.value_at(data, path[:-1])
    key = path[-1]
    known = key == "kind" or problems.field_at(path, data) is not None
    if isinstance(parent, dict) and key in STAND_INS and known:
        parent[key] = copy.deepcopy(STAND_INS[str(key)])
    elif isinstance(parent, dict):
        parent.pop(key, None)
    elif isinstance(parent, list) and isinstance(key, int):
        parent[key] = {"kind": "lexical"} if path[-2] == "members" else "nDCG@10"


def _apply(data: dict[str, Any], override: str) -> str | None:
    """Write one `a.b=c` into `data`; the problem as text if that cannot be done."""
    path, equals, text = override.partition("=")
    keys = [int(part) if POSITION.fullmatch(part) else part for part in path.strip().split(".")]
    if not equals or not all(str(key) for key in keys):
        return "found no dotted key and value; expected a.b=c"
    if len(keys) > DEPTH_AT_MOST:
        return f"found a path of {len(keys):,} parts; expected the path of a setting"
    try:
        value = read_yaml(text, "value")
    except ConfigError as error:
        return f"{error}; expected a value as in YAML"
    return _write(data, keys, value)


def _write(node: Any, keys: list[str | int], value: object) -> str | None:
    for depth, key in enumerate(keys):
        here = problems.dotted(keys[:depth])
        slot: Any = key if isinstance(node, list) else str(key)
        if not isinstance(node, (dict, list)):
            return f"{here} is {problems.shown(node)}, which has no part {key}; expected the path of a setting"
        if isinstance(node, list) and (not isinstance(key, int) or key >= len(node)):
            return f"{here} has {len(node)} entries; expected a position counted from 0, found {key}"
        if depth == len(keys) - 1:
            node[slot] = value
        elif isinstance(node, dict) and node.get(slot) is None:
            node[slot] = {}
        node = node[slot]
    return None
