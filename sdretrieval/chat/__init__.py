"""Models of the user's behind servers, asked in parallel: language models, each answer kept, and rerankers."""

from __future__ import annotations

from sdretrieval.chat.ask import Chat, Cost
from sdretrieval.chat.client import ServedModel, key_of_environment
from sdretrieval.chat.prompts import JUDGING, WRITING

__all__ = ["JUDGING", "WRITING", "Chat", "Cost", "ServedModel", "key_of_environment"]
