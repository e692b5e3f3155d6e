"""Stages 0/guard and N/guard: what a student forgets, on a collection that it is not trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sdretrieval.corpus import Corpus, find_source, limit_documents, load_corpus, open_corpus, save_corpus
from sdretrieval.corpus.text import hash_rank
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.tokens import tokenize
from sdretrieval.errors import CorpusError
from sdretrieval.evaluation import (
    Measured,
    detectable_gain,
    evaluate,
    over_seeds,
    paired_differences,
    paired_test,
    run_from_hits,
)
from sdretrieval.evaluation.gate import ENOUGH
from sdretrieval.evaluation.significance import ALPHA
from sdretrieval.files import read_json, write_json
from sdretrieval.formatting import quantity
from sdretrieval.stages.encode import Encoding, batch_tokens_of, student_identity
from sdretrieval.stages.lexical_half import Half
from sdretrieval.stages.precision import number_format
from sdretrieval.stages.run import Run, Weights
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

DOCUMENTS, QUERIES = 1000, 300
"""At most so many of the guard's collection are encoded by every candidate: half a minute for a small student on two
CPU cores. Documents that answer the queries come first."""
SPLITS = ("dev", "train", "test")
"""Which judgements are read: the first of these that is there. No student is trained on them, so that train is as good
as dev, and test is kept for a last figure if there is another."""


@dataclass(frozen=True)
class Forgotten:
    """What a student lost, or won, on the guard's queries against the base student."""

    corpus: str
    split: str
    n_queries: int
    n_documents: int
    measure: str
    base: float
    student: float
    difference: float
    interval95: tuple[float, float]
    p: float
    detectable: float
    """The true loss that a test over so many queries would probably find."""

    @property
    def passed(self) -> bool:
        """No significant loss; p is not corrected for other looks, which would let more loss through."""
        return self.difference >= 0 or self.p >= ALPHA

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"interval95": list(self.interval95), "passed": self.passed, "text": self.text}

    def sentence(self) -> str:
        """For a report."""
        counts = f"{quantity(self.n_queries, f'{self.split} queries')}, {quantity(self.n_documents, 'documents')}"
        return (
            f"{self.text}: {self.measure} {self.base:.4f} to {self.student:.4f} on {counts} that nobody trained on. A "
            f"loss of about {self.detectable:.4f} or more would probably have been seen."
        )

    @property
    def text(self) -> str:
        """`guard feedbackqa: -0.0120 (-0.0200 to -0.0040)`."""
        low, high = self.interval95
        return f"guard {self.corpus}: {self.difference:+.4f} ({low:+.4f} to {high:+.4f}), p = {self.p:.3g}"


def guard_split(name: str, counts: Mapping[str, int]) -> str:
    """The split whose judgements guard. `counts`: judged queries by split. Raises CorpusError if there are too few."""
    split = next((split for split in (*SPLITS, *counts) if counts.get(split)), None)
    if split is None:
        raise CorpusError(
            f"gate.guard: corpus {name} has no judgements, without which nobody can say what a student forgets there; "
            "give a collection with judged queries (qrels/dev.tsv), or leave the guard out (gate.guard: null)"
        )
    if counts[split] < ENOUGH:
        raise CorpusError(
            f"gate.guard: corpus {name} has {quantity(counts[split], f'judged {split} queries')}; {ENOUGH} are needed "
            "to tell a loss from bad luck: give more, or leave the guard out (gate.guard: null)"
        )
    return split


def sample_guard(run: Run) -> Artifact | None:
    """Judged queries of the collection that the config names, and the documents they are asked of; None without one.

    Raises CorpusError as reading the source does, for too few judged queries, and for the corpus that is trained on.
    """
    source = run.config.gate.guard
    if source is None:
        return None
    digest = find_source(source).digest()
    if digest == find_source(run.config.corpus.source).digest():
        raise CorpusError(
            f"gate.guard: {source} is the corpus that is trained on (corpus.source), on which the gate looks anyway; "
            "give another collection, or leave the guard out (gate.guard: null)"
        )

    def build(work: Work) -> None:
        split, corpus = sample(open_corpus(source))
        save_corpus(corpus, work.folder / "corpus")
        write_json(
            work.folder / "guard.json", {"name": corpus.name, "split": split, "n_documents": len(corpus.documents)}
        )
        work.counts.update(documents=len(corpus.documents), queries=len(corpus.qrels[split]))

    return run.runner.stage("0/guard", 1, {"most": [DOCUMENTS, QUERIES]}, [digest], build)


