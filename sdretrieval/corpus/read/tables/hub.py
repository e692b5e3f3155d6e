"""Hugging Face datasets: a folder saved by `save_to_disk`, or `hf:NAME[:config[:split]]`. No code of theirs is run.

Also which sources are tables at all, by which files they are known, and about how large they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sdretrieval.corpus.arrow import quiet_datasets
from sdretrieval.corpus.read.tables.columns import readable_columns
from sdretrieval.corpus.read.tables.files import PACKED, Format, open_lines, table_format
from sdretrieval.errors import CorpusError
from sdretrieval.paths import typed_path

if TYPE_CHECKING:
    from datasets import Dataset

SCHEME = "hf:"

SAMPLED_LINES = 1000
UNPACKED_TO_PACKED = 4
"""About what gzip and zstd make of text, and Parquet and Arrow of strings that repeat little."""


def is_dataset(source: str | Path) -> bool:
    """Whether `source` is `hf:NAME` or a folder that `datasets` has saved."""
    if str(source).startswith(SCHEME):
        return True
    folder = typed_path(source)
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def dataset_rows(source: str) -> Iterator[Mapping[str, Any]]:
    """The rows of the dataset that `source` names, read batch by batch."""
    dataset = open_dataset(source)
    readable = dataset.select_columns(readable_columns(dataset.features.arrow_schema))
    for batch in readable.iter(batch_size=1000):
        columns = list(batch)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


def open_dataset(source: str) -> Dataset:
    """The one table that `source` names. Raises CorpusError if it is absent, or has several splits to choose from.

    Of the splits `corpus` and `queries`, as BEIR's own data sets have them, it is `corpus`.
    """
    with quiet_datasets():
        return _from_hub(source) if source.startswith(SCHEME) else _from_disk(typed_path(source))


def split_slice(source: str) -> str:
    """`train[:1000]` of a source that asks for a part of a split, else nothing: its files are those of the whole."""
    split = _hub_parts(source)[2] if source.startswith(SCHEME) else None
    return split if split and "[" in split else ""


def _from_disk(folder: Path) -> Dataset:
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:  # Arrow, JSON and file errors of many classes: a damaged folder
        raise CorpusError(f"{folder}: the saved dataset cannot be read ({type(error).__name__}: {error}).") from None
    return _one_split(loaded, str(folder), f"{folder}/")


def _from_hub(source: str) -> Dataset:
    from datasets import load_dataset

    name, config, split = _hub_parts(source)
    try:
        loaded = load_dataset(name, config, split=split)
    except Exception as error:  # a hub, a network and a parser: classes of four packages
        raise CorpusError(
            f"{source} cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())[:200]}). Expected "
            "hf:NAME[:config[:split]]; without a network, save it elsewhere with save_to_disk and give the folder."
        ) from None
    return _one_split(loaded, source, f"{SCHEME}{name}:{config or 'default'}:")


def _hub_parts(source: str) -> tuple[str, str | None, str | None]:
    parts = source.removeprefix(SCHEME).split(":", 2)  # a split may hold colons: train[:1000]
    if not parts[0]:
        raise CorpusError(f"{source!r} names no dataset: expected hf:NAME, hf:NAME:config or hf:NAME:config:split.")
    name, config, split = [*parts, "", ""][:3]
    return name, config or None, split or None


def _one_split(loaded: Any, source: str, prefix: str) -> Dataset:
    from datasets import Dataset, DatasetDict

    if isinstance(loaded, Dataset):
        return loaded
    if isinstance(loaded, DatasetDict):
        if len(loaded) == 1:
            return next(iter(loaded.values()))
        if "corpus" in loaded:
            return loaded["corpus"]
        raise CorpusError(
            f"{source} has the splits {', '.join(loaded)}: name one, such as {prefix}{next(iter(loaded), '')}."
        )
    raise CorpusError(f"{source} is a {type(loaded).__name__}, expected a dataset of rows.")


class TableSize(NamedTuple):
    """About how many documents a table holds, and the bytes of their texts."""

    documents: int
    bytes: int


def understands(source: str) -> bool:
    """Whether `source` is `hf:NAME`, a saved dataset or a file (which must then be a table)."""
    return is_dataset(source) or typed_path(source).is_file()


def source_files(source: str) -> list[Path]:
    """The files that hold a table's rows: what it is by content. `hf:NAME` is downloaded where it is not there yet.

    But for a slice of a dataset (`split_slice`), which is in the files of the whole. Raises CorpusError for a file
    that is no table by its name, and for a dataset in memory alone.
    """
    if not is_dataset(source):
        table_format(typed_path(source))
        return [typed_path(source)]
    files = sorted(Path(file["filename"]) for file in open_dataset(source).cache_files)
    if not files:
        raise CorpusError(
            f"{source}: datasets holds it in memory, without files that say what it is; unset "
            "HF_DATASETS_IN_MEMORY_MAX_SIZE, or save it with save_to_disk and name the folder."
        )
    return files


def table_size(source: str) -> TableSize:
    """An estimate from the first lines, or from what the format says of itself; nothing is read through."""
    if is_dataset(source):
        return TableSize(len(open_dataset(source)), sum(path.stat().st_size for path in source_files(source)))
    path = typed_path(source)
    size = path.stat().st_size
    if table_format(path) is Format.PARQUET:
        import pyarrow.parquet as pq

        return TableSize(pq.read_metadata(path).num_rows, size * UNPACKED_TO_PACKED)
    size *= UNPACKED_TO_PACKED if path.suffix.lower() in PACKED else 1
    with open_lines(path) as lines:
        sample = [len(line) for line in islice(lines, SAMPLED_LINES)]
    return TableSize(ceil(size * len(sample) / max(sum(sample), 1)), size)
