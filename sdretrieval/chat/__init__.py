"""A language model of the user's, behind OpenAI's chat-completions shape: asked in parallel, each answer kept."""

from __future__ import annotations

from sdretrieval.chat.ask import Chat, Cost
from sdretrieval.chat.client import ChatModel, key_of_environment
from sdretrieval.chat.prompts import JUDGING, WRITING

__all__ = ["JUDGING", "WRITING", "Chat", "ChatModel", "Cost", "key_of_environment"]
