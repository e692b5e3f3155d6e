"""A folder of documents (text, Markdown, reStructuredText, HTML, PDF) as a corpus of passages.

`walk` finds the files, one parser a format turns each into blocks, `cut` turns blocks into passages, `read` puts them
together and counts all trouble on the way.
"""

from __future__ import annotations

from .read import read_folder
from .report import FolderReport
from .walk import is_document_folder, read_files

__all__ = ["FolderReport", "is_document_folder", "read_files", "read_folder"]
