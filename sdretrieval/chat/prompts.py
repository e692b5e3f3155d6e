"""What language models are told, all of it: part of the key of whatever they write, so that another word asks again.

WRITING: by kind, its share of the documents and its prompt. Questions, claims and keywords are mixed, as CADET does
(Tamber et al. 2025): a student that learns from one kind alone learns the kind.
"""

from __future__ import annotations

from typing import NamedTuple


class WritingPrompt(NamedTuple):
    """One kind of query: how often it is asked for, and how."""

    share: float
    text: str


_RULES = (
    "Be specific: of a thousand documents, this one should be the best answer. Use words that somebody would use who "
    'has not read it, and do not copy whole phrases. Do not speak of "the document" or "the text". Write in the '
    "language of the document. Answer with the {what} alone, on one line.\n\n{before}Document:\n{document}"
)

WRITING: dict[str, WritingPrompt] = {
    "question": WritingPrompt(
        0.5, "Write one question that somebody might type into a search box and that the document below answers. "
        + _RULES.replace("{what}", "question"),
    ),
    "claim": WritingPrompt(
        0.25, "Write one short statement that somebody might want to check, and that the document below confirms or "
        "refutes. " + _RULES.replace("{what}", "statement"),
    ),
    "keywords": WritingPrompt(
        0.25, "Write the two to six words that somebody would type into a search box to find the document below. "
        + _RULES.replace("{what}", "words"),
    ),
}  # fmt: skip

BEFORE = "Ask for something else than these do:\n{queries}\n\n"
"""Put before a document that is asked for one more query."""

JUDGING = (
    "Judge how well a document answers a query of a search engine. Think first of what somebody who types this query "
    "wants to know. Then give a grade:\n"
    "3: the document is about just that, and answers it in full\n"
    "2: it answers it in part, or the answer is hidden among much else\n"
    "1: it is on the topic, but does not answer it\n"
    "0: it has nothing to do with it\n"
    "Answer with the grade alone: 0, 1, 2 or 3.\n\nQuery: {query}\n\nDocument:\n{document}\n\nGrade:"
)
