"""The `index:` section as the settings of an index."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from sdretrieval.config.schema import IndexConfig
from sdretrieval.errors import RequestError
from sdretrieval.indexes.settings import IndexSettings

EXAMPLE = "{kind: PQ16, rescore: 4}"


def settings_from(section: IndexConfig) -> IndexSettings:
    """The section's settings; a whole config has been checked for problems between them."""
    return IndexSettings(**{field.name: getattr(section, field.name) for field in fields(IndexSettings)})


def read_index_section(given: str) -> IndexConfig:
    """A recipe alone: a YAML file such as `indexes/pq16.yaml`, or its text, such as `{kind: PQ16, rescore: 4}`.

    Checked as in a whole config. Raises ConfigError, which names the dotted path; RequestError if there is no such
    file.
    """
    import yaml

    from sdretrieval.config.load import parse_config

    path, text = Path(given).expanduser(), given
    if not given.lstrip().startswith("{"):
        if not path.is_file():
            raise RequestError(f"--index {given}: there is no such file; expected a recipe or its text: '{EXAMPLE}'")
        text = path.read_text(encoding="utf8")
    try:
        section = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise RequestError(f"--index {given}: no YAML ({problem}); expected such as {EXAMPLE}") from None
    rest = {"name": "recipe", "corpus": {"source": "-"}, "student": {"model": "-"}, "teacher": {"kind": "lexical"}}
    return parse_config({**rest, "index": section}).index
