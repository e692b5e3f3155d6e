"""BEIR folders: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv` (Thakur et al., NeurIPS D&B 2021).

A folder that holds documents only is a corpus too: its queries are then synthetic. BEIR's public collections are
fetched by the beir package and kept in a cache folder.
"""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.corpus.arrow import document_table, query_table, table_rows
from sdretrieval.corpus.read.qrels import read_qrels, write_qrels
from sdretrieval.corpus.read.report import Tally, Trouble
from sdretrieval.corpus.read.tables.columns import as_text
from sdretrieval.corpus.read.tables.files import clean, open_lines
from sdretrieval.corpus.splits import (
    NOT_COMPARABLE,
    Dangling,
    own_positive_warning,
    own_positives,
    part_dangling,
)
from sdretrieval.corpus.text import LIST_AT_MOST, examples
from sdretrieval.corpus.types import Corpus, RowByName, Texts
from sdretrieval.errors import CorpusError, MissingPackageError
from sdretrieval.formatting import quantity
from sdretrieval.progress import track
from sdretrieval.store.whole_folder import check_target, whole_folder

logger = logging.getLogger("sdretrieval")
PACKED_AS = ("", ".gz", ".zst")
AGAIN = "pairs judged more than once, and the last judgement counts, as in BEIR"
TAKEN_FOR_HEADINGS = "first lines of qrels taken for headings, expected query-id, corpus-id, score"
EXPECTED = "A BEIR folder holds corpus.jsonl, queries.jsonl and qrels/*.tsv (corpus.jsonl alone: documents only)"

BEIR_ADDRESS = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"
BEIR_NAMES = (
    "arguana", "climate-fever", "cqadupstack", "dbpedia-entity", "fever", "fiqa", "germanquad", "hotpotqa",
    "mmarco", "mrtydi", "msmarco", "msmarco-v2", "nfcorpus", "nq", "nq-train", "quora", "scidocs", "scifact",
    "trec-covid", "trec-covid-beir", "trec-covid-v2", "vihealthqa", "webis-touche2020",
)  # fmt: skip
"""The collections that BEIR's server offers. cqadupstack is twelve: `cqadupstack/android` and so on."""
ON_REQUEST = {"bioasq", "robust04", "signal1m", "trec-news"}
"""Part of BEIR, but their owners do not let them be handed on."""


def read_beir(folder: Path, name: str | None = None) -> Corpus:
    """Read a BEIR folder, line by line. `name` is the folder's own where it is None.

    Fields other than `_id`, `title` and `text` are ignored, a missing title is empty. Judgements that point to no
    document or query are left out of `Corpus.qrels` with a warning; `dangling_judgements` lists them.

    The texts are held in memory once, as Arrow; `save_corpus` and `load_corpus` then leave them on disk.

    Raises `CorpusError` for a path that does not exist, a folder of another kind, a broken line (file and line
    number), ids that occur twice, and a qrels row that is none.
    """
    require_beir_folder(folder)
    name = name or folder.resolve().name
    tally = Tally(str(folder), "texts")
    path = beir_file(folder, "corpus.jsonl") or folder / "corpus.jsonl"
    documents = document_table(track(_records(path, tally, titled=True), f"{name}: reading", "documents"))
    if not len(documents):
        raise CorpusError(f"{path} holds no documents: expected one JSON object a line.")
    queries_path = beir_file(folder, "queries.jsonl")
    queries = query_table(_records(queries_path, tally, titled=False) if queries_path else ())
    for trouble, met in tally.report().troubles.items():
        logger.warning("%s: %s: %s", folder, quantity(met.count, trouble.value), "; ".join(met.examples))
    raw = read_qrels(folder / "qrels")
    for what, where in ((AGAIN, raw.repeated), (TAKEN_FOR_HEADINGS, raw.headings)):
        if where:
            logger.warning("%s: %s: %s", folder, quantity(len(where), what), "; ".join(where[:LIST_AT_MOST]))
    judgements = part_dangling(raw.by_split, RowByName(Texts(documents, "id")), RowByName(Texts(queries, "id")))
    if judgements.dangling:
        shown = "; ".join(
            f"{d.split}: {d.query} -> {d.document} (no such {d.missing})" for d in judgements.dangling[:LIST_AT_MOST]
        )
        count = quantity(len(judgements.dangling), "judgements pointing nowhere")
        logger.warning("%s: %s, left out: %s", folder, count, shown)
        if any("document" in dangling.missing for dangling in judgements.dangling):
            logger.warning("%s: %s", folder, NOT_COMPARABLE)
    for split, own in own_positives(judgements.kept).items():
        logger.warning("%s: %s", folder, own_positive_warning(split, own, len(judgements.kept[split])))
    return Corpus(name=name, documents=documents, queries=queries, qrels=judgements.kept)


