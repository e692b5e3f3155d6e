"""Which format a file has, by its name."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from sdretrieval.errors import CorpusError

PACKED = (".gz", ".zst")


class Format(Enum):
    """Formats of tables with named columns."""

    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"


FORMAT_OF = {
    ".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".json": Format.JSONL, ".csv": Format.CSV, ".tsv": Format.TSV,
    ".parquet": Format.PARQUET, ".pq": Format.PARQUET,
}  # fmt: skip
TABLES_UNDERSTOOD = ".jsonl, .csv, .tsv (each also .gz or .zst) and .parquet"


def plain_name(path: Path) -> str:
    """The file's name without .gz or .zst."""
    return path.name[: -len(path.suffix)] if path.suffix.lower() in PACKED else path.name


def format_of(path: Path) -> Format | None:
    """The format of a table; None where the name's ending is none of ours (Parquet packs its own columns)."""
    found = FORMAT_OF.get(Path(plain_name(path)).suffix.lower())
    return None if found is Format.PARQUET and path.suffix.lower() in PACKED else found


def table_format(path: Path) -> Format:
    """As `format_of`, but raises CorpusError where it is none."""
    found = format_of(path)
    if found is None:
        raise CorpusError(f"{path} is no table by its name; read are {TABLES_UNDERSTOOD}.")
    return found


def stem_of(path: Path) -> str:
    """The file's name without any of its endings that say how it is packed."""
    return Path(plain_name(path)).stem
