"""The prompts of a model: what it was trained to read before a query and before a document.

They are looked for, in this order: what the caller gives; the model's own files (`config_sentence_transformers.json`);
and, if these files say nothing of prompts at all, what the authors publish in words (`PUBLISHED`). A saved student
always names its prompts in its files, be they empty, so that from then on the files decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sdretrieval.errors import ModelError

CONFIG = "config_sentence_transformers.json"
QUERY_NAMES = ("query", "search_query", "retrieval.query", "s2p_query")
DOCUMENT_NAMES = ("document", "passage", "corpus", "search_document", "retrieval.passage")
"""What authors call the two prompts; `query`, and the first three of these, as sentence-transformers looks for them."""

_SEARCH = "Represent this sentence for searching relevant passages: "
_SEARCH_ZH = "为这个句子生成表示以用于检索相关文章："
PUBLISHED: Mapping[str, tuple[str, str]] = {
    **{f"bge-{size}-en{v}": (_SEARCH, "") for size in ("small", "base", "large") for v in ("", "-v1.5")},
    **{f"bge-{size}-zh{v}": (_SEARCH_ZH, "") for size in ("small", "base", "large") for v in ("", "-v1.5")},
    **{f"e5-{size}{v}": ("query: ", "passage: ") for size in ("small", "base", "large") for v in ("", "-v2")},
    **{f"multilingual-e5-{size}": ("query: ", "passage: ") for size in ("small", "base", "large")},
    **{f"snowflake-arctic-embed-{size}": (_SEARCH, "") for size in ("xs", "s", "m", "l")},
    **{f"nomic-embed-text-v{v}": ("search_query: ", "search_document: ") for v in ("1", "1.5")},
    "mxbai-embed-large-v1": (_SEARCH, ""),
    "mdbr-leaf-ir": (_SEARCH, ""),
}
"""Last part of a hub id -> prompts of query and document, as the authors' model cards give them for retrieval."""

Origin = Literal["config", "model", "published", "none"]


@dataclass(frozen=True)
class Prompts:
    """Text put before every query and every document: part of the model, in mining, training and serving alike."""

    query: str = ""
    document: str = ""


@dataclass(frozen=True)
class FoundPrompts:
    """`prompts`, where each came from, and what the authors publish although the model's files say otherwise."""

    prompts: Prompts
    query_from: Origin
    document_from: Origin
    unused: Prompts | None = None

    def line(self, name: str) -> str:
        """For the log: what is put before the texts, why, and how to have it otherwise."""
        says = {
            "config": "asked for",
            "model": "in the model's files",
            "published": "published by the model's authors, its files name none; an empty student.prompts.{} leaves "
            "it out",
            "none": "",
        }
        parts = [
            f"{side} {prompt!r} ({says[origin].format(side)})" if prompt else f"{side} none"
            for side, prompt, origin in (
                ("query", self.prompts.query, self.query_from),
                ("document", self.prompts.document, self.document_from),
            )
        ]
        return f"prompts of {name}: {', '.join(parts)}"

    def doubt(self, name: str) -> str | None:
        """A warning if published prompts are left unused because the model's files say that there are none."""
        if self.unused is None:
            return None
        return (
            f"{name} was published with query prompt {self.unused.query!r} and document prompt "
            f"{self.unused.document!r}, its files name none: if it was not trained again without them, set "
            f"student.prompts: {{query: {json.dumps(self.unused.query, ensure_ascii=False)}, "
            f"document: {json.dumps(self.unused.document, ensure_ascii=False)}}}"
        )


def find_prompts(folder: Path, name: str = "", query: str | None = None, document: str | None = None) -> FoundPrompts:
    """The prompts of the model in `folder`, known as `name`; `query` and `document` are the caller's own, None asks.

    Reads files, loads no model. Raises ModelError if the model's file of prompts cannot be read.
    """
    named = _named(folder)
    stated = None
    if named is not None:
        # The first of the usual names that is not empty: saving fills in `query` and `document` as empty texts.
        stated = Prompts(
            *(next((named[name] for name in names if named.get(name)), "") for names in (QUERY_NAMES, DOCUMENT_NAMES))
        )
    known = PUBLISHED.get(_last_part(name)) or PUBLISHED.get(_last_part(str(folder)))
    published = Prompts(*known) if known else None
    if stated is None:
        own, origin = published or Prompts(), "published"
    else:
        own, origin = stated, "model"
    chosen = Prompts(own.query if query is None else query, own.document if document is None else document)
    empty = stated is not None and not (stated.query or stated.document)
    return FoundPrompts(
        chosen,
        _origin(query, chosen.query, origin),
        _origin(document, chosen.document, origin),
        published if empty and query is None and document is None else None,
    )


def _origin(given: str | None, chosen: str, otherwise: str) -> Origin:
    if given is not None:
        return "config"
    if not chosen:
        return "none"
    return "model" if otherwise == "model" else "published"


def _named(folder: Path) -> dict[str, str] | None:
    """What the model's files say of prompts, by name, None if they do not mention any."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        prompts = card.get("prompts")
        if prompts is None:
            return None
        named = {str(name): str(text or "") for name, text in prompts.items()}
        default = card.get("default_prompt_name")
    except (ValueError, AttributeError) as problem:
        raise ModelError(
            f"{path} cannot be read ({problem}); expected JSON with prompts: {{query: text, document: text}}"
        ) from problem
    if default and not any(named.get(name) for name in (*QUERY_NAMES, *DOCUMENT_NAMES)):
        # A model whose prompts have none of the usual names puts its default before everything, as `encode` does.
        named |= dict.fromkeys((QUERY_NAMES[-1], DOCUMENT_NAMES[-1]), named.get(str(default), ""))
    return named


def _last_part(name: str) -> str:
    """Of a hub id or folder; of a snapshot in the hub's cache (models--ORG--NAME/snapshots/REVISION) its NAME."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    cached = [part for part in parts if part.startswith("models--")]
    return (cached[-1].split("--")[-1] if cached else parts[-1] if parts else "").lower()
