"""What a model card may say to the world: only what is known, from the config, the base model's card and the texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdretrieval.config import Config
    from sdretrieval.corpus import Corpus
    from sdretrieval.export.card_metadata import License, Published


def published(config: Config, base: Path, corpus: Corpus) -> Published:
    """`base`: the folder of the base model, which may be gone by now."""
    from sdretrieval.export.card_metadata import License, Published

    named = config.student.license
    license = License(named) if named is not None else license_of(base)
    return Published(license, _language(config, corpus), _hub_dataset(config.corpus.source))


def license_of(model: Path) -> License | None:
    """What the card of a model says of its licence; None if it has no card, or that says nothing."""
    from huggingface_hub import ModelCard, ModelCardData
    from yaml import YAMLError

    from sdretrieval.export.card_metadata import License

    card = model / "README.md"
    if not card.is_file():
        return None
    try:
        data = ModelCard(card.read_text(encoding="utf8"), ignore_metadata_errors=True).data
    except (OSError, ValueError, TypeError, YAMLError):  # of a card that nobody checked
        return None
    if not isinstance(data, ModelCardData) or not isinstance(data.license, str):
        return None
    name, link = (one if isinstance(one, str) else None for one in (data.license_name, data.license_link))
    return License(data.license, name, link)


def _language(config: Config, corpus: Corpus) -> str | None:
    """Its code: as recognised in the texts, else as the config says, which only counts if it is not the default."""
    from sdretrieval.corpus.language import ENGLISH, NAMES, detect, sample

    code_of = {name: code for code, name in reversed(NAMES.items())}  # the first code of a name
    name = detect(sample(corpus.document_texts())).name
    if name is None and config.mine.language != ENGLISH:
        name = config.mine.language
    return code_of.get(name or "")


def _hub_dataset(source: str) -> str | None:
    """`hf:NAME` as a hub id; None for a folder of that name, and for other sources."""
    from sdretrieval.corpus.read.tables.hub import SCHEME
    from sdretrieval.export.card_metadata import HUB_ID
    from sdretrieval.paths import typed_path

    name = source.removeprefix(SCHEME).partition(":")[0]
    on_hub = source.startswith(SCHEME) and HUB_ID.fullmatch(name) and not typed_path(name).exists()
    return name if on_hub else None
