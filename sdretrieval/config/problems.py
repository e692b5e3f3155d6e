"""Turns what pydantic found into one line per problem: dotted path, value found, what was expected, did-you-mean."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from sdretrieval.config.chat_section import VARIABLE_TEXT
from sdretrieval.config.fields import Section
from sdretrieval.config.schema import Config

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the YAML."""

SCALARS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
FOUND_LIMIT = 80
"""Characters of a found value that a message shows."""


def dotted(path: Sequence[str | int]) -> str:
    """`("teacher", "members", 0)` as users type it: `teacher.members.0`."""
    return ".".join(str(part) for part in path)


def shown(value: object) -> str:
    """A found value as YAML users know it (null, true, quoted text), cut to one short line."""
    text = json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    return text if len(text) <= FOUND_LIMIT else text[: FOUND_LIMIT - 3] + "..."


def shown_safely(path: Path, data: object) -> str:
    """What is at `path`, or that it is not shown: in a section that names a language model, a key may have been typed
    where the name of its variable is wanted, under a key that there is not, or into the address."""
    value = value_at(data, path)
    within, known = section_at(path[:-1], data), field_at(path, data) is not None
    risky = path[-1] == "key_variable" or not known or (path[-1] == "url" and "@" in str(value))
    if (_names_a_model(within) and risky) or (_names_a_model(section_at(path, data)) and not isinstance(value, bool)):
        return "what is not shown here, as it may hold a key"
    return shown(value)


def _names_a_model(section: type[Section] | None) -> bool:
    return section is not None and "key_variable" in section.model_fields


def real_path(error: ErrorDetails, data: object) -> Path:
    """The error's location without the union tags that pydantic puts into it."""
    path: list[str | int] = []
    node = data
    for part in error["loc"]:
        if isinstance(node, Mapping) and node.get("kind") == part and part not in node:
            continue
        path.append(part)
        node = _child(node, part)
    if error["type"].startswith("union_tag"):
        path.append("kind")
    return tuple(path)


def is_echo(error: ErrorDetails, data: object) -> bool:
    """Whether pydantic calls a list too short only because entries in it are wrong, which it reports on their own."""
    value = value_at(data, real_path(error, data))
    return error["type"] == "too_short" and isinstance(value, list) and len(value) >= error["ctx"]["min_length"]


def _child(node: object, part: str | int) -> object:
    if isinstance(node, Mapping):
        return node.get(part)
    return node[part] if isinstance(node, list) and isinstance(part, int) and part < len(node) else None


def value_at(data: object, path: Path) -> object:
    """What is at `path`; None if nothing is."""
    for part in path:
        data = _child(data, part)
    return data


def describe(error: ErrorDetails, data: object) -> str:
    """One problem as text, without its path."""
    path = real_path(error, data)
    found = shown_safely(path, data)
    if error["type"] == "extra_forbidden":
        return f"unknown key (found {found}); {_known_keys(path, data)}"
    if error["type"] == "invalid_key":
        return f"the key {shown(path[-1])} is no text; expected keys that are text"
    if error["type"].startswith("union_tag"):
        return _kind_problem(path, data)
    field = field_at(path, data)
    expected = expectation(field, inside=isinstance(path[-1], int)) if field is not None else error["msg"]
    if error["type"] == "missing":
        return f"missing; expected {expected}"
    return f"found {found}; expected {expected}{_meant(value_at(data, path), _choices(field))}"


def _known_keys(path: Path, data: object) -> str:
    section = section_at(path[:-1], data)
    siblings = list(section.model_fields) if section else []
    if _names_a_model(section) and any(word in str(path[-1]).lower() for word in ("key", "token", "secret")):
        return f"expected key_variable: {VARIABLE_TEXT}"
    close = difflib.get_close_matches(str(path[-1]), siblings, n=1)
    if close:
        return f"did you mean {dotted((*path[:-1], close[0]))}?"
    elsewhere = [known for known in known_paths() if known.split(".")[-1] == path[-1]]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    return f"expected one of {', '.join(siblings)}"


