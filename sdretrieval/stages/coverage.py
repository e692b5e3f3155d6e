"""Says, before the base student encodes, what it cannot see of long documents, and in how many windows its teachers
read them.

Legend: N documents.
"""

from __future__ import annotations

import logging

import numpy as np

from sdretrieval.config import members_of
from sdretrieval.corpus.check import longest_cut, share_seen
from sdretrieval.encode.views import View
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.run import Run
from sdretrieval.stages.tokens import Tokens

logger = logging.getLogger("sdretrieval")

QUERY_TOKENS = 32
"""What a query and the special tokens take of a cross-encoder's window, about."""


def say_coverage(run: Run, collected: Collection, tokens: Tokens) -> None:
    """Log lines over the documents' token counts."""
    config, lengths_N = run.config, tokens.documents.lengths
    specials = run.student(run.base.student).document_specials.count  # what is put around a document, prompt too
    room = config.student.max_tokens - specials
    cut = int((lengths_N > room).sum())
    if not len(lengths_N):
        return
    if not cut:
        logger.info("the student sees every document whole: the longest has %s tokens", f"{lengths_N.max():,}")
        return
    longest = longest_cut(collected.corpus.document_ids, lengths_N, {"student": room})[0]
    logger.info(
        "the student sees %.1f %% of the corpus' tokens, the first %d of a document: %s of %s documents are longer; of "
        "the longest, %s (%s tokens), it sees %.1f %%",
        100 * share_seen(lengths_N, room), room, f"{cut:,}", f"{len(lengths_N):,}", longest.identifier,
        f"{longest.length:,}", 100 * longest.seen["student"] / longest.length,
    )  # fmt: skip
    for member in members_of(config.teacher):
        view = getattr(member, "view", None)
        if view is None or view.windows != "all":
            continue
        pairs = member.kind == "cross_encoder"
        width = getattr(member, "max_tokens", None) or view.max_tokens or config.student.max_tokens
        windows_N = View(width, "all", view.stride).counts(lengths_N, QUERY_TOKENS if pairs else specials)
        cost = "for each query whose list it is in" if pairs else f"{int(windows_N.sum()):,} in all"
        logger.info(
            "teacher %s reads all of a document in windows: %.1f on average, %s of the longest, %s",
            member.kind, np.mean(windows_N), f"{int(windows_N.max()):,}", cost,
        )  # fmt: skip
