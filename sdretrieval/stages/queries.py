"""Stages 0/queries and 0/verdicts: which synthetic queries stay, and what a person said of training pairs."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sdretrieval.corpus import load_left_out, read_marks, resolve
from sdretrieval.corpus.read.example_queries import ENOUGH
from sdretrieval.corpus.text import examples
from sdretrieval.encode.student import Student
from sdretrieval.errors import CorpusError
from sdretrieval.evaluation.prediction import DEPTH, UNRELATED, Signals, mean_cosine, signals
from sdretrieval.files import write_json
from sdretrieval.formatting import quantity
from sdretrieval.indexes.exact import exact_search
from sdretrieval.paths import typed_path
from sdretrieval.stages.collection import KEPT, Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.run import Run
from sdretrieval.store import Work
from sdretrieval.synthetic_queries import keep_consistent, plain
from sdretrieval.synthetic_queries.realism import told_apart

logger = logging.getLogger("sdretrieval")

CONSISTENCY_DEPTH = 100
"""Documents that each retriever brings to the ranking in which a query must find its own."""


def consistent_queries(run: Run, collected: Collection, vectors: Vectors, lexical: Lexical) -> Collection:
    """The collection with only those synthetic queries that find their own document."""
    within = run.config.corpus.generate.within

    def build(work: Work) -> None:
        """`kept.json`: by split the synthetic queries that stay, and the record of all that were made."""
        corpus, kept, tallies = collected.corpus, {}, {}
        texts = PlainTexts(collected)
        for split, queries in collected.generated.items():
            rows = [corpus.query_row[identifier] for identifier in queries]
            depth = min(CONSISTENCY_DEPTH, len(corpus.documents))
            found = keep_consistent(
                queries,
                exact_search(vectors.documents.vectors_WD, vectors.queries_QD[rows], depth).rows_Qk,
                lexical.index.search(corpus.query_texts(rows), depth).rows_Qk,
                texts.__getitem__,
                count=collected.wanted(split),
                within=within,
                tally=collected.tally(split),
            )
            if not found.ids:
                reasons = Counter[str]()
                for (_, reason), count in found.tally.dropped.items():
                    reasons[reason] += count
                dropped = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
                raise CorpusError(
                    f"corpus {corpus.name}: none of the {len(queries)} queries made from documents for '{split}' is "
                    f"kept ({dropped}): the documents are too much alike, or too short; raise corpus.generate.within, "
                    "remove copies, or give queries"
                )
            kept[split], tallies[split] = list(found.ids), found.tally.to_json()
            work.counts[f"{split}_made"], work.counts[f"{split}_kept"] = len(queries), len(found.ids)
            logger.info("synthetic queries for %s: %d of %d kept", split, len(found.ids), len(queries))
        student = run.student(run.base.student)
        seen = observe(collected, vectors, lexical, student) if collected.example_rows and student.unit_length else None
        record = {
            "kept": kept,
            "tallies": tallies,
            "realism": realism(collected, vectors, kept, run.config.seed),
            "cosines": student.unit_length,
            "signals": asdict(seen) if seen else None,
        }
        write_json(work.folder / KEPT, record)

    inputs = [collected.made, vectors, lexical]
    return Collection(
        collected.made, run.runner.stage("0/queries", 5, {"within": within, "seed": run.config.seed}, inputs, build)
    )


def realism(collected: Collection, vectors: Vectors, kept: Mapping[str, Sequence[str]], seed: int) -> dict[str, float]:
    """By kind of dev query how well a classifier tells it from the queries that people asked; empty without these."""
    rows, corpus = collected.example_rows, collected.corpus
    if not rows or "dev" not in kept:
        return {}
    real, by_kind = (vectors.queries_QD[rows], corpus.query_texts(rows)), defaultdict[str, list[int]](list)
    for query in kept["dev"]:
        by_kind[collected.generated["dev"][query].kind].append(corpus.query_row[query])
    return {
        kind: round(told_apart(real, (vectors.queries_QD[made], corpus.query_texts(made)), seed), 3)
        for kind, made in by_kind.items()
        if len(made) >= ENOUGH
    }


def observe(collected: Collection, vectors: Vectors, lexical: Lexical, student: Student) -> Signals:
    """What can be seen of the queries that people asked without any judgement; the student's vectors have length 1."""
    rows = collected.example_rows
    texts, depth = collected.corpus.query_texts(rows), min(DEPTH, len(collected.corpus.documents))
    unrelated = mean_cosine(
        student.model.encode_query(list(UNRELATED)), student.document_model.encode_document(list(UNRELATED))
    )
    dense = exact_search(vectors.documents.vectors_WD, vectors.queries_QD[rows], depth)
    return signals(dense, lexical.index.search(texts, depth), unrelated)


class PlainTexts:
    """Texts of documents, read one by one and remembered in one case: a document is often among the best."""

    def __init__(self, collected: Collection) -> None:
        self._corpus = collected.corpus
        self._known: dict[int, str] = {}

    def __getitem__(self, row: int) -> str:
        if row not in self._known:
            self._known[row] = plain(self._corpus.document_text(row))
        return self._known[row]


def with_verdicts(run: Run, collection: Collection) -> Collection:
    """The collection with what a person said of training pairs; the same if the config names no file.

    Raises RequestError if the file is none, CorpusError for marks of unknown queries or documents.
    """
    if run.config.corpus.verdicts is None:
        return collection
    path = typed_path(run.config.corpus.verdicts)

    def build(work: Work) -> None:
        """`verdicts.json`: the file's marks as rows. Those of queries that are not trained on are counted and named."""
        left_out = load_left_out(collection.made.path / "corpus")
        found, idle = resolve(marks, collection.corpus, collection.train_rows.tolist(), path, left_out)
        if idle:
            logger.warning(
                "verdicts %s: without effect, since about queries that are not trained on (dev, test, or left out): "
                "%s, line %s",
                path, quantity(len(idle), "verdicts"), examples([str(mark.line) for mark in idle]).replace("'", ""),
            )  # fmt: skip
        write_json(work.folder / "verdicts.json", found.to_json())
        relevant, refused = found.pairs
        work.counts.update(relevant=relevant, refused=refused, idle=len(idle))

    # The key is what the file says, whatever its name, its order, and its lines without a verdict.
    marks = read_marks(path)
    lines = sorted(f"{mark.query} {mark.document} {mark.verdict}" for mark in marks)
    digest = hashlib.blake2b("\n".join(lines).encode("utf8", "surrogatepass"), digest_size=20).hexdigest()
    return collection.with_verdicts(run.runner.stage("0/verdicts", 1, {}, [collection.filtered, digest], build))
