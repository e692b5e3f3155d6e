"""From a source to what every later stage reads: the corpus with its splits, its tokens, its BM25 index."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdretrieval.config import Config
from sdretrieval.corpus import (
    find_source,
    open_corpus,
    read_marks,
    repeated_queries,
    resolve,
    save_corpus,
)
from sdretrieval.corpus.text import examples
from sdretrieval.corpus.types import Qrels
from sdretrieval.encode.student import Student
from sdretrieval.encode.tokens import tokenize_into
from sdretrieval.stages.inputs import GENERATED, GENERATED_TRAIN, Prepared, donors_among
from sdretrieval.stages.queries import Queries
from sdretrieval.stages.wording import build_index
from sdretrieval.store import Work

logger = logging.getLogger("sdretrieval")


def source_digest(source: str) -> str:
    """What the corpus is by content, and so its part of every key."""
    return find_source(source).digest()


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
    """Rows of the known positives of training queries: judged ones where labels may be used, always the document that a
    generated query was made from, and above both what a person said (`corpus.verdicts`)."""
    corpus = prepared.corpus
    judged: dict[str, Any] = dict(corpus.qrels.get(GENERATED_TRAIN, {}))
    if use_labels:
        judged |= corpus.qrels.get("train", {})
    ids, document_row, said = corpus.query_ids, corpus.document_row, prepared.verdicts

    def known(row: int) -> set[int]:
        found = {document_row[d] for d, grade in judged.get(ids[row], {}).items() if grade > 0 and d in document_row}
        return (found | said.relevant.get(row, frozenset())) - said.refused.get(row, frozenset())

    return [sorted(known(row)) for row in rows]


def verdicts_digest(path: Path) -> str:
    """What the file says, whatever its name, its order, and its lines without a verdict."""
    said = sorted(f"{mark.query} {mark.document} {mark.verdict}" for mark in read_marks(path))
    return hashlib.blake2b("\n".join(said).encode("utf8", "surrogatepass"), digest_size=20).hexdigest()


def build_verdicts(work: Work, prepared: Prepared, path: Path) -> None:
    """`verdicts.json`: the file's marks as rows. Those of queries that are not trained on are counted and named."""
    found, idle = resolve(read_marks(path), prepared.corpus, prepared.train_rows.tolist(), path)
    if idle:
        logger.warning(
            "verdicts %s: %d line(s) speak of queries that are not trained on (dev, test, or left out), and say "
            "nothing here: line %s", path, len(idle), examples([str(mark.line) for mark in idle]).replace("'", ""),
        )  # fmt: skip
    (work.folder / "verdicts.json").write_text(json.dumps(found.to_json()) + "\n", encoding="utf8")
    relevant, refused = found.pairs
    work.counts.update(relevant=relevant, refused=refused, idle=len(idle))


def build_tokens(work: Work, prepared: Prepared, student: Student, what: str = "0/tokens") -> None:
    """Token ids of all texts, prompts left to the views; those of texts that an earlier corpus had are copied.

    `masked`: of documents without the query made from them.
    """
    corpus, tokenizer, kin = prepared.corpus, student.model.tokenizer, work.kin()
    sides: list[tuple[str, str, Sequence[str]]] = [
        ("document", "documents", corpus.document_texts()),
        ("query", "queries", corpus.query_texts()),
    ]
    if prepared.masked:
        sides.append(("masked", "masked", [one.text for one in prepared.masked]))
    for kind, side, texts in sides:
        (work.folder / side).mkdir(exist_ok=True)
        donors = donors_among(kin, side)
        tokens, reused = tokenize_into(work.folder / side, texts, tokenizer, f"{what} {side}", donors)
        work.counts[f"{kind}_tokens"] = len(tokens.values_T)
        work.counts[f"{side}_reused"] = reused


def build_lexical(work: Work, prepared: Prepared, split_identifiers: bool, language: str) -> None:
    """BM25 over whole documents."""
    index = build_index(prepared.corpus.document_texts(), split_identifiers, language)
    index.save(work.folder)
    work.counts["documents"] = index.count


def judgements(prepared: Prepared, split: str) -> Qrels:
    """The qrels of a split."""
    return prepared.corpus.qrels[split]
