"""A trained student as one folder that searches, explains itself and can be checked."""

from __future__ import annotations

from sdretrieval.export.bundle import export_bundle
from sdretrieval.export.card import CardFacts, TeacherFact, model_card
from sdretrieval.export.documents import IndexedDocuments
from sdretrieval.export.layout import FORMATS, Manifest, is_bundle, read_manifest
from sdretrieval.export.searcher import Searcher, SearchHit
from sdretrieval.export.verify import Check, Verification, verify_bundle

__all__ = [
    "FORMATS",
    "CardFacts",
    "Check",
    "IndexedDocuments",
    "Manifest",
    "SearchHit",
    "Searcher",
    "TeacherFact",
    "Verification",
    "export_bundle",
    "is_bundle",
    "model_card",
    "read_manifest",
    "verify_bundle",
]
