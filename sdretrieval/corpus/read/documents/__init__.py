"""A folder of documents (text, Markdown, reStructuredText, HTML, PDF, Word, PowerPoint) as a corpus of passages.

`folder` finds the files, one parser a format turns each into blocks, and `cut` turns blocks into passages.
"""

from __future__ import annotations

from sdretrieval.corpus.read.documents.folder import is_document_folder, read_files, read_folder, require_parsers

__all__ = ["is_document_folder", "read_files", "read_folder", "require_parsers"]
