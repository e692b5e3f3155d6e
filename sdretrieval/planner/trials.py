"""Short trials of the work that costs: a second or two of encoding, training, reading pairs, searching."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.encode.batches import budget_batches, features_of, usual_batch_tokens
from sdretrieval.encode.encoder import Precision, encode_sequences
from sdretrieval.encode.student import Student
from sdretrieval.encode.views import Specials
from sdretrieval.evaluation import evaluate, run_from_hits, write_trec
from sdretrieval.indexes.exact import exact_search
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.planner.speeds import Figures, median_of
from sdretrieval.ragged import Array
from sdretrieval.store.memory import give_back_freed, peak_of_work, resident_bytes
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher
from sdretrieval.teachers.pairs import PairCache
from sdretrieval.training.train import TrainSettings

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

ENCODED_TOKENS = 12_288
"""Of a trial of encoding: six batches of a CPU."""
TRAINED_TOKENS = 4_096
"""Of a trial of training: two parts of a batch."""
READ_TOKENS = 6_144
"""Of a trial of reading pairs."""
ROUNDS = 3


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def encode_trial(
    student: Student,
    sequences: Sequence[Array],
    batch_tokens: int | None,
    precision: Precision,
    tokens: int = ENCODED_TOKENS,
    rounds: int = ROUNDS,
) -> Figures:
    """Seconds a token, from batches evenly spread over all lengths, as a chunk of many texts forms them."""
    specials = student.document_specials
    budget = batch_tokens or usual_batch_tokens(student.model.device.type)
    batches = [[sequences[i] for i in batch] for batch in budget_batches([len(ids) for ids in sequences], budget)]
    step = min(len(batches), max(1, len(batches) * budget // tokens))
    some = batches[step // 2 :: step]
    shown = sum(_content(ids, specials) for batch in some for ids in batch)

    def encode(of: Sequence[Sequence[Array]]) -> None:
        for batch in of:
            encode_sequences(student.model, batch, specials, budget, precision=precision)

    give_back_freed()
    before = resident_bytes()
    with peak_of_work() as peak:
        encode(some[:1])  # what is only done once is done
        seconds = median_of(rounds, lambda: seconds_of(lambda: encode(some)))
    return {"seconds_per_token": seconds / max(shown, 1), "bytes": max(peak.rss_bytes - before, 0)}


def _content(ids: Array, specials: Specials) -> int:
    return max(len(ids) - specials.count, 0)


def train_trial(
    student: Student, queries: Sequence[Array], documents: Sequence[Array], settings: TrainSettings
) -> Figures:
    """Seconds a token of a pass there and back, seconds of an update's own work, bytes that a token holds meanwhile.

    `student` is changed: a copy of its own is needed.
    """
    import torch

    from sdretrieval.teachers.ema import WeightAverage
    from sdretrieval.training.batches import PART_TOKENS
    from sdretrieval.training.speed import dropout_at, freeze

    start = resident_bytes()
    model, specials = student.model, student.document_specials
    freeze(model, settings.freeze)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser, average = torch.optim.AdamW(learning, lr=0.0), WeightAverage(model, 0.5)
    parts = [[documents[i] for i in part] for part in budget_batches([len(ids) for ids in documents], PART_TOKENS)]
    tokens = sum(_content(ids, specials) for ids in (*queries, *documents))
    reduced = torch.autocast(model.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16")

    def there_and_back() -> None:
        with reduced:
            asked = model(_on(model, features_of(model, queries, student.query_specials)))["sentence_embedding"]
            shown = [model(_on(model, features_of(model, part, specials)))["sentence_embedding"] for part in parts]
            loss = torch.logsumexp(asked.float() @ torch.cat(shown).float().T / 0.05, dim=1).mean()
        loss.backward()
        loss.item()  # a GPU works behind the caller's back until then

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update(model)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)

    model.train()
    with dropout_at(model, settings.dropout):
        there_and_back()
        update()  # the optimiser's moments are there from now on
        give_back_freed()
        before = resident_bytes()
        with peak_of_work() as peak:  # in turn: an update without gradients would be no update
            turns = [(seconds_of(there_and_back), seconds_of(update)) for _ in range(ROUNDS)]
    passes, updates = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    return {
        "seconds_per_token": passes / max(tokens, 1),
        "seconds_per_update": updates,
        "bytes_per_token": max(peak.rss_bytes - before, 0) / max(tokens, 1),
        "bytes_fixed": max(before - start, 0),
    }


def _on(model: Any, features: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(model.device) if hasattr(value, "to") else value for name, value in features.items()}


def pair_trial(model: CrossEncoder, pairs: Sequence[tuple[str, str]], **view: Any) -> Figures:
    """Seconds a pair of a query and a whole document, windows and tokenizing included."""
    before, network = resident_bytes(), model.model
    weights = 0 if network is None else 4 * sum(parameter.numel() for parameter in network.parameters())
    with tempfile.TemporaryDirectory(prefix="sdretrieval-trial-") as folder, peak_of_work() as peak:
        teacher = CrossEncoderTeacher(
            model, name="trial", query_text=str, document_text=str, cache=PairCache(Path(folder)), **view
        )
        teacher.score_texts(pairs[:2])
        seconds = seconds_of(lambda: teacher.score_texts(pairs[2:]))
    held = max(peak.rss_bytes - before, 0) + weights
    return {"seconds_per_pair": seconds / max(len(pairs) - 2, 1), "bytes": held}


def search_trial(dims: int) -> Figures:
    """Seconds of one query's product with one vector, within exact search."""
    generator = np.random.default_rng(13)
    vectors_ND = generator.standard_normal((16_384, dims), dtype=np.float32)
    queries_QD = generator.standard_normal((256, dims), dtype=np.float32)
    exact_search(vectors_ND[:1024], queries_QD, 100)
    seconds = median_of(ROUNDS, lambda: seconds_of(lambda: exact_search(vectors_ND, queries_QD, 100)))
    return {"seconds_per_product": seconds / (len(vectors_ND) * len(queries_QD))}


def lexical_trial(texts: Sequence[str], queries: Sequence[str], split_identifiers: bool) -> Figures:
    """Seconds of a document in building BM25, and of a query with a document in searching it."""
    start = time.perf_counter()
    index = LexicalIndex.build(texts, split_identifiers=split_identifiers)
    built = time.perf_counter() - start
    seconds = seconds_of(lambda: index.search(queries, 100))
    return {
        "seconds_per_document": built / max(len(texts), 1),
        "seconds_per_query": seconds / max(len(queries), 1),
    }


def evaluate_trial(depth: int) -> Figures:
    """Seconds of a query's run of `depth` documents: as a dictionary, measured, written."""
    generator = np.random.default_rng(13)
    ids = [f"document-{row}" for row in range(max(depth, 100))]
    rows_Qk = np.stack([generator.permutation(len(ids))[:depth] for _ in range(100)])
    scores_Qk = -np.sort(-generator.standard_normal(rows_Qk.shape).astype(np.float32))
    queries = [f"query-{row}" for row in range(len(rows_Qk))]
    qrels = {query: {ids[int(rows[0])]: 1} for query, rows in zip(queries, rows_Qk, strict=True)}

    def measured() -> None:
        run = run_from_hits(queries, ids, rows_Qk, scores_Qk)
        evaluate(qrels, run, ("nDCG@10", "Recall@100"))
        with tempfile.TemporaryDirectory(prefix="sdretrieval-trial-") as folder:
            write_trec(run, Path(folder) / "run.trec", "trial")

    measured()
    return {"seconds_per_query": median_of(ROUNDS, lambda: seconds_of(measured)) / len(queries)}
