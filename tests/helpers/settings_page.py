"""docs/settings.md: its tables, written from the config's schema.

python -m tests.helpers.settings_page
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sdretrieval.config import Config
from sdretrieval.config.fields import kind_of

SETTINGS = Path(__file__).parents[2] / "docs" / "settings.md"


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The config sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_of(part)]


def settings_page() -> str:
    """docs/settings.md with its tables made from the schema."""
    before, _, rest = SETTINGS.read_text(encoding="utf8").partition("<!-- settings: ")
    mark, _, rest = rest.partition("-->")
    _, _, after = rest.partition("<!-- settings end -->")
    return f"{before}<!-- settings: {mark}-->\n{_tables()}\n<!-- settings end -->{after}"


def _tables() -> str:
    plain = {name: field for name, field in Config.model_fields.items() if not sections_of(field.annotation)}
    parts = [_table("a run", "", plain, "")]
    for name, field in Config.model_fields.items():
        sections = sections_of(field.annotation)
        if len(sections) == 1:
            parts.append(_table(f"`{name}`", str(field.description), sections[0].model_fields, f"{name}."))
        elif sections:
            parts.append(f"## `{name}`\n\nOne of these kinds, alone or as a member of `ensemble`.")
            for section in dict.fromkeys(sections):
                first, *others = get_args(section.model_fields["kind"].annotation)
                title = " or ".join([f"`{name}.kind: {first}`", *(f"`{kind}`" for kind in others)])
                parts.append(_table(title, section.__doc__ or "", section.model_fields, "", "###"))
    return "\n\n".join(parts) + "\n"


def _table(title: str, what: str, fields: Mapping[str, FieldInfo], prefix: str, level: str = "##") -> str:
    what = what.strip().rstrip(".")
    sentence = f"{what[0].upper()}{what[1:]}.\n\n" if what else ""
    rows = "\n".join(_rows(fields, prefix))
    return f"{level} {title}\n\n{sentence}| setting | default | values | what it says |\n|---|---|---|---|\n{rows}"


def _rows(fields: Mapping[str, FieldInfo], prefix: str) -> Iterator[str]:
    for name, field in fields.items():
        inner = sections_of(field.annotation)
        if len(inner) == 1 and name != "members":
            yield from _rows(_with_defaults(inner[0], field), f"{prefix}{name}.")
            continue
        default = "required" if field.default is PydanticUndefined else f"`{_yaml(field.default)}`"
        extra = field.json_schema_extra
        expected = extra.get("expects") if isinstance(extra, dict) else None
        values = "two or more teachers" if name == "members" else expected or values_of(field.annotation)
        cost = "; *cost*" if kind_of(field) == "cost" else ""
        text = str(field.description).replace("|", "\\|") if name != "kind" or prefix else "names this kind"
        yield f"| `{prefix}{name}` | {default} | {values} | {text}{cost} |"


def _with_defaults(section: type[BaseModel], field: FieldInfo) -> dict[str, FieldInfo]:
    """The fields of a section inside a section, with what the outer one makes their defaults."""
    fields = {name: inner._copy() for name, inner in section.model_fields.items()}
    if isinstance(field.default, BaseModel):
        for name, inner in fields.items():
            inner.default = getattr(field.default, name)
    return fields


def _yaml(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


NAMES = {int: "whole number", float: "number", str: "text", bool: "true, false", types.NoneType: "null"}


def values_of(annotation: Any) -> str:
    """What a field takes, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values_of(parts[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        return ", ".join(values_of(part) for part in parts)
    if origin is tuple:
        return f"a list of: {values_of(parts[0])}"
    return NAMES[annotation]


if __name__ == "__main__":
    SETTINGS.write_text(settings_page(), encoding="utf8")
    sys.stdout.write(f"{SETTINGS} written\n")
