"""A whole student, LoRA, or an adapter: what each gains, forgets and costs, at equal updates.

    python -m benchmarks.lora DATA --vectors FOLDER --out FOLDER --collection feedbackqa --model all-MiniLM-L6-v2 \\
        --way whole --rate 5e-5

DATA and `--vectors` as of `benchmarks.mixing`. Queries are those of `benchmarks.codes` (texts of train queries; spans
of documents where a collection has none), the target is cos + 2 sigma BM25 / norm over all documents of a batch at the
temperature 0.05. `UPDATES` updates of `QUERIES` queries with `CANDIDATES` of the target's best `KEPT` documents each,
`TOKENS` tokens of a document, bfloat16. `whole` trains all but the word embeddings, `lora` matrices of rank 16 beside
all linear layers (peft; merged before it is measured), `adapter` a linear map of the vectors, `base` nothing. Prints
nDCG@10 on at most 400 test queries, and on at most 300 queries and 1,000 documents of `--guard`; CPU seconds and peak
memory of the training; and the differences to whatever else is in `--out`, which keeps the figures by query.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.codes import MOST_TEST, spans
from benchmarks.lexical_half import ndcg
from benchmarks.mixing import load_vectors
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.types import Corpus
from sdretrieval.encode.adapter import adapter_alone, with_adapter
from sdretrieval.encode.encoder import Embeddings, encode_sequences
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.evaluation import paired_test
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.lexical import build_lexical
from sdretrieval.store.memory import peak_of_work, resident_bytes
from sdretrieval.targets.build import build_targets
from sdretrieval.targets.calibrate import EVIDENCE
from sdretrieval.training.batches import Collator, KnownRelevance, Side, StoredVectors
from sdretrieval.training.distillation import ListwiseDistillation
from sdretrieval.training.train import TrainSettings, train

UPDATES, QUERIES, CANDIDATES, KEPT, TOKENS, MOST, RANK = 20, 16, 6, 20, 64, 640, 16
TEMPERATURE, UNIT_HITS, GUARD_QUERIES, GUARD_DOCUMENTS = 0.05, 100, 300, 1000


def vectors_of(student: Student, texts: list[str], *, queries: bool) -> Array:
    """As the student reads them, in bfloat16."""
    specials = student.query_specials if queries else student.document_specials
    view = student.query_view if queries else student.view
    ids = [view.cut(one, specials)[0] for one in tokenize(texts, student.tokenizer)]
    return encode_sequences(student.model, ids, specials, precision="bfloat16")


def found(student: Student, corpus: Corpus, rows: list[int], documents: list[int]) -> dict[str, float]:
    """nDCG@10 of some test queries in some documents."""
    place = {row: n for n, row in enumerate(documents)}
    gain_QN = np.zeros((len(rows), len(documents)))
    for q, row in enumerate(rows):
        for document, grade in corpus.qrels["test"][corpus.query_ids[row]].items():
            at = place.get(corpus.document_row.get(document, -1))
            if at is not None:
                gain_QN[q, at] = max(grade, 0)
    documents_ND = vectors_of(student, corpus.document_texts(documents), queries=False)
    scores_QN = vectors_of(student, corpus.query_texts(rows), queries=True) @ documents_ND.T
    return dict(zip([corpus.query_ids[row] for row in rows], ndcg(scores_QN, gain_QN).tolist(), strict=True))


def own_and_guard(student: Student, own: Corpus, guard: Corpus) -> dict[str, dict[str, float]]:
    """On the collection that is trained on, and on the other one, cut down."""
    chance = np.random.default_rng(13)
    rows = [int(row) for row in chance.permutation(own.split_rows("test"))[:MOST_TEST]]
    others = [int(row) for row in chance.permutation(guard.split_rows("test"))[:GUARD_QUERIES]]
    answers = [
        guard.document_row[document]
        for row in others
        for document, grade in guard.qrels["test"][guard.query_ids[row]].items()
        if grade > 0 and document in guard.document_row
    ]
    order = dict.fromkeys([*answers, *chance.permutation(len(guard.documents)).tolist()])
    return {
        "own": found(student, own, rows, list(range(len(own.documents)))),
        "guard": found(student, guard, others, list(order)[:GUARD_DOCUMENTS]),
    }


def batches_of(student: Student, corpus: Corpus, cached: Path, *, adapter: bool, model: str) -> Collator:
    """The target's best documents of each query as lists; whole batches are scored."""
    documents_ND, all_QD = (np.array(one) for one in load_vectors(corpus, model, cached))
    if "train" in corpus.qrels:
        rows = np.random.default_rng(13).permutation(corpus.split_rows("train"))[:MOST].tolist()
        texts, own_Q = corpus.query_texts(rows), np.full(len(rows), -1)
        taught_QD = all_QD[rows]
    else:
        texts, own_Q = spans(corpus, 13)
        texts, own_Q = texts[:MOST], own_Q[:MOST]
        taught_QD = vectors_of(student, texts, queries=True)
    index = build_lexical(corpus.document_texts(), False, "english")
    cosines_QN = taught_QD @ documents_ND.T
    sigma = float(np.sort(cosines_QN, axis=1)[:, -UNIT_HITS:].std(axis=1).mean())
    words_QN = index.scores(texts, range(index.count)) / np.maximum(index.norm(texts), 1e-6)[:, None]
    target_QN = (cosines_QN + EVIDENCE * sigma * words_QN).astype(np.float32)
    target_QN[np.flatnonzero(own_Q >= 0), own_Q[own_Q >= 0]] = -1
    lists = Ragged.of(list(np.argsort(-target_QN, axis=1)[:, :KEPT]), np.int64)
    scores = lists.with_values(np.take_along_axis(target_QN, lists.values_T.reshape(-1, KEPT), axis=1).ravel())
    nothing = lists.with_values(np.zeros(len(lists.values_T), dtype=bool))
    ranks = lists.with_values(np.zeros(len(lists.values_T), dtype=np.int32))
    candidates = Candidates(np.arange(len(texts)), lists, scores=scores, positive=nothing, dense_rank=ranks)
    targets, _ = build_targets(scores, nothing, temperature=TEMPERATURE)
    nobody = Ragged.of([np.zeros(0, dtype=np.int64) for _ in texts], np.int64)
    return Collator(
        student.model, Side(tokenize(texts, student.tokenizer), student.query_view, student.query_specials),
        Side(tokenize(corpus.document_texts(), student.tokenizer), student.view, student.document_specials), candidates,
        targets, CANDIDATES, 13, score_batch=lambda positions_B, rows_M: target_QN[np.ix_(positions_B, rows_M)],
        known=KnownRelevance(nobody, nobody, own_Q, np.arange(len(documents_ND))),
        stored=StoredVectors(Embeddings(documents_ND, np.arange(len(documents_ND) + 1)), None, taught_QD)
        if adapter else None,
    )  # fmt: skip