def beir_file(folder: Path, name: str) -> Path | None:
    """`name` in a BEIR folder, as it is or packed (.gz, .zst); None if it is absent."""
    return next((path for end in PACKED_AS if (path := folder / (name + end)).is_file()), None)


def dangling_judgements(folder: Path, corpus: Corpus) -> list[Dangling]:
    """The judgements of a BEIR folder that `read_beir` left out, since their query or document does not exist."""
    return part_dangling(read_qrels(folder / "qrels").by_split, corpus.document_row, corpus.query_row).dangling


def repeated_judgements(folder: Path) -> list[str]:
    """The pairs of a BEIR folder that are judged more than once, each with its file, line and both scores."""
    return read_qrels(folder / "qrels").repeated


def write_beir(corpus: Corpus, folder: Path, counts: Mapping[str, int] | None = None) -> None:
    """Write `corpus` as a BEIR folder: all of it or, on a kill, nothing. Reading it gives the same digest.

    `counts` (query id -> how often it was asked) go into the queries' `metadata`, where BEIR's loaders pass them over.

    Raises `CorpusError` if `folder` exists and is not empty, or an id cannot be written to a qrels file.
    """
    identifiers = (*corpus.document_ids, *corpus.query_ids)
    broken = [identifier for identifier in identifiers if any(mark in identifier for mark in "\t\r\n")]
    if broken:
        raise CorpusError(
            f"Ids with a tab or a line end cannot be written to a qrels file: {examples(broken)}. Rename them."
        )
    counts = counts or {}
    queries = (
        {"_id": i, "text": text, **({"metadata": {"asked": counts[i]}} if i in counts else {})}
        for i, text in table_rows(corpus.queries)
    )
    with whole_folder(folder, partial(require_absent, folder)) as temporary:
        rows = ({"_id": i, "title": title, "text": text} for i, title, text in table_rows(corpus.documents))
        _write_lines(temporary / "corpus.jsonl", rows)
        _write_lines(temporary / "queries.jsonl", queries)
        (temporary / "qrels").mkdir()
        for split, qrels in corpus.qrels.items():
            write_qrels(qrels, temporary / "qrels" / f"{split}.tsv")


