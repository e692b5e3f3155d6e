"""The parsers are optional packages: one place asks for them."""

from __future__ import annotations

import importlib
from typing import Any

from sdretrieval.errors import MissingPackageError

PACKAGES = {"markdown_it": "markdown-it-py", "bs4": "beautifulsoup4", "pypdf": "pypdf"}
"""Module -> the name that pip knows."""


def load_parser(module: str, files: str) -> Any:
    """The module. Raises MissingPackageError, holding the pip command, where it is absent; `files` says what for."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = PACKAGES[module]
        raise MissingPackageError(
            f"Reading {files} files needs the package {package}, which is not installed ({error}); "
            f"run: pip install {package}  (for all kinds of documents: pip install 'sdretrieval[documents]')"
        ) from error