def taught(student: Student, batches: Collator, way: str, rate: float, folder: Path) -> dict[str, float]:
    """Train the student in place; what that took."""
    model: Any = student.model
    if way == "adapter":
        model = adapter_alone(with_adapter(model))
    if way == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        inject_adapter_in_model(
            LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"), model[0].auto_model
        )
    loss = ListwiseDistillation(model, student_temperature=TEMPERATURE)
    settings = TrainSettings(
        epochs=UPDATES * QUERIES / len(batches), queries_per_batch=QUERIES, learning_rate=rate,
        precision="float32" if way == "adapter" else "bfloat16", freeze=("word_embeddings",) if way == "whole" else (),
    )  # fmt: skip
    before, began = resident_bytes(), time.process_time()
    with peak_of_work() as peak:
        done = train(model, batches, loss, settings, folder)
    if way == "lora":
        for module in list(model.modules()):
            if hasattr(module, "merge") and hasattr(module, "lora_A"):
                module.merge()
    return {
        "seconds": time.process_time() - began, "bytes": peak.rss_bytes - before,
        "learning": done.counts["learning_parameters"],
    }  # fmt: skip


def main() -> None:
    """Train one, measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--collection", default="feedbackqa")
    parser.add_argument("--guard", default="cacm")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--way", choices=["base", "whole", "lora", "adapter"], required=True)
    parser.add_argument("--rate", type=float, default=5e-5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    own, guard = (open_corpus(str(asked.data / name)) for name in (asked.collection, asked.guard))
    student = load_student(str(locate_model(asked.model)), max_tokens=TOKENS, device="cpu")
    figures: dict[str, Any] = {}
    if asked.way != "base":
        cached = asked.vectors / Path(asked.model).name / asked.collection
        batches = batches_of(student, own, cached, adapter=asked.way == "adapter", model=asked.model)
        asked.out.mkdir(parents=True, exist_ok=True)
        figures = taught(student, batches, asked.way, asked.rate, asked.out / f"training-{asked.way}")
    figures |= own_and_guard(student, own, guard)
    name = f"{asked.collection}.{Path(asked.model).name}.{asked.way}" + (
        "" if asked.way == "base" else f".{asked.rate:g}"
    )
    (asked.out / f"{name}.json").write_text(json.dumps(figures))
    for file in sorted(asked.out.glob(f"{asked.collection}.{Path(asked.model).name}.*.json")):
        if file.stem == name:
            continue
        other = json.loads(file.read_text())
        for where in ("own", "guard"):
            said = paired_test(figures[where], other[where], 13)
            low, high = said.interval95
            print(f"{name} - {file.stem}, {where}: {said.difference:+.3f} ({low:+.3f} to {high:+.3f}), p {said.p:.2g}")
    means = {where: round(float(np.mean(list(figures[where].values()))), 4) for where in ("own", "guard")}
    print(
        name, means, {key: round(value, 1) for key, value in figures.items() if not isinstance(value, dict)}, flush=True
    )


if __name__ == "__main__":
    main()
