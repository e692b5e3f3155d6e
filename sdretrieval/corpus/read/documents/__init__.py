"""A folder of documents (text, Markdown, reStructuredText, HTML, PDF) as a corpus of passages.

`walk` finds the files, one parser a format turns each into blocks, `cut` turns blocks into passages, `read` puts them
together and counts all trouble on the way.
"""

from __future__ import annotations

from sdretrieval.corpus.read.documents.read import read_folder
from sdretrieval.corpus.read.documents.report import FolderReport
from sdretrieval.corpus.read.documents.walk import is_document_folder, read_files

__all__ = ["FolderReport", "is_document_folder", "read_files", "read_folder"]
