"""How much disk a run will fill, estimated from what is to be made: on the safe side, merges of students left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import NamedTuple

from sdretrieval.corpus.beir_folder import beir_file
from sdretrieval.corpus.open import STDLIB, document_folder
from sdretrieval.corpus.passages import read_files
from sdretrieval.corpus.tabular import table_size
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.student import Student
from sdretrieval.errors import ResourceError
from sdretrieval.run.config import Config, DenseConfig, EmaConfig, Member, members_of
from sdretrieval.run.pipeline.outline import Outlined
from sdretrieval.run.stages.prepare import source_folder
from sdretrieval.run.stages.teach import view_of
from sdretrieval.run.store import Store, check_disk, readable_bytes
from sdretrieval.teachers.dense import dims_of

RESERVE = 100_000_000
"""For what is small whatever the corpus: lists, scores, runs, ledger and report."""
CHECKPOINTS = 3
"""Of one training on the disk at a time: two are kept while the third is written."""
CHECKPOINT_WEIGHTS = 4
"""A checkpoint in units of the student: its weights, AdamW's two moments, the moving average."""
BYTES_PER_TOKEN = 4
"""Of English text, and of a stored token id."""
PASSAGE_BYTES = 1000
"""Of a passage of 160 words; many are shorter."""
STDLIB_SIZE = (4000, 2000)
"""Documents of python-stdlib unless the config says otherwise, and more bytes than one of them has."""


class TextSize(NamedTuple):
    """How large a collection is, about."""

    documents: int
    queries: int
    bytes: int


def check_room(config: Config, store: Store, stages: Mapping[str, Outlined], student: Student) -> None:
    """Raise ResourceError, saying what is needed for what, where the store's disk cannot hold what is to be made."""
    weights = sum(4 * parameter.numel() for parameter in student.model.parameters())
    needs = disk_needs(config, stages, text_size(config), student.dims, weights)
    try:
        check_disk(store.root, sum(needs.values()))
    except ResourceError as error:
        listed = ", ".join(f"{readable_bytes(size)} for {what}" for what, size in needs.items() if size)
        raise ResourceError(
            f"{error}. Estimated: {listed}; fewer documents (corpus.max_documents), generations or controls need less"
        ) from None


def disk_needs(
    config: Config, stages: Mapping[str, Outlined], size: TextSize, dims: int, student_bytes: int
) -> dict[str, int]:
    """Bytes by what they are for, of the stages that are not finished."""
    needs: dict[str, int] = defaultdict(int)
    todo = {stage.key: address for address, stage in stages.items() if not stage.finished}  # one key, one artifact
    for address in todo.values():
        name = address.split("/")[-1].split(":")[0]
        if name in ("corpus", "tokens", "lexical"):
            needs["texts, tokens and BM25"] += size.bytes
        elif name == "encode":
            vectors = ceil(size.documents * _windows(config, address, size)) + size.queries
            needs["vectors"] += 4 * _dims(config, address, dims) * vectors
        elif name == "index":
            edges = 8 * config.index.links if config.index.kind == "hnsw" else 0
            needs["indexes"] += size.documents * (4 * dims + edges)
        elif name == "train":
            needs["students"] += 2 * student_bytes  # the student and its moving average
    if needs["students"]:
        needs["students"] += student_bytes  # the run's own copy
        needs["a training's checkpoints"] = CHECKPOINTS * CHECKPOINT_WEIGHTS * student_bytes
    needs["lists, runs and the report"] = RESERVE
    return dict(needs)


def _member(config: Config, address: str) -> Member | None:
    """The teacher whose vectors `address` names."""
    _, teacher, position = address.partition(":teacher")
    return members_of(config.teacher)[int(position)] if teacher else None


def _dims(config: Config, address: str, student: int) -> int:
    """Dims of the vectors of `address`: a dense teacher has its own."""
    member = _member(config, address)
    return dims_of(locate_model(member.model)) if isinstance(member, DenseConfig) else student


def _windows(config: Config, address: str, size: TextSize) -> float:
    """Most windows of an average document: a full-context teacher has a new one every stride."""
    member = _member(config, address)
    if not isinstance(member, EmaConfig | DenseConfig) or member.view.windows == "first":
        return 1.0
    view = view_of(member.view, config)
    tokens = size.bytes / BYTES_PER_TOKEN / max(size.documents, 1)
    return 1 + tokens / (view.stride or max(view.max_tokens // 2, 1))


def text_size(config: Config) -> TextSize:
    """Of the collection that the config names; lines are counted by the length of the first ones (`table_size`)."""
    asked = config.corpus
    made = asked.generated_queries + (0 if asked.labels else asked.dev_queries)
    folder = source_folder(asked.source)
    if texts := document_folder(asked.source):
        size = sum(path.stat().st_size for path in read_files(texts))
        documents = asked.max_documents or size // PASSAGE_BYTES + 1
        return TextSize(documents, made, min(size, documents * PASSAGE_BYTES))
    if folder is None and asked.source != STDLIB:
        table = table_size(asked.source)
        documents = min(table.documents, asked.max_documents or table.documents)
        return TextSize(documents, made, ceil(table.bytes * documents / max(table.documents, 1)))
    if folder is None:
        documents = asked.max_documents or STDLIB_SIZE[0]
        return TextSize(documents, documents + made, documents * STDLIB_SIZE[1])
    found, size = _lines(beir_file(folder, "corpus.jsonl"))
    documents = min(found, asked.max_documents or found)
    return TextSize(
        documents, _lines(beir_file(folder, "queries.jsonl"))[0] + made, ceil(size * documents / max(found, 1))
    )


def _lines(path: Path | None) -> tuple[int, int]:
    """About how many lines a file has, and its bytes; none where there is no such file."""
    return (0, 0) if path is None else table_size(str(path))
