"""The stage `refresh`: a trained student's vectors for mining, documents' in part carried from those of before."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.config import Config
from sdretrieval.encode.encoder import Embeddings, Precision, encode_windows, window_digests
from sdretrieval.encode.mixed import MixedVectors
from sdretrieval.encode.student import Student
from sdretrieval.encode.views import View
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array
from sdretrieval.stages.inputs import Prepared, TextTokens, Vectors
from sdretrieval.stages.renewal import Refresh, Rows
from sdretrieval.stages.search import build_vectors
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

logger = logging.getLogger("sdretrieval")

CARD = "refresh.json"


def build_refresh(
    work: Work, student: Student, tokens: TextTokens, prepared: Prepared, lexical: LexicalIndex | None, old: Path,
    config: Config, batch_tokens: int | None, precision: Precision, what: str, measuring: int,
) -> None:  # fmt: skip
    """Vectors as `build_vectors` writes them, documents' in part those of `old`; `refresh.json` says which and why."""
    view, specials = View(config.student.max_tokens), student.document_specials
    build_vectors(work, student, tokens, view, batch_tokens, precision, what, measuring, documents=False)
    before = Embeddings.load(old / "documents")
    seen = (tokens.documents, view, specials, before.windows)
    with Progress(f"{what} documents", len(before.vectors_WD), "documents, at most") as progress:

        def encode(rows: Rows) -> Array:
            return encode_windows(student.document_model, *seen, rows, batch_tokens, progress.advance, precision)

        mixed = MixedVectors.begin(work.folder / "documents", old / "documents", encode)
        card = Refresh(config, prepared, Vectors(Artifact("", work.folder)), mixed, lexical).run()
    mixed.finish(window_digests(*seen, np.flatnonzero(mixed.fresh_N)))
    lengths = tokens.documents.lengths[mixed.encoded]
    work.counts["document_windows"] = len(before.vectors_WD)
    work.counts["document_tokens"] = _tokens_of(lengths, view, specials.count)
    card |= {"tokens": work.counts["document_tokens"]}
    card |= {"tokens_of_all": _tokens_of(tokens.documents.lengths, view, specials.count)}
    work.counts |= {name: card[name] for name in ("decision", "documents_encoded", "share_encoded")}
    (work.folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf8")
    _say(what, card)


def _tokens_of(lengths: Array, view: View, specials: int) -> int:
    return int(sum(end - start for n in lengths.tolist() for start, end in view.spans(n, specials)))


def _say(what: str, card: dict[str, Any]) -> None:
    logger.info(
        "%s: %s (%s): %s of %s documents encoded anew (%s sampled), movement %.4f, overlap of sampled lists %.3f",
        what, card["decision"], card["why"], f"{card['documents_encoded']:,}", f"{card['documents']:,}",
        f"{card['sample']:,}", card["movement"]["mean"], card["overlap"]["sampled"],
    )  # fmt: skip
