"""How much disk a run will fill, estimated from what is to be made: on the safe side, merges of students left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import ceil

from sdretrieval.config import Config, DenseConfig, EmaConfig, Member, members_of, settings_from
from sdretrieval.corpus import TextSize, find_source
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.student import Student
from sdretrieval.errors import ResourceError
from sdretrieval.formatting import readable_bytes
from sdretrieval.stages.run import whole_dims
from sdretrieval.stages.teachers import view_of
from sdretrieval.store import Store, check_disk
from sdretrieval.store.runner import Planned
from sdretrieval.teachers.dense import dims_of
from sdretrieval.units import Address

RESERVE = 100_000_000
"""For what is small whatever the corpus: lists, scores, runs, ledger and report."""
CHECKPOINTS = 3
"""Of one training on the disk at a time: two are kept while the third is written."""
CHECKPOINT_WEIGHTS = 4
"""A checkpoint in units of the student: its weights, AdamW's two moments, the moving average."""
BYTES_PER_TOKEN = 4
"""Of English text, and of a stored token id."""


def check_room(config: Config, store: Store, stages: Sequence[Planned], student: Student) -> None:
    """Raise ResourceError, saying what is needed for what, if the store's disk cannot hold what is to be made."""
    weights = sum(4 * parameter.numel() for parameter in student.model.parameters())
    needs = disk_needs(config, stages, text_size(config), whole_dims(config, student), weights)
    try:
        check_disk(store.root, sum(needs.values()))
    except ResourceError as error:
        listed = ", ".join(f"{readable_bytes(size)} for {what}" for what, size in needs.items() if size)
        raise ResourceError(
            f"{error}. Estimated: {listed}; fewer documents (corpus.max_documents), generations, seeds or controls "
            "need less"
        ) from None


def disk_needs(
    config: Config, stages: Sequence[Planned], size: TextSize, dims: int, student_bytes: int
) -> dict[str, int]:
    """Bytes by what they are for, of the stages that are not finished."""
    needs: dict[str, int] = defaultdict(int)
    todo = {stage.key: stage.address for stage in stages if not stage.cached}  # one key, one artifact
    for address in todo.values():
        name = Address.of(address).stage
        if name in ("corpus", "tokens", "lexical"):
            needs["texts, tokens and BM25"] += size.bytes
        elif name == "encode":
            member = _member(config, address)
            # If only queries learn, later stages hold the files of the first one's documents.
            own = config.student.train != "query" or Address.of(address).owner in ("0", "1")
            documents = ceil(size.documents * _windows(config, member, size)) if own else 0
            wide = dims_of(locate_model(member.model)) if isinstance(member, DenseConfig) else dims
            needs["vectors"] += 4 * wide * (documents + size.queries)
        elif name == "index":
            count = max(size.documents, 1)
            needs["indexes"] += ceil(count * settings_from(config.index).disk_bytes(count, dims))
        elif name == "train" or address == "pretrained/merge":  # made in each such run, unlike other merges
            needs["students"] += 2 * student_bytes  # the student and its moving average
        elif name == "fit":
            needs["students"] += 2 * student_bytes  # as the store and as the run keep it
    if needs["students"]:
        # The run's own copy, which holds the documents' encoder as well if queries alone learn.
        needs["students"] += student_bytes * (2 if config.student.train == "query" else 1)
        needs["a training's checkpoints"] = CHECKPOINTS * CHECKPOINT_WEIGHTS * student_bytes
    needs["lists, runs and the report"] = RESERVE
    return dict(needs)


def _member(config: Config, address: str) -> Member | None:
    """The teacher whose vectors `address` names."""
    part = Address.of(address).part.removesuffix(":half")
    return members_of(config.teacher)[int(part.removeprefix("teacher"))] if part.startswith("teacher") else None


def _windows(config: Config, member: Member | None, size: TextSize) -> float:
    """Most windows of an average document: a full-context teacher has a new one every stride."""
    if not isinstance(member, EmaConfig | DenseConfig) or member.view.windows == "first":
        return 1.0
    view = view_of(member.view, config)
    tokens = size.bytes / BYTES_PER_TOKEN / max(size.documents, 1)
    return 1 + tokens / (view.stride or max(view.max_tokens // 2, 1))


def text_size(config: Config) -> TextSize:
    """Of the collection that the config names, with the queries that are made from its documents."""
    cfg = config.corpus
    size = find_source(cfg.source).size(cfg.max_documents)
    made = cfg.generated_queries + (0 if cfg.labels else cfg.dev_queries)
    return size._replace(queries=size.queries + made)
