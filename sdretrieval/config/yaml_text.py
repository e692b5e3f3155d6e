"""YAML in and out: the core schema of YAML 1.2, within limits that no config of a person meets.

YAML 1.1, PyYAML's own, reads 010 as 8, 1:30 as 90 and `no` as false. Here a number is a number, true and false are the
only truth values, and everything else is text. Aliases may not grow into more than a config holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

import yaml

from sdretrieval.errors import ConfigError

CHARACTERS_AT_MOST = 1 << 17
VALUES_AT_MOST = 5000
"""Keys and values, those that aliases repeat counted each time."""
DEPTH_AT_MOST = 50
TAG = "tag:yaml.org,2002:"
PATTERNS = {
    "null": ("~|null|Null|NULL|", "~nN"),
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": ("[-+]?[0-9]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789",
    ),
    "merge": ("<<", "<"),
}  # fmt: skip
"""Kind -> what a plain scalar of it looks like, and the characters it begins with."""


class _Loader(yaml.SafeLoader):
    """Plain values alone, whatever the tags: no objects, dates, bytes or sets. Refuses a key given twice, of which
    PyYAML would silently keep the last."""

    yaml_constructors: ClassVar[Any] = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag in (None, *(f"{TAG}{kind}" for kind in ("null", "str", "seq", "map")))
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._depth = 0
        self._sizes: dict[int, int] = {}
        """By node, itself and what is in it; a node that is still being read has none."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As SafeLoader's, counting."""
        alias, before = self.check_event(yaml.AliasEvent), self._values
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > DEPTH_AT_MOST:
            raise yaml.composer.ComposerError(None, None, f"nested more than {DEPTH_AT_MOST} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias of the value that it is in", mark)
        self._values += self._sizes[id(node)] if alias else 1
        if self._values > VALUES_AT_MOST:
            reason = f"more than {VALUES_AT_MOST:,} keys and values, those that aliases repeat included"
            raise yaml.composer.ComposerError(None, None, reason, mark)
        if not alias:
            self._sizes[id(node)] = self._values - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As SafeLoader's, with the check."""
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value in seen and key_node.value != "<<":
                mark = key_node.start_mark
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r:.80} is there twice", mark
                )
            seen.add(key_node.value if isinstance(key_node, yaml.ScalarNode) else id(key_node))
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {}  # those of YAML 1.1 are not wanted


def _scalar(kind: str, words: str, convert: Callable[[str], Any]) -> None:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        text = str(loader.construct_scalar(node))
        try:
            return convert(text.lower())
        except (ValueError, KeyError):  # a tag says what its text is not, or an integer of thousands of digits
            raise yaml.constructor.ConstructorError(
                None, None, f"{text!r:.40} is no {words}", node.start_mark
            ) from None

    _Loader.add_constructor(f"{TAG}{kind}", construct)


_scalar("bool", "truth value", {"true": True, "false": False}.__getitem__)
_scalar("int", "whole number", int)
_scalar("float", "number", lambda text: float(text.replace(".inf", "inf").replace(".nan", "nan")))


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""


for _kind, (_pattern, _first) in PATTERNS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"{TAG}{_kind}", re.compile(rf"(?:{_pattern})\Z"), [*_first, *[""] * (_kind == "null")]
        )


def read_yaml(text: str, where: str) -> Any:
    """The value that `text` holds: dicts, lists, texts, numbers, true, false, None.

    Raises ConfigError, naming `where` with line and column, for broken YAML and for more than a config may hold.
    """
    if len(text) > CHARACTERS_AT_MOST:
        raise ConfigError(
            f"{where} has more than {CHARACTERS_AT_MOST:,} characters; expected a run's settings, a few thousand"
        )
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{where}{place}: broken YAML: {error.problem or error.context!s:.200}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: broken YAML: {str(error).splitlines()[0]}") from None


def write_yaml(value: Any) -> str:
    """Plain values as YAML, which `read_yaml` reads back the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