def sample(corpus: Corpus) -> tuple[str, Corpus]:
    """The split that guards, and the collection cut to at most `QUERIES` of its queries (those with a positive, chosen
    by a hash of their ids) and `DOCUMENTS` documents, the positives of these queries first. Raises CorpusError."""
    found = {
        split: [query for query, grades in judged.items() if max(grades.values(), default=0) > 0]
        for split, judged in corpus.qrels.items()
    }
    split = guard_split(corpus.name, {split: len(queries) for split, queries in found.items()})
    chosen = sorted(found[split], key=lambda query: hash_rank(0, query))[:QUERIES]
    judged = replace(corpus, qrels={split: {query: corpus.qrels[split][query] for query in chosen}})
    return split, replace(limit_documents(judged, DOCUMENTS), name=corpus.name)


def measure_guard(run: Run, guard: Artifact, address: str, weights: Weights, half: Half | None = None) -> Artifact:
    """A student's `gate.measure` for each of the guard's queries, by exact search. If queries alone learn, documents
    have the base student's vectors, as they do when it serves. `half`: joined to all vectors."""
    measure, depth, precision = run.config.gate.measure, run.config.evaluate.depth, number_format(run, "encode")

    def build(work: Work) -> None:
        corpus, split = load_corpus(guard.path / "corpus"), read_json(guard.path / "guard.json")["split"]
        rows = corpus.split_rows(split)
        reader = run.student(run.base.student if run.learns_queries_only else weights.student)
        encoding = Encoding(work, reader, batch_tokens_of(run), precision, address)
        texts = tokenize(corpus.document_texts(), reader.tokenizer, f"{address} documents")
        encoding.documents("document", "documents", texts, reader.view)
        encoding = replace(encoding, student=run.student(weights.student))
        encoding.queries(tokenize(corpus.query_texts(rows), encoding.student.tokenizer, f"{address} queries"))
        documents_ND, queries_QD = (
            np.asarray(Embeddings.load(work.folder / side).vectors_WD) for side in ("documents", "queries")
        )
        scores_QN = queries_QD @ documents_ND.T
        if half is not None:
            words = half.fitted
            scores_QN += words.queries(corpus.query_texts(rows)) @ words.documents(corpus.document_texts()).T
        best_Qk = np.argsort(-scores_QN, axis=1, kind="stable")[:, : depth + 1]  # one more: a query's own document
        ids = [corpus.query_ids[row] for row in rows]
        trec = run_from_hits(ids, corpus.document_ids, best_Qk, np.take_along_axis(scores_QN, best_Qk, axis=1))
        measured = evaluate(corpus.qrels[split], trec, [measure])
        write_json(work.folder / "measured.json", {"per_query": dict(measured.of(measure))})
        work.counts["mean"] = measured.mean(measure)

    cfg = run.config.student
    identity: dict[str, Any] = {"measure": measure, "depth": depth, "max_tokens": cfg.max_tokens, "learns": cfg.train}
    inputs: list[Artifact | str] = [guard, weights.key, *([run.base.key] if run.learns_queries_only else [])]
    inputs += [half] if half else []
    return run.runner.stage(address, 1, identity | student_identity(run), inputs, build, resumable=True)


def forgotten(run: Run, guard: Artifact, base: Artifact, students: Sequence[Artifact]) -> Forgotten | None:
    """What students measured on the guard (one a seed; averaged) have lost against the base student; None in a dry run,
    if one of them is not measured yet."""
    sampled = run.runner.result(guard, "guard.json", {})
    before, *after = (run.runner.result(one, "measured.json", {}).get("per_query", {}) for one in (base, *students))
    if not (sampled and before and all(after)):
        return None
    averages, measure = over_seeds(after).per_query, run.config.gate.measure
    test = paired_test(averages, before, run.config.seed)
    means = [Measured({measure: one}).mean(measure) for one in (before, averages)]
    return Forgotten(
        sampled["name"], sampled["split"], test.n, sampled["n_documents"], measure, means[0], means[1],
        test.difference, test.interval95, test.p,
        detectable_gain(paired_differences(averages, before)),
    )  # fmt: skip


def guarded(decision: Mapping[str, Any], found: Forgotten) -> dict[str, Any]:
    """A gate's decision to accept, with what the guard says of it: a significant loss there turns it down."""
    if found.passed:
        return {**decision, "guard": found.record(), "reason": f"{decision['reason']} {found.text}."}
    reason = f"rejected: it forgets, {found.text}. By dev alone it would be {decision['reason']}"
    return {**decision, "guard": found.record(), "accepted": False, "proven": False, "reason": reason}
