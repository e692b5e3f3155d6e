"""Files to import, written by the tests themselves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

WriteFile = Callable[[str, "str | bytes"], str]
WriteRows = Callable[[str, Sequence[Mapping[str, Any]]], str]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """`write("a.csv.gz", content)` gives the path; the name says how it is packed."""

    def write_file(name: str, content: str | bytes) -> str:
        data = content.encode("utf8") if isinstance(content, str) else content
        packed = {".gz": gzip.compress, ".zst": zstd.compress}.get(Path(name).suffix, bytes)(data)
        (tmp_path / name).write_bytes(packed)
        return str(tmp_path / name)

    return write_file


@pytest.fixture
def write_rows(tmp_path: Path, write: WriteFile) -> WriteRows:
    """`write_rows("a.jsonl", rows)` or `("a.parquet", rows)`."""

    def write_table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
        if not name.endswith(".parquet"):
            return write(name, "".join(json.dumps(row) + "\n" for row in rows))
        pq.write_table(pa.Table.from_pylist(list(rows)), tmp_path / name)
        return str(tmp_path / name)

    return write_table
