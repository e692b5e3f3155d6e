"""A corpus as an artifact: Arrow tables that are memory-mapped when read, judgements and counts as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from sdretrieval.corpus.tables import query_table, quiet_datasets
from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import CorpusError, DamagedArtifact

CARD = "corpus.json"


def save_corpus(corpus: Corpus, folder: Path) -> None:
    """Write `corpus` into `folder`: `documents/`, `queries/` (Arrow), `qrels.json`, and last the card `corpus.json`.

    Renaming a temporary folder is left to the caller (the store does so for every artifact).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_datasets():
        corpus.documents.save_to_disk(str(folder / "documents"))
        if len(corpus.queries):  # a table without rows is written, but cannot be read
            corpus.queries.save_to_disk(str(folder / "queries"))
    qrels = {split: {query: dict(judged) for query, judged in qrels.items()} for split, qrels in corpus.qrels.items()}
    (folder / "qrels.json").write_text(json.dumps(qrels, ensure_ascii=False), encoding="utf8")
    card = {
        "name": corpus.name,
        "digest": corpus.digest,
        "documents": len(corpus.documents),
        "queries": len(corpus.queries),
        "splits": {split: len(judged) for split, judged in qrels.items()},
    }
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf8")


def load_corpus(folder: Path) -> Corpus:
    """Open what `save_corpus` wrote; the tables stay on disk and are memory-mapped. The digest is the one saved.

    Raises `CorpusError` where `folder` holds no saved corpus, `DamagedArtifact` where parts of it are missing or
    their counts differ from the card's. (Comparing the digest would read every text: the store does that.)
    """
    from datasets import load_from_disk

    if not (folder / CARD).is_file():
        raise CorpusError(f"{folder} holds no saved corpus: {CARD} is missing. Expected a folder made by save_corpus.")
    card = json.loads((folder / CARD).read_text(encoding="utf8"))
    try:
        with quiet_datasets():
            documents = load_from_disk(str(folder / "documents"))
            queries = load_from_disk(str(folder / "queries")) if card["queries"] else query_table(())
        qrels = json.loads((folder / "qrels.json").read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise DamagedArtifact(
            f"{folder}: the saved corpus cannot be read ({error}). Remove it: it is made again."
        ) from error
    corpus = Corpus(name=card["name"], documents=documents, queries=queries, qrels=qrels)
    for part, table in (("documents", documents), ("queries", queries)):
        if len(table) != card[part]:
            raise DamagedArtifact(
                f"{folder}: {len(table)} {part}, the card says {card[part]}. Remove it: it is made again."
            )
    return corpus
