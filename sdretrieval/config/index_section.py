"""The `index:` section as the settings of an index."""

from __future__ import annotations

from dataclasses import fields

from sdretrieval.config.schema import IndexConfig
from sdretrieval.indexes.settings import IndexSettings


def settings_from(section: IndexConfig) -> IndexSettings:
    """The section's settings; a whole config has been checked for problems between them."""
    return IndexSettings(**{field.name: getattr(section, field.name) for field in fields(IndexSettings)})
