"""`init`: the config that `run CORPUS` would use, with a reason beside each choice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sdretrieval.cli.options import Json, Settings
from sdretrieval.cli.output import print_json, say, stdout_kept_clean
from sdretrieval.errors import RequestError
from sdretrieval.formatting import quantity
from sdretrieval.store.run_folder import runs_folder

logger = logging.getLogger("sdretrieval")

CONFIG = "config.yaml"
Preset = Annotated[
    list[str] | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="documents, query_log, judgements, code, languages, small_index, gpu; "
        "several are put over one another; else what is found decides",
    ),
]


def init_command(
    corpus: Annotated[
        str,
        typer.Argument(metavar="CORPUS", help="a folder of documents, a BEIR folder, a table, beir:NAME or hf:NAME"),
    ],
    preset: Preset = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Look at a corpus and print a config for it, a reason beside each choice: `init CORPUS > mine.yaml`."""
    with stdout_kept_clean():
        chosen, reasons, text = choose_config(corpus, preset or (), settings or ())
    print_json({"config": chosen, "reasons": reasons}) if as_json else say(text.rstrip("\n"))


def choose_config(
    corpus: str, presets: Sequence[str] = (), overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, str], str]:
    """Settings, reasons, and both as YAML. Raises CorpusError, RequestError, and ConfigError for wrong overrides."""
    from sdretrieval.config import parse_config
    from sdretrieval.config.load import with_overrides
    from sdretrieval.presets.choose import choose, config_text, fit_to_model, look, presets_for, read_preset, run_name

    found = look(corpus)
    names = presets_for(found, presets)
    source = str(Path(corpus).expanduser().resolve()) if Path(corpus).expanduser().exists() else corpus
    settings, reasons = choose(source, found, names, run_name(corpus))
    settings = with_overrides(settings, overrides)
    fit_to_model(settings, reasons)
    reasons |= {one.partition("=")[0]: "as asked for" for one in overrides}
    parse_config(settings)
    judged = ", ".join(f"{split} {count:,}" for split, count in found.judged.items()) or "none"
    head = [
        f"Made by `sdretrieval init {corpus}`: {quantity(found.documents, 'documents')}; judged queries: {judged}; "
        f"other queries: {found.asked:,}; {found.language.line()}",
        "For "
        + ", ".join(read_preset(name)["for"] for name in names[1:] or names)
        + ". All settings: docs/settings.md.",
    ]
    return settings, reasons, config_text(settings, reasons, head)


def config_for(corpus: str, presets: Sequence[str], overrides: Sequence[str], runs: Path | None) -> Path:
    """The config of a run over this corpus: the one in the run's folder, which may have been edited, or one that is
    written there now. Raises what `choose_config` raises, and ModelError if the student's model is not here."""
    from sdretrieval.files import write_text
    from sdretrieval.presets.choose import require_model, run_name

    named = [one.partition("=")[2] for one in overrides if one.startswith("name=")]
    file = runs_folder(runs) / (named[-1] if named else run_name(corpus)) / CONFIG
    if file.exists() and not presets:
        logger.info("%s is there, and is used as it is; remove it to have one chosen again", file)
        return file
    settings, _, text = choose_config(corpus, presets, overrides)
    require_model(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    logger.info("%s: written, with a reason beside each choice", file)
    return file


def check_presets(presets: Sequence[str] | None, corpus: str) -> None:
    """Raise RequestError if a preset was asked for where a config was given."""
    if presets:
        raise RequestError(f"--preset: {corpus} is a config, which says all; leave it out, or give a corpus")
