"""From a source to what every later stage reads: the corpus with its splits, its tokens, its BM25 index."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from sdretrieval.corpus import (
    default_cache,
    download_beir,
    open_corpus,
    repeated_queries,
    save_corpus,
)
from sdretrieval.corpus.beir_folder import beir_file
from sdretrieval.corpus.open import STDLIB, document_folder
from sdretrieval.corpus.passages import read_files
from sdretrieval.corpus.tabular import source_files, understands
from sdretrieval.corpus.types import Qrels
from sdretrieval.encode.student import Student
from sdretrieval.encode.tokens import save_tokens, tokenize
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.run.config import Config
from sdretrieval.run.stages.inputs import GENERATED, GENERATED_TRAIN, Prepared
from sdretrieval.run.stages.queries import Queries
from sdretrieval.run.store import Work, digest_file

logger = logging.getLogger("sdretrieval")


def source_digest(source: str) -> str:
    """What the corpus is, by content: its files' digests (`beir:NAME` and `hf:NAME` are downloaded); the interpreter.

    Of a table only the ending of its name counts, since that is how it is read.
    """
    if source != STDLIB and understands(source):
        return " ".join(f"table{path.suffix}={digest_file(path)}" for path in source_files(source))
    if documents := document_folder(source):
        return " ".join(f"{path.relative_to(documents)}={digest_file(path)}" for path in read_files(documents))
    folder = source_folder(source)
    if folder is None:
        return f"{source} {sys.version}"
    texts = [path for name in ("corpus.jsonl", "queries.jsonl") if (path := beir_file(folder, name))]
    files = [*texts, *sorted((folder / "qrels").glob("*.tsv"))]
    return " ".join(f"{path.name}={digest_file(path)}" for path in files)


def source_folder(source: str) -> Path | None:
    """The BEIR folder of a source (`beir:NAME` is downloaded); None for the interpreter, tables and text files.

    Raises CorpusError where there is no such folder, or it is no BEIR folder.
    """
    if source == STDLIB or understands(source) or document_folder(source):
        return None
    scheme, _, name = source.partition(":")
    folder = download_beir(name, default_cache() / "beir") if scheme == "beir" else Path(source).expanduser()
    judged_alone = (folder / "qrels").is_dir() and beir_file(folder, "queries.jsonl") is None
    if judged_alone or beir_file(folder, "corpus.jsonl") is None:
        open_corpus(source)  # raises, saying what is understood: a plan must not accept what a run refuses
    return folder


def build_corpus(work: Work, config: Config) -> None:
    """Read the source, make the splits that the config asks for, say what was left out."""
    asked = config.corpus
    # Without labels, train and dev judgements may not even decide which documents a cut corpus keeps.
    deciding = None if asked.labels else {config.evaluate.split}
    raw = open_corpus(asked.source, max_documents=asked.max_documents, keep_positives_of=deciding)
    queries = Queries(raw, config)
    queries.fill()
    corpus, train = queries.corpus, queries.train
    repeated = repeated_queries(raw)
    if repeated:
        logger.warning(
            "%d query texts stand in two splits and are left out of training, e.g. %r",
            len(repeated),
            next(iter(repeated)),
        )
    save_corpus(corpus, work.folder / "corpus")
    notes = {
        "name": raw.name,
        "estimate": not asked.labels,
        "train_queries": train,
        "repeated_queries": len(repeated),
        "splits": {split: len(judged) for split, judged in corpus.qrels.items()},
    }
    (work.folder / "notes.json").write_text(json.dumps(notes) + "\n", encoding="utf8")
    if queries.generated:
        (work.folder / GENERATED).write_text(json.dumps(queries.record(), ensure_ascii=False) + "\n", encoding="utf8")
    work.counts.update(documents=len(corpus.documents), train_queries=len(train), dev_queries=len(corpus.qrels["dev"]))


def known_positives(prepared: Prepared, rows: list[int], use_labels: bool) -> list[list[int]]:
    """Rows of the known positives of training queries: judged ones where labels may be used, and always the document
    that a generated query was made from."""
    corpus = prepared.corpus
    judged: dict[str, Any] = dict(corpus.qrels.get(GENERATED_TRAIN, {}))
    if use_labels:
        judged |= corpus.qrels.get("train", {})
    ids, document_row = corpus.query_ids, corpus.document_row
    return [
        sorted(document_row[d] for d, grade in judged.get(ids[row], {}).items() if grade > 0 and d in document_row)
        for row in rows
    ]


def build_tokens(work: Work, prepared: Prepared, student: Student) -> None:
    """Token ids of all texts, prompts left to the views; `masked`: of documents without the query made from them."""
    corpus, tokenizer = prepared.corpus, student.model.tokenizer
    sides = [("document", "documents", corpus.document_texts()), ("query", "queries", corpus.query_texts())]
    if prepared.masked:
        sides.append(("masked", "masked", [one.text for one in prepared.masked]))
    for kind, side, texts in sides:
        (work.folder / side).mkdir(exist_ok=True)
        tokens = tokenize(texts, tokenizer, f"tokenize {side}")
        save_tokens(tokens, work.folder / side)
        work.counts[f"{kind}_tokens"] = len(tokens.values_T)


def build_lexical(work: Work, prepared: Prepared, split_identifiers: bool) -> None:
    """BM25 over whole documents."""
    index = LexicalIndex.build(prepared.corpus.document_texts(), split_identifiers=split_identifiers)
    index.save(work.folder)
    work.counts["documents"] = index.count


def judgements(prepared: Prepared, split: str) -> Qrels:
    """The qrels of a split."""
    return prepared.corpus.qrels[split]