def require_absent(folder: Path) -> None:
    """Raise RequestError if `write_beir` would not write: `folder` exists and is not empty, or cannot be written."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise CorpusError(f"{folder} exists and is not empty: nothing was written. Remove it or name another folder.")
    check_target(folder, "corpus folder")


def require_beir_folder(folder: Path) -> None:
    """Raise CorpusError, saying what is missing, if `folder` holds no collection."""
    if not folder.exists():
        raise CorpusError(f"There is no corpus at {folder}: the path does not exist. Check it. {EXPECTED}.")
    if not folder.is_dir():
        raise CorpusError(f"{folder} is a file, expected a folder. {EXPECTED}.")
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    lacking = [] if beir_file(folder, "corpus.jsonl") else ["corpus.jsonl"]
    if not beir_file(folder, "queries.jsonl") and "qrels/" in names:
        lacking.append("queries.jsonl")
    if lacking:
        held = f"it holds {examples(names)}" if names else "it is empty"
        raise CorpusError(f"{folder} is no BEIR folder: {' and '.join(lacking)} missing; {held}. {EXPECTED}.")


def _records(path: Path, tally: Tally, titled: bool) -> Iterator[tuple[str, ...]]:
    """Rows (id, title, text) or, without titles, (id, text). Raises at the end of the file if ids occur twice."""
    hashes = array("q")  # the ids themselves, or a dictionary of them, would take twenty times as much
    for number, raw in _parsed(path):
        record = {field: clean(value) for field, value in raw.items()}
        if record != raw:
            tally.note(Trouble.REPLACED, f"{path.name}:{number}", f"half of a surrogate pair in {raw['_id']!r:.60}")
        hashes.append(hash(record["_id"]))
        yield (record["_id"], record["title"], record["text"]) if titled else (record["_id"], record["text"])
    values, counts = np.unique(np.asarray(hashes), return_counts=True)
    if (counts > 1).any():
        _refuse_twice(path, set(values[counts > 1].tolist()))


def _parsed(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with open_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _parse(line, f"{path}:{number}")


def _refuse_twice(path: Path, suspected: set[int]) -> None:
    """Read the file again for ids that occur twice, among those of `suspected` hashes."""
    line_of: dict[str, int] = {}
    twice: list[str] = []
    for number, record in _parsed(path):
        identifier = clean(record["_id"])
        if hash(identifier) in suspected:
            if identifier in line_of:
                twice.append(f"{identifier} (lines {line_of[identifier]} and {number})")
            line_of[identifier] = number
    if twice:
        raise CorpusError(
            f"{path}: {quantity(len(twice), 'ids used more than once')}: {examples(twice)}. Expected each id once."
        )


def _parse(line: bytes, place: str) -> dict[str, str]:
    try:
        record = json.loads(line.strip().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
        start = line[:60].decode("utf8", "replace").rstrip()
        raise CorpusError(
            f"{place}: broken line ({error}); it begins {start!r}. Expected one JSON object in UTF-8 with the fields "
            "_id and text. Mend the line or remove it."
        ) from None
    if not isinstance(record, dict):
        raise CorpusError(f"{place}: a JSON {type(record).__name__}, expected an object with the fields _id and text.")
    identifier = record.get("_id")
    if isinstance(identifier, int | float) and not isinstance(identifier, bool):
        identifier = as_text(identifier)  # 7 and 7.0 are "7", as in tables
    return {
        "_id": _string(identifier, "_id", place, record),
        "title": _string(record.get("title") or "", "title", place, record),
        "text": _string(record.get("text"), "text", place, record),
    }


def _string(value: Any, field: str, place: str, record: dict[str, Any]) -> str:
    if not isinstance(value, str) or (field == "_id" and (not value.strip() or "\0" in value)):
        found = f"{field} is {value!r:.60}" if field in record else f"no field {field} (found: {', '.join(record)})"
        expected = "a string without NUL" if "\0" in str(value) else "a string"
        raise CorpusError(f"{place}: {found}, expected {expected}. Each line needs the fields _id and text.")
    return value


def _write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


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
        with whole_folder(target) as temporary:
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
    try:
        from beir.util import download_and_unzip
    except ModuleNotFoundError as error:  # beir imports requests without asking for it to be installed
        raise MissingPackageError(
            f"Downloading needs the package '{error.name}': pip install {error.name}. Or give a BEIR folder."
        ) from None
    url = f"{address}/{collection}.zip"
    logger.info("downloading %s", url)
    try:
        unpacked = Path(download_and_unzip(url, str(temporary / "download")))
    except OSError as error:  # the base of all that requests raises
        raise CorpusError(
            f"beir:{collection} is not in the cache and could not be downloaded from {url} "
            f"({type(error).__name__}: {' '.join(str(error).split()):.160}). "
            "Without a network, give the folder of a BEIR collection."
        ) from None
    except zipfile.BadZipFile:
        raise CorpusError(f"{url} did not answer with a zip archive. Try later, or give a BEIR folder.") from None
    if not unpacked.is_dir():
        raise CorpusError(f"The archive {url} holds no folder {collection}. Give a BEIR folder instead.")
    for path in sorted(unpacked.iterdir()):
        path.rename(temporary / path.name)
    shutil.rmtree(temporary / "download")
