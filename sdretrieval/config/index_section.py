"""The `index:` section as the settings of one kind of index, and as a part of store keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdretrieval.config.fields import identity_fields, kind_of
from sdretrieval.config.schema import IndexConfig
from sdretrieval.errors import RequestError
from sdretrieval.indexes.kinds.base import Settings
from sdretrieval.indexes.settings import index_settings, kinds_with, settings_of

FIRST_FIELDS = ("kind", "lists", "probes", "storage", "links", "ef_construction", "ef_search")
"""Always part of the key. Later fields are part of it only where they say something: what was built before them is what
would be built with them left out."""


def index_keywords(section: IndexConfig) -> dict[str, Any]:
    """What the section says to its kind; what it leaves open (null) is left to the kind."""
    given = {name: getattr(section, name) for name in settings_of(section.kind)}
    return {name: value for name, value in given.items() if value is not None}


def settings_from(section: IndexConfig) -> Settings:
    """The settings. Raises RequestError where values do not go together."""
    return index_settings(section.kind, index_keywords(section))


def index_identity(section: IndexConfig) -> dict[str, Any]:
    """The section's part of an index's key."""
    usual = IndexConfig()
    return {
        name: value
        for name, value in identity_fields(section).items()
        if name in FIRST_FIELDS or value != getattr(usual, name)
    }


def foreign_fields(section: IndexConfig) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Fields that are set although the kind does not have them: name, value, the kinds that do."""
    for name, field in IndexConfig.model_fields.items():
        value = getattr(section, name)
        known = name in ("kind", *settings_of(section.kind)) or kind_of(field) == "cost"
        if not known and value != field.default:
            yield name, value, kinds_with(name)


def read_index_section(given: str) -> IndexConfig:
    """A recipe alone: a YAML file such as `indexes/pq16.yaml`, or its text, such as `{kind: pq, bytes: 16}`.

    Checked as in a whole config. Raises ConfigError, which names the dotted path; RequestError where there is no such
    file.
    """
    import yaml

    from sdretrieval.config.load import parse_config

    path = Path(given).expanduser()
    if not given.lstrip().startswith("{") and not path.is_file():
        raise RequestError(
            f"--index {given}: there is no such file; expected a recipe or its text: '{{kind: pq, bytes: 16}}'"
        )
    text = given if given.lstrip().startswith("{") else path.read_text(encoding="utf8")
    try:
        section = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise RequestError(f"--index {given}: no YAML ({problem}); expected such as {{kind: pq, bytes: 16}}") from None
    rest = {"name": "recipe", "corpus": {"source": "-"}, "student": {"model": "-"}, "teacher": {"kind": "lexical"}}
    return parse_config({**rest, "index": section}).index
