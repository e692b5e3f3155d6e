"""Does a student that trains with its documents' codes search a compressed index better than one that does not?

    python -m benchmarks.codes DATA --vectors FOLDER [--collections a,b] [--codes binary,PQ96,PQ48,PQ16] [--kinds both]

DATA and FOLDER as of `benchmarks.mixing`. The student is a linear map of cached vectors, as in `benchmarks.adapter`:
of queries and documents (`both`), or of queries alone (`query`), so that the codes of an index stay as they are. Its
queries are the texts of at most `MOST` train queries; where a collection has none, `MOST` spans of up to 12 words of
its documents, each with its own document left out of the target. A query's target is the softmax at 0.05 of
cos + 2 sigma BM25 / norm over all documents, the student's softmax is that of its scores over them.

Codes: `binary` keeps the sign of each of 384 dims (48 bytes, 32 times less than float32), `PQ96` and `PQ48` product
quantisation in so many bytes (16 and 32 times less), `PQ16` in 16 (96 times). `rotated` is the rival: the same codes
of vectors that ITQ (binary) or OPQ has turned. A score is the query's vector times what the document's code stands
for. `full`: the map learns from the scores of full vectors; `through`: from those of the codes, whose gradient goes to
the documents' vectors as if there were none (straight-through, Bengio et al. 2013); PQ is fitted again every `REFIT`
updates. For `query` no such trick is needed: codes are constants.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, normalize

from benchmarks.lexical_half import ndcg
from benchmarks.mixing import load_vectors
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.types import Corpus
from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.student import load_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.evaluation import paired_test
from sdretrieval.ragged import Array
from sdretrieval.stages.lexical import build_lexical
from sdretrieval.targets.calibrate import EVIDENCE

STEPS, RATE, BATCH, MOST, MOST_TEST, REFIT = 60, 1e-3, 128, 800, 400, 15
TEMPERATURE, UNIT_HITS, SPAN = 0.05, 100, 12
COLLECTIONS, CODES, MODEL = "covidqa_passage,feedbackqa,scifact,cacm", "binary,PQ96,PQ48,PQ16", "all-MiniLM-L6-v2"

Coder = Callable[[Array], Array]
"""float32 vectors (N, D) to what their codes stand for (N, D)."""


class Given(NamedTuple):
    """What a collection's trainings and measurements read: Q train queries, T test queries, N documents, D dims."""

    documents_ND: Tensor
    taught_QD: Tensor
    target_QN: Tensor
    tested_TD: Tensor
    gain_TN: Array
    ids: list[str]


def coder_of(kind: str, vectors_ND: Array, seed: int) -> Coder:
    """Fitted on `vectors_ND`."""
    if kind == "binary":
        return lambda some: (np.sign(some) / np.sqrt(some.shape[1])).astype(np.float32)
    quantiser = faiss.ProductQuantizer(vectors_ND.shape[1], int(kind.removeprefix("PQ")), 8)
    quantiser.cp.seed, quantiser.cp.niter, quantiser.cp.min_points_per_centroid = seed, 12, 1
    quantiser.train(np.ascontiguousarray(vectors_ND))
    return lambda some: quantiser.decode(quantiser.compute_codes(np.ascontiguousarray(some)))


def rotation_of(kind: str, vectors_ND: Array) -> Array:
    """(D, D) orthogonal, by which vectors are multiplied before they are coded: ITQ or OPQ, both of faiss."""
    dims = vectors_ND.shape[1]
    if kind == "binary":
        fitted = faiss.ITQMatrix(dims)
        # ITQ turns what is centred; cosines of turned vectors are those of the vectors, whatever it was fitted on.
        fitted.train(np.ascontiguousarray(vectors_ND - vectors_ND.mean(axis=0)))
    else:
        fitted = faiss.OPQMatrix(dims, int(kind.removeprefix("PQ")))
        fitted.niter, fitted.niter_pq, fitted.niter_pq_0 = 10, 4, 12
        fitted.train(np.ascontiguousarray(vectors_ND))
    return np.asarray(faiss.vector_to_array(fitted.A).reshape(dims, dims).T)


