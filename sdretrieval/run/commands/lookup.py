"""From what a user types as MODEL to a loaded student: a hub id, a local folder, or a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdretrieval.corpus.language import AUTO
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.student import words_folder
from sdretrieval.errors import ModelError, RequestError
from sdretrieval.run.commands.serving import serving_of
from sdretrieval.store.run_folder import find_run, runs_folder

if TYPE_CHECKING:
    from sdretrieval.encode.encoder import Precision
    from sdretrieval.encode.student import Student

USUAL_TOKENS = 256
"""Of a document, where a model says nothing of its length."""
NO_LIMIT = 1 << 20
"""Tokenizers write a number far above this where they know no limit."""


@dataclass(frozen=True)
class FoundModel:
    """A model as it is to be used: its folder, and how many tokens it sees of a document and of a query."""

    name: str
    folder: Path
    max_tokens: int
    query_tokens: int
    split_identifiers: bool = False
    """Whether BM25 beside it splits identifiers (a run on code says so)."""
    language: str = AUTO
    """What BM25 beside it stems as: a run's own choice, else what is recognised."""
    trust_remote_code: bool = False
    """Whether the model may run code of its own: only a run's config says so, never a name that was typed."""
    precision: Precision = "float32"
    """What it encodes in: the run's own, so that its vectors are those that the run measured."""


def find_model(name: str, runs: Path | None = None, max_tokens: int | None = None) -> FoundModel:
    """The model that `name` means: a folder, a run (its final student, seen as the run saw it), or a hub id.

    `max_tokens` replaces the length that the run or the model itself asks for. Raises ModelError where it is nothing
    of these, RequestError where it is a run that is not finished.
    """
    run = _run_of(name, runs)
    if run is not None:
        return _from_run(name, run, max_tokens)
    try:
        folder = locate_model(name)
    except ModelError as problem:
        raise ModelError(f"{problem}. No run has this name either (runs in {runs_folder(runs)})") from None
    tokens = max_tokens or own_tokens(folder)
    return FoundModel(name, folder, tokens, tokens)


def load_found(found: FoundModel, device: str = "auto") -> Student:
    """The model with its own prompts. Raises ModelError where it has fewer positions than were asked for."""
    from sdretrieval.encode.student import load_student

    return load_student(
        str(found.folder), max_tokens=found.max_tokens, query_tokens=found.query_tokens, device=device,
        trust_remote_code=found.trust_remote_code,
    )  # fmt: skip


def own_tokens(folder: Path) -> int:
    """The sequence length that a model's own files ask for, never more than its positions."""
    from sdretrieval.encode.student import ROBERTA_KIN

    words = words_folder(folder)
    config = _read(words / "config.json")
    asked = _read(words / "sentence_bert_config.json").get("max_seq_length") or _read(
        words / "tokenizer_config.json"
    ).get("model_max_length")
    positions = config.get("max_position_embeddings")
    if positions and config.get("model_type") in ROBERTA_KIN:
        positions -= (config.get("pad_token_id") or 0) + 1
    limits = [int(limit) for limit in (asked, positions) if limit and 0 < limit < NO_LIMIT]
    return min(limits, default=USUAL_TOKENS)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf8"))) if path.is_file() else {}


def _run_of(name: str, runs: Path | None) -> Path | None:
    """The run's folder where `name` is one, finished or not (find_run says what is missing)."""
    folders = [Path(name).expanduser(), runs_folder(runs) / name]
    if any((folder / "ledger.jsonl").is_file() or (folder / "report.json").is_file() for folder in folders):
        return find_run(name, runs)
    return None


def _from_run(name: str, run: Path, max_tokens: int | None) -> FoundModel:
    serving, student = serving_of(run), run / "student"
    if not student.is_dir():
        raise RequestError(f"run {name}: {run} lacks student/; run its config again, it writes it")
    config, tokens = serving.config(), max_tokens or int(serving.record["max_tokens"])
    return FoundModel(
        name, student, tokens, min(int(serving.record["query_tokens"]), tokens), config.mine.split_identifiers,
        config.mine.language, config.student.trust_remote_code, serving.precision(),
    )  # fmt: skip
