"""What has been made, under keys made from its inputs; locks; the ledger of a run."""

from __future__ import annotations

from sdretrieval.digests import digest_file
from sdretrieval.store.artifacts import Made, Removed, Store, Work
from sdretrieval.store.disk import check_disk
from sdretrieval.store.fingerprint import digest_files, key_of
from sdretrieval.store.ledger import Ledger, keys_in_ledgers
from sdretrieval.store.manifest import FileRecord, Manifest
from sdretrieval.store.memory import peak_rss_bytes
from sdretrieval.store.reusable import Reusable

__all__ = [
    "FileRecord",
    "Ledger",
    "Made",
    "Manifest",
    "Removed",
    "Reusable",
    "Store",
    "Work",
    "check_disk",
    "digest_file",
    "digest_files",
    "key_of",
    "keys_in_ledgers",
    "peak_rss_bytes",
]