def fit(given: Given, start_DD: Tensor, *, both: bool, code: str | None, seed: int, steps: int = STEPS) -> Tensor:
    """The map (D, D), from `start_DD` on; `code`: train with the documents' codes."""
    chance, map_DD = np.random.default_rng(seed), start_DD.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([map_DD], lr=RATE)
    coder: Coder | None = None
    fixed_ND = normalize(given.documents_ND @ start_DD, dim=1)
    for step in range(steps):
        mapped_ND = normalize(given.documents_ND @ map_DD, dim=1) if both else fixed_ND
        scale = 1.0
        if code is not None:
            plain = mapped_ND.detach().numpy()
            if coder is None or (both and code != "binary" and step % REFIT == 0):
                coder = coder_of(code, plain, seed)
            coded_ND = torch.from_numpy(coder(plain))
            # A code is shorter along its vector than the vector is: so the temperature stays what it is of cosines.
            scale = 1 / float((coded_ND * mapped_ND.detach()).sum(dim=1).mean())
            mapped_ND = mapped_ND + (coded_ND - mapped_ND).detach()
        chosen = torch.from_numpy(chance.choice(len(given.taught_QD), min(BATCH, len(given.taught_QD)), replace=False))
        logits_BN = scale * (normalize(given.taught_QD[chosen] @ map_DD, dim=1) @ mapped_ND.T)
        target_BN = given.target_QN[chosen]
        found_BN = torch.log_softmax(logits_BN.masked_fill(torch.isneginf(target_BN), -1e4) / TEMPERATURE, dim=1)
        kept_BN = target_BN.masked_fill(torch.isneginf(target_BN), -1e4)
        loss = kl_div(found_BN, kept_BN, log_target=True, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return map_DD.detach()


def figures(given: Given, queries_DD: Tensor, documents_DD: Tensor, code: str | None, seed: int) -> Array:
    """nDCG@10 of each test query, in the index of the documents' codes."""
    mapped_ND = normalize(given.documents_ND @ documents_DD, dim=1).numpy()
    if code is not None:
        mapped_ND = coder_of(code, mapped_ND, seed)(mapped_ND)
    return ndcg(normalize(given.tested_TD @ queries_DD, dim=1).numpy() @ mapped_ND.T, given.gain_TN)


def prepare(folder: Path, vectors: Path, seed: int) -> Given:
    """Read, and make targets."""
    corpus = open_corpus(str(folder))
    chance = np.random.default_rng(13)
    test = [int(row) for row in chance.permutation(corpus.split_rows("test"))[:MOST_TEST]]
    index = build_lexical(corpus.document_texts(), False, "english")
    documents_ND, all_QD = (np.array(one) for one in load_vectors(corpus, MODEL, vectors / MODEL / folder.name))
    own_Q = np.full(MOST, -1)
    if "train" in corpus.qrels:
        rows = [int(row) for row in chance.permutation(corpus.split_rows("train"))[:MOST]]
        texts, taught_QD, own_Q = corpus.query_texts(rows), all_QD[rows], own_Q[: len(rows)]
    else:
        texts, own_Q = spans(corpus, seed)
        student = load_student(str(locate_model(MODEL)), max_tokens=64, device="cpu")
        ids = [student.query_view.cut(one, student.query_specials)[0] for one in tokenize(texts, student.tokenizer)]
        taught_QD = encode_sequences(student.model, ids, student.query_specials)
    cosines_QN = taught_QD @ documents_ND.T
    sigma = float(np.sort(cosines_QN, axis=1)[:, -UNIT_HITS:].std(axis=1).mean())
    words_QN = index.scores(texts, range(index.count)) / np.maximum(index.norm(texts), 1e-6)[:, None]
    scores_QN = torch.from_numpy(cosines_QN + EVIDENCE * sigma * words_QN) / TEMPERATURE
    for q, own in enumerate(own_Q.tolist()):
        if own >= 0:
            scores_QN[q, own] = -torch.inf
    gain_TN = np.zeros((len(test), len(documents_ND)))
    for t, row in enumerate(test):
        for document, grade in corpus.qrels["test"][corpus.query_ids[row]].items():
            if document in corpus.document_row:
                gain_TN[t, corpus.document_row[document]] = max(grade, 0)
    return Given(
        torch.from_numpy(documents_ND), torch.from_numpy(taught_QD), torch.log_softmax(scores_QN, dim=1).float(),
        torch.from_numpy(all_QD[test]), gain_TN, [corpus.query_ids[row] for row in test],
    )  # fmt: skip


def spans(corpus: Corpus, seed: int) -> tuple[list[str], Array]:
    """Texts, and the row of the document that each is from."""
    chance, texts = np.random.default_rng(seed), corpus.document_texts()
    rows = chance.permutation([row for row, text in enumerate(texts) if len(text.split()) > 2 * SPAN])
    rows = np.resize(rows, MOST)  # a small collection's documents give several
    made = []
    for row in rows.tolist():
        words = texts[row].split()
        length = int(chance.integers(5, SPAN + 1))
        start = int(chance.integers(0, len(words) - length))
        made.append(" ".join(words[start : start + length]))
    return made, rows


def rows_of(given: Given, code: str, kinds: Sequence[str], seed: int) -> dict[str, Array]:
    """By what is searched, nDCG@10 of each test query; with full vectors at first: what the codes cost."""
    same_DD = torch.eye(given.documents_ND.shape[1])
    turned_DD = torch.from_numpy(rotation_of(code, given.documents_ND.numpy()))
    found = {
        "base, full vectors": figures(given, same_DD, same_DD, None, seed),
        "base, codes": figures(given, same_DD, same_DD, code, seed),
        "base, rotated codes": figures(given, turned_DD, turned_DD, code, seed),
    }
    for kind in kinds:
        both = kind == "both"
        full_DD = fit(given, same_DD, both=both, code=None, seed=seed)
        found[f"{kind}, full vectors"] = figures(given, full_DD, full_DD if both else same_DD, None, seed)
        found[f"{kind}, full"] = figures(given, full_DD, full_DD if both else same_DD, code, seed)
        # Full vectors do not see a rotation: it comes afterwards.
        mapped_ND = normalize(given.documents_ND @ full_DD, dim=1).numpy()
        after_DD = torch.from_numpy(rotation_of(code, mapped_ND)) if both else turned_DD
        found[f"{kind}, rotated full"] = figures(
            given, full_DD @ after_DD, (full_DD if both else same_DD) @ after_DD, code, seed
        )
        for name, start_DD in (("", same_DD), ("rotated ", turned_DD)):
            map_DD = fit(given, start_DD, both=both, code=code, seed=seed)
            found[f"{kind}, {name}through"] = figures(given, map_DD, map_DD if both else start_DD, code, seed)
    return found


PAIRS = (
    ("both, through", "both, full"), ("both, rotated through", "both, rotated full"),
    ("query, through", "query, full"), ("query, rotated through", "query, rotated full"),
)  # fmt: skip


def measure(folder: Path, vectors: Path, codes: list[str], kinds: list[str], seeds: list[int]) -> None:
    """Print a collection's figures, means over seeds; tests over queries."""
    began = time.process_time()
    all_given = {seed: prepare(folder, vectors, seed) for seed in seeds}

    def mean(make: Callable[[Given, int], dict[str, Array]]) -> dict[str, Array]:
        found: list[dict[str, Array]] = [make(given, seed) for seed, given in all_given.items()]
        return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}

    ids = all_given[seeds[0]].ids
    print(f"\n{folder.name}, {len(ids)} test queries", flush=True)
    for code in codes:
        found = mean(lambda given, seed, code=code: rows_of(given, code, kinds, seed))  # type: ignore[misc]
        print(f"{code}: " + "; ".join(f"{name} {value.mean():.3f}" for name, value in found.items()))
        for one, other in (pair for pair in PAIRS if pair[0] in found):
            said: Any = paired_test(
                dict(zip(ids, found[one].tolist(), strict=True)), dict(zip(ids, found[other].tolist(), strict=True)), 13
            )
            low, high = said.interval95
            print(
                f"    {one} - {other}: {said.difference:+.3f} ({low:+.3f} to {high:+.3f}), p {said.p:.2g}", flush=True
            )
    print(f"CPU seconds: {time.process_time() - began:.0f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--collections", default=COLLECTIONS)
    parser.add_argument("--codes", default=CODES)
    parser.add_argument("--kinds", default="both,query")
    parser.add_argument("--seeds", default="13")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    for name in asked.collections.split(","):
        measure(
            asked.data / name,
            asked.vectors,
            asked.codes.split(","),
            asked.kinds.split(","),
            [int(one) for one in asked.seeds.split(",")],
        )


if __name__ == "__main__":
    main()
