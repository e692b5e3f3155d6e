"""sdretrieval: makes a small, fast bi-encoder better at your corpus, without buying labels, and proves it."""

from __future__ import annotations

__version__ = "0.1.0"
