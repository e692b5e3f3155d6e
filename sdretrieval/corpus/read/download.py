"""BEIR's public collections, fetched by the beir package and kept in a cache folder."""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from sdretrieval.corpus.folders import finished_folder
from sdretrieval.errors import CorpusError, MissingPackageError

logger = logging.getLogger("sdretrieval")

BEIR_ADDRESS = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"
BEIR_NAMES = (
    "arguana", "climate-fever", "cqadupstack", "dbpedia-entity", "fever", "fiqa", "germanquad", "hotpotqa",
    "mmarco", "mrtydi", "msmarco", "msmarco-v2", "nfcorpus", "nq", "nq-train", "quora", "scidocs", "scifact",
    "trec-covid", "trec-covid-beir", "trec-covid-v2", "vihealthqa", "webis-touche2020",
)  # fmt: skip
"""The collections that BEIR's server offers. cqadupstack is twelve: `cqadupstack/android` and so on."""

ON_REQUEST = {"bioasq", "robust04", "signal1m", "trec-news"}
"""Part of BEIR, but their owners do not let them be handed on."""


def download_beir(name: str, cache: Path, address: str = BEIR_ADDRESS) -> Path:
    """The folder of the BEIR collection `name` under `cache`, downloaded where it is not there yet.

    The archive is fetched and unpacked in a temporary folder that is renamed when all of it is there. A part of a
    collection is named `collection/part`.

    Raises `CorpusError` for an unknown name, without a network, and where the answer is no BEIR collection;
    `MissingPackageError` where the package `requests` is not installed.
    """
    collection, _, part = name.partition("/")
    _require_known(collection)
    target = cache / collection
    if not target.is_dir():
        with finished_folder(target) as temporary:
            _fetch(collection, address, temporary)
    folder = target / part if part else target
    if not (folder / "corpus.jsonl").is_file():
        parts = sorted(path.parent.name for path in target.glob("*/corpus.jsonl"))
        known = f"name one of its parts: {', '.join(f'beir:{collection}/{p}' for p in parts)}" if parts else "remove it"
        raise CorpusError(f"beir:{name}: no corpus.jsonl in {folder}; {known}.")
    return folder


def _require_known(collection: str) -> None:
    if collection in ON_REQUEST:
        raise CorpusError(
            f"beir:{collection} cannot be downloaded: its owners hand it out on request only. "
            "Build it as BEIR's README says and give its folder as the corpus."
        )
    if collection not in BEIR_NAMES:
        near = get_close_matches(collection.lower(), BEIR_NAMES, n=1)
        guess = f" Did you mean beir:{near[0]}?" if near else ""
        raise CorpusError(f"beir:{collection} is not among BEIR's collections.{guess} Known: {', '.join(BEIR_NAMES)}.")


def _fetch(collection: str, address: str, temporary: Path) -> None:
    """Fill `temporary` with the unpacked collection."""
    download_and_unzip = _beir_download()
    url = f"{address}/{collection}.zip"
    logger.info("downloading %s", url)
    try:
        unpacked = Path(download_and_unzip(url, str(temporary / "download")))
    except OSError as error:  # the base of all that requests raises
        raise CorpusError(
            f"beir:{collection} is not in the cache and could not be downloaded from {url} "
            f"({type(error).__name__}: {_shortened(error)}). Without a network, give the folder of a BEIR collection."
        ) from None
    except zipfile.BadZipFile:
        raise CorpusError(f"{url} did not answer with a zip archive. Try later, or give a BEIR folder.") from None
    if not unpacked.is_dir():
        raise CorpusError(f"The archive {url} holds no folder {collection}. Give a BEIR folder instead.")
    for path in sorted(unpacked.iterdir()):
        path.rename(temporary / path.name)
    shutil.rmtree(temporary / "download")


def _beir_download() -> Callable[[str, str], str]:
    try:
        from beir.util import download_and_unzip
    except ModuleNotFoundError as error:  # beir imports requests without asking for it to be installed
        raise MissingPackageError(
            f"Downloading needs the package '{error.name}': pip install {error.name}. Or give a BEIR folder."
        ) from None
    return cast("Callable[[str, str], str]", download_and_unzip)


def _shortened(error: Exception, limit: int = 160) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[:limit] + " ..."