def _kind_problem(path: Path, data: object) -> str:
    field = field_at(path[:-1], data)
    kinds = _kinds(sections_in(field.annotation)) if field is not None else []
    value = value_at(data, path)
    found = "missing" if value is None else f"found {shown(value)}"
    return f"{found}; expected one of {', '.join(kinds)}{_meant(value, kinds)}"


def _choices(field: FieldInfo | None) -> list[str]:
    return [str(choice) for choice in _literals(field.annotation)] if field is not None else []


def _literals(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    for inner in get_args(annotation):
        yield from _literals(inner)


def _meant(value: object, choices: Sequence[str]) -> str:
    # Above difflib's 0.6, at which an ensemble in an ensemble is taken for `dense`.
    close = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.65) if isinstance(value, str) else []
    return f"; did you mean {close[0]}?" if close else ""


def expectation(field: FieldInfo, *, inside: bool = False) -> str:
    """What a field accepts, in words. `inside` describes an entry of a list field instead of the list."""
    extra = field.json_schema_extra
    own = extra.get("expects") if isinstance(extra, dict) else None
    if get_origin(field.annotation) is tuple:
        entry = str(own or _words(get_args(field.annotation)[0]))
        return entry if inside else _limited(f"a list, each entry {entry}", field)
    if own:
        return str(own)
    options = [option for option in get_args(field.annotation) if option is not type(None)]
    if type(None) not in get_args(field.annotation):
        return _limited(_words(field.annotation), field)
    words = _limited(_words(options[0]), field)
    return f"null or {words}" if sections_in(options[0]) else f"{words} or null"


def _limited(words: str, field: FieldInfo) -> str:
    limits = ", ".join(_limits(field.metadata))
    return f"{words} ({limits})" if limits else words


def _words(annotation: Any) -> str:
    sections = sections_in(annotation)
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if len(sections) > 1:
        return f"a section whose kind is one of {', '.join(_kinds(sections))}"
    if sections:
        return f"a section with the keys {', '.join(sections[0].model_fields)}"
    return SCALARS.get(annotation, str(annotation))


def _kinds(sections: Sequence[type[Section]]) -> list[str]:
    return [kind for section in sections for kind in get_args(section.model_fields["kind"].annotation)]


def _limits(metadata: Sequence[object]) -> Iterator[str]:
    for limit in metadata:
        match limit:
            case Ge(ge=bound):
                yield f"at least {bound}"
            case Gt(gt=bound):
                yield f"above {bound}"
            case Le(le=bound):
                yield f"at most {bound}"
            case Lt(lt=bound):
                yield f"below {bound}"
            case MinLen(min_length=bound):
                yield "not empty" if bound == 1 else f"at least {bound}"


def sections_in(annotation: Any) -> list[type[Section]]:
    """The section classes named anywhere in a type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in sections_in(inner)]


def section_at(path: Path, data: object) -> type[Section] | None:
    """The section class at `path`; if several are possible, the one of the kind found there."""
    section: type[Section] | None = Config
    field: FieldInfo | None = None
    for part in path:
        data = _child(data, part)
        if isinstance(part, str):
            field = section.model_fields.get(part) if section else None
        section = _chosen(sections_in(field.annotation), data) if field is not None else None
    return section


def _chosen(sections: list[type[Section]], data: object) -> type[Section] | None:
    if len(sections) == 1:
        return sections[0]
    kind = data.get("kind") if isinstance(data, Mapping) else None
    return next((section for section in sections if kind in get_args(section.model_fields["kind"].annotation)), None)


def field_at(path: Path, data: object) -> FieldInfo | None:
    """The declaration of the field at `path` (of the list, if `path` ends in a position)."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    section = section_at(path[:-1], data) if path else None
    return section.model_fields.get(str(path[-1])) if section else None


def known_paths(section: type[Section] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted path of the schema; list positions are written as 0."""
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        yield path
        inner = f"{path}.0." if get_origin(field.annotation) is tuple else f"{path}."
        for nested in sections_in(field.annotation):
            yield from known_paths(nested, inner)
