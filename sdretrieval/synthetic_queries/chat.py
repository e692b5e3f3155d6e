"""Queries that a language model writes: which kind of which document, and what of its answer is the query.

Promptagator (Dai et al., ICLR 2023) and InPars (Bonifacio et al. 2022) had models write queries; CADET (Tamber et al.
2025) mixes kinds of them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from sdretrieval.chat import WRITING, Chat, Cost
from sdretrieval.chat.prompts import BEFORE
from sdretrieval.corpus.read.documents.blocks import one_line, runs_of_words, word_count
from sdretrieval.corpus.text import hash_rank
from sdretrieval.synthetic_queries.recipe import Kind, Writer

DOCUMENT_WORDS = 300
"""Of a document that the model reads: about what a student sees, and short enough for any model's context."""
MOST_QUERY_WORDS = 40
"""More is no query: the model has repeated the document, or explains itself."""
LABEL = re.compile(
    r"^(?:(?:search )?quer(?:y|ies)|questions?|statements?|claims?|key ?words|answer)\s*:\s*", re.IGNORECASE
)
BULLET = re.compile(r"^(?:[-*•]|\(?\d{1,2}[.)])\s+")
QUOTES = "\"'`“”„«»*"


def chat_writer(chat: Chat, most: int) -> Writer:
    """Writes one query for each document text with a language model; an empty one where it gave none, and for all texts
    after the first `most`: no more is asked than was said beforehand.

    The kind is drawn by a hash of the text. A text that is given again (documents take turns) is asked for another kind
    than before, and for something else than its earlier queries.
    """
    earlier: dict[str, list[str]] = defaultdict(list)
    asked = 0

    def write(texts: Sequence[str]) -> list[str]:
        nonlocal asked
        within = texts[: most - asked]
        asked += len(within)
        prompts = [_prompt(text, earlier[text]) for text in within]
        queries = [query or "" for query in chat.ask(prompts, query_in, "write queries")]
        for text, query in zip(within, queries, strict=True):
            earlier[text].append(query)
        return queries + [""] * (len(texts) - len(within))

    return write


def _prompt(text: str, earlier: Sequence[str]) -> str:
    kinds, place = list(WRITING), hash_rank(0, text) / 2**64
    first = 0
    while first < len(kinds) - 1 and place >= sum(WRITING[kind].share for kind in kinds[: first + 1]):
        first += 1
    prompt = WRITING[kinds[(first + len(earlier)) % len(kinds)]].text
    queries = "\n".join(f"- {query}" for query in earlier if query)
    before = BEFORE.replace("{queries}", queries) if queries else ""
    return prompt.replace("{before}", before).replace("{document}", runs_of_words(text, DOCUMENT_WORDS)[0])


def query_in(answer: str) -> str | None:
    """The query in a model's answer: a line of text, perhaps after a sentence that announces it, or JSON that holds it;
    without its bullet, label and quotation marks. None if there is none, or what is there is no query."""
    lines = [line.strip() for line in (_first_text(answer) or "").splitlines()]
    lines = [line for line in lines if line and not line.endswith(":")]  # "Here is a question:"
    query = BULLET.sub("", lines[0]).strip(QUOTES + " ") if lines else ""
    query = one_line(LABEL.sub("", query).strip(QUOTES + " "))
    return query if 0 < word_count(query) <= MOST_QUERY_WORDS and any(letter.isalnum() for letter in query) else None


def _first_text(answer: str) -> str | None:
    """The first text in JSON; the answer itself if it is no JSON; None for JSON that was cut off."""
    if not answer.startswith(("{", "[")):
        return answer
    try:
        value: Any = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    while isinstance(value, (dict, list)) and value:
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value if isinstance(value, str) else None


def writing_cost(documents: Sequence[str], count: int, shares: Mapping[Kind, float], split: str) -> Cost:
    """What it takes that `count` queries are tried for a split, of which a model writes its share.

    `documents`: a sample of their texts.
    """
    calls = ceil(count * shares["written"] / sum(shares.values()))
    of_prompt = sum(one.share * word_count(one.text) for one in WRITING.values())
    words = sum(min(word_count(text), DOCUMENT_WORDS) for text in documents) / max(len(documents), 1)
    return Cost(f"{split} queries", calls, calls * (of_prompt + words))
