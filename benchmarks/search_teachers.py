"""Does a teacher that searches more than the student know more? Feedback, neighbours, variants, without training.

    python -m benchmarks.search_teachers DATA --vectors FOLDER [--models a,b] [--collections a,b] [--json FILE]
    python -m benchmarks.search_teachers --json FILE          # only the tables again

DATA and FOLDER: see `benchmarks.mixing`. Every document of a collection is ranked for at most 300 of its test queries:
by dense search mixed with BM25 on the absolute scale, as teachers are, and by the same with the work of a second
search:

* vectors: the query's vector moved towards those of the first search's best documents (Rocchio 1971);
* words: BM25's query with the best documents' terms (RM3: Abdul-Jaleel et al. 2004);
* graph: each score mixed with the mean score of the document's nearest neighbours (Diaz 2007);
* variants: other wordings of the query, and the query with the best documents' words, encoded, searched and averaged;
* centred: what all queries share is taken out of them (their mean vector, from the other half of the queries).

Prints nDCG@10 less the mixture of the same weight; then what is gained if one half of the queries chooses mixture and
second search for the other; then whether what can be seen without judgements tells where it pays, held out by
collection. Test queries are read: this compares methods, and no run chooses anything by it.

Legend: Q queries, N documents, D dims, V terms, k best documents.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mixing import COLLECTIONS, SEED, SPLIT, load_vectors
from benchmarks.search_teachers_table import SEARCHED, tables
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.text import hash_rank
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.prompts import find_prompts
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.targets.calibrate import EVIDENCE, mean_spread

Array = np.ndarray[Any, Any]
Encode = Callable[[Sequence[str]], Array]
MODELS, MOST_QUERIES, CUT, DEPTH = ("all-MiniLM-L6-v2", "paraphrase-MiniLM-L3"), 300, 10, 100
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 0.85, 0.9, 1.0)
"""Of BM25 on the absolute scale; 0: dense search alone."""


@dataclass
class Case:
    """A collection as a model and BM25 see it. Dense scores are in the model's sigma, BM25's in units of evidence."""

    texts: list[str]
    document_texts: Sequence[str]
    documents_ND: Array
    queries_QD: Array
    lexical: LexicalIndex
    own_QN: Array
    """bool: documents with the query's own id, which no query retrieves."""
    gain_QN: Array
    best_Q: Array

    def __post_init__(self) -> None:
        df_V = np.diff(self.lexical.weights_NV.tocsc().indptr)
        self.idf_V = np.log1p((self.lexical.count - df_V + 0.5) / (df_V + 0.5))
        self.words_QN = (
            EVIDENCE
            * self.lexical.scores(self.texts, range(self.lexical.count))
            / positive(self.lexical.norm(self.texts))
        )
        self.cosines_QN = self.queries_QD @ self.documents_ND.T
        self.dense_QN = in_sigma(self.cosines_QN)

    def mix(self, weight: float, dense_QN: Array | None = None, words_QN: Array | None = None) -> Array:
        """BM25 with `weight`."""
        dense_QN, words_QN = (one if other is None else other
                              for one, other in ((self.dense_QN, dense_QN), (self.words_QN, words_QN)))  # fmt: skip
        return (1 - weight) * dense_QN + weight * words_QN

    def top(self, scores_QN: Array, k: int) -> Array:
        """Rows of the best k documents (Q, k), best first."""
        scores_QN = np.where(self.own_QN, -np.inf, scores_QN)
        rows = np.argpartition(-scores_QN, k - 1, axis=1)[:, :k]
        return np.take_along_axis(rows, np.argsort(-np.take_along_axis(scores_QN, rows, 1), axis=1, kind="stable"), 1)

    def ndcg(self, scores_QN: Array) -> Array:
        """nDCG@10 (Q,)."""
        gains_Qk = np.take_along_axis(self.gain_QN, self.top(scores_QN, CUT), 1)
        return np.asarray((gains_Qk / np.log2(np.arange(CUT) + 2)).sum(1) / np.where(self.best_Q > 0, self.best_Q, 1))


def load(folder: Path, model: str, vectors: Path, most: int = MOST_QUERIES) -> Case:
    """A collection's documents, and at most so many of its test queries."""
    corpus = open_corpus(str(folder))
    rows = sorted(corpus.split_rows(SPLIT), key=lambda row: hash_rank(SEED, corpus.query_ids[row]))[:most]
    documents_ND, queries_QD = load_vectors(corpus, model, vectors / model / folder.name)
    gain_QN = np.zeros((len(rows), len(documents_ND)), np.float32)
    own_QN, best_Q = np.zeros(gain_QN.shape, bool), np.zeros(len(rows))
    for q, query in enumerate(corpus.query_ids[row] for row in rows):
        grades = corpus.qrels[SPLIT][query]
        for document, grade in grades.items():
            if document in corpus.document_row:
                gain_QN[q, corpus.document_row[document]] = max(grade, 0)
        own_QN[q, [corpus.document_row[query]] if query in corpus.document_row else []] = True
        best = sorted((max(grade, 0) for grade in grades.values()), reverse=True)[:CUT]
        best_Q[q] = sum(grade / np.log2(place + 2) for place, grade in enumerate(best))
    texts = corpus.document_texts()
    return Case(
        list(corpus.query_texts(rows)), texts, np.asarray(documents_ND), np.asarray(queries_QD[rows]),
        LexicalIndex.build(texts), own_QN, gain_QN, best_Q,
    )  # fmt: skip


def positive(norm_Q: Array) -> Array:
    """As a column, 1 in place of 0."""
    return np.where(norm_Q > 0, norm_Q, 1.0)[:, None]


def in_sigma(scores_QN: Array) -> Array:
    """Scores in the mean standard deviation of their own top 100."""
    k = min(DEPTH, scores_QN.shape[1])
    return scores_QN / mean_spread(np.partition(scores_QN, -k, axis=1)[:, -k:])


def unit(vectors_QD: Array) -> Array:
    """Rows of length 1."""
    return np.asarray(vectors_QD / np.linalg.norm(vectors_QD, axis=1, keepdims=True))


def moved(case: Case, first_QN: Array, k: int, share: float, heat: float | None = None) -> Array:
    """Dense scores of the query plus `share` of the mean of the best k documents, weighted by a softmax at `heat`."""
    rows_Qk = case.top(first_QN, k)
    weights_Qk = np.full(rows_Qk.shape, 1 / k)
    if heat is not None:
        scores_Qk = np.take_along_axis(first_QN, rows_Qk, 1)
        weights_Qk = np.exp((scores_Qk - scores_Qk[:, :1]) / heat)
        weights_Qk /= weights_Qk.sum(1, keepdims=True)
    centre_QD = np.einsum("qk,qkd->qd", weights_Qk, case.documents_ND[rows_Qk])
    return in_sigma(unit(case.queries_QD + share * centre_QD) @ case.documents_ND.T)


def feedback_terms(case: Case, first_QN: Array, k: int, count: int) -> list[tuple[Array, Array]]:
    """For each query `count` terms of its best k documents, most telling first, and their probabilities there."""
    from scipy.sparse import csr_matrix, diags

    frequency_NV = case.lexical.weights_NV @ diags(1 / np.maximum(case.idf_V, 1e-9))
    share_NV = (diags(1 / np.maximum(np.asarray(frequency_NV.sum(1)).ravel(), 1e-9)) @ frequency_NV).tocsr()
    rows_Qk = case.top(first_QN, k)
    chosen_QN = csr_matrix(
        (np.full(rows_Qk.size, 1 / k), rows_Qk.ravel(), np.arange(len(rows_Qk) + 1) * k), shape=first_QN.shape
    )
    model_QV, out = (chosen_QN @ share_NV).tocsr(), []
    for row in model_QV:
        order = np.argsort(-row.data * case.idf_V[row.indices])[:count]
        out.append((row.indices[order], row.data[order] / max(row.data[order].sum(), 1e-9)))
    return out


def expanded(case: Case, first_QN: Array, k: int = 5, count: int = 30, share: float = 0.2) -> Array:
    """BM25's evidence for the query with `share` of its weight on feedback terms."""
    from scipy.sparse import csr_matrix, diags

    terms = feedback_terms(case, first_QN, k, count)
    counts_QV = case.lexical.prepare(case.texts).counts_QV.tocsr()
    unknown_Q = np.asarray([case.lexical.vocabulary.unknown(text) for text in case.texts])
    length_Q = np.maximum(np.asarray(counts_QV.sum(1)).ravel() + unknown_Q, 1)
    ends = np.cumsum([0, *(len(columns) for columns, _ in terms)])
    columns, weights = (np.concatenate([one[side] for one in terms]) for side in (0, 1))
    relevant_QV = csr_matrix((weights, columns, ends), shape=counts_QV.shape)
    query_QV = ((1 - share) * diags(1 / length_Q) @ counts_QV + share * relevant_QV).tocsr()
    lost_Q = unknown_Q * ((1 - share) / length_Q * float(case.idf_V.max())) ** 2
    norm_Q = np.sqrt(np.asarray(query_QV.power(2) @ case.idf_V**2).ravel() + lost_Q)
    return np.asarray(EVIDENCE * (query_QV @ case.lexical.weights_NV.T).toarray() / positive(norm_Q))


def neighbours(products: Callable[[slice], Array], count: int, k: int) -> Array:
    """Each document's k nearest others (N, k), nearest first. `products`: scores of some documents with all."""
    out = []
    for start in range(0, count, 1024):
        block = products(slice(start, start + 1024))
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        best = np.argpartition(-block, k - 1, axis=1)[:, :k]
        out.append(np.take_along_axis(best, np.argsort(-np.take_along_axis(block, best, 1), axis=1), 1))
    return np.concatenate(out)


def smoothed(scores_QN: Array, near_Nk: Array, k: int, share: float) -> Array:
    """Scores mixed with the mean of the k nearest documents' scores."""
    mean_QN = np.zeros_like(scores_QN)
    for column in range(k):
        mean_QN += scores_QN[:, near_Nk[:, column]] / k
    return (1 - share) * scores_QN + share * mean_QN


def wordings(case: Case, first_QN: Array) -> dict[str, list[str]]:
    """Other texts of the queries: fewer words of their own, or more from the first search's best documents."""
    stops, terms = case.lexical.vocabulary.stop_words, list(case.lexical.vocabulary.numbers)
    words = [text.split() for text in case.texts]
    best = [[case.document_texts[int(row)].split() for row in rows] for rows in case.top(first_QN, 3)]
    telling = feedback_terms(case, first_QN, 5, 10)
    return {
        "content words": [" ".join(w for w in one if w.lower().strip(".,?!") not in stops) or " ".join(one)
                          for one in words],
        "first half": [" ".join(one[: (len(one) + 1) // 2]) for one in words],
        "second half": [" ".join(one[len(one) // 2 :]) for one in words],
        "first document": [" ".join([*one, *found[0][:40]]) for one, found in zip(words, best, strict=True)],
        "three documents": [" ".join([*one, *(word for some in found for word in some[:20])])
                            for one, found in zip(words, best, strict=True)],
        "terms": [" ".join([*one, *(terms[column] for column in columns)])
                  for one, (columns, _) in zip(words, telling, strict=True)],
    }  # fmt: skip


def centred(case: Case) -> dict[str, Array]:
    """Dense scores without what all queries share, cross-fitted; in the second, documents lose their own mean too."""
    half_Q = np.random.default_rng(SEED).permutation(len(case.texts)) % 2
    shared_QD = np.empty_like(case.queries_QD)
    for half in (0, 1):
        shared_QD[half_Q == half] = case.queries_QD[half_Q != half].mean(0)
    both_ND = unit(case.documents_ND - case.documents_ND.mean(0))
    return {
        "centred, half of the queries' mean": in_sigma(unit(case.queries_QD - 0.5 * shared_QD) @ case.documents_ND.T),
        "centred, queries and documents": in_sigma(unit(case.queries_QD - shared_QD) @ both_ND.T),
    }


def second_searches(case: Case, encode: Encode) -> Iterator[tuple[str, float, Array]]:
    """(system, weight, scores_QN): first the mixtures themselves, under the empty name."""
    for weight in WEIGHTS:
        yield "", weight, case.mix(weight)
    count = len(case.documents_ND)
    frequency_NV = case.lexical.weights_NV.multiply(1 / np.maximum(case.idf_V, 1e-9)).tocsr()
    near = neighbours(lambda some: case.documents_ND[some] @ case.documents_ND.T, count, 20)
    near_words = neighbours(lambda some: (frequency_NV[some] @ case.lexical.weights_NV.T).toarray(), count, 5)
    half = case.mix(0.5)
    variants = {name: in_sigma(encode(texts) @ case.documents_ND.T) for name, texts in wordings(case, half).items()}
    own = [case.dense_QN]
    dense = {
        "variants, content words": [*own, variants["content words"]],
        "variants, halves": [*own, variants["first half"], variants["second half"]],
        "variants, with the first document": [*own, variants["first document"]],
        "variants, all six": [*own, *variants.values()],
    }
    moves: dict[str, Array] = {name: in_sigma(np.mean(some, axis=0)) for name, some in dense.items()} | centred(case)
    for weight in SEARCHED:
        first = case.mix(weight)
        for name, scores_QN in moves.items():
            yield name, weight, case.mix(weight, scores_QN)
        for k, share in ((1, 0.25), (3, 0.5), (10, 0.5)):
            yield f"vectors, best {k}, {share:g}", weight, case.mix(weight, moved(case, first, k, share))
        again = case.mix(weight, moved(case, first, 3, 0.5))
        yield "vectors, best 3, two rounds", weight, case.mix(weight, moved(case, again, 3, 0.5))
        yield "vectors, best 20 by softmax, 0.5", weight, case.mix(weight, moved(case, first, 20, 0.5, 0.25))
        if weight:
            words_QN = expanded(case, first)
            yield "words, best 5, 30 terms, 0.2", weight, case.mix(weight, None, words_QN)
            yield "words and vectors", weight, case.mix(weight, moved(case, first, 3, 0.5), words_QN)
        else:
            yield "vectors, best 1 of the even mixture, 0.25", weight, moved(case, half, 1, 0.25)
            yield "vectors, best 3 of the even mixture, 0.5", weight, moved(case, half, 3, 0.5)
        for k, share in ((5, 0.2), (20, 0.4)):
            yield f"graph, {k} neighbours, {share:g}", weight, smoothed(first, near, k, share)
        yield "graph, 5 neighbours by words, 0.2", weight, smoothed(first, near_words, 5, 0.2)


def signals(case: Case) -> dict[str, float]:
    """What can be seen without judgements: how close the best document is, how far dense search and BM25 agree, how
    alike the best documents are, and how much all queries share."""
    dense, words, best = (case.top(one, CUT) for one in (case.dense_QN, case.words_QN, case.mix(0.75)))
    pairs = zip(dense.tolist(), words.tolist(), strict=True)
    found_QkD = case.documents_ND[best]
    alike = np.einsum("qkd,qjd->qkj", found_QkD, found_QkD)
    return {
        "closeness": float(case.cosines_QN.max(1).mean()),
        "agreement": float(np.mean([len({*a} & {*b}) / CUT for a, b in pairs])),
        "coherence": float((alike.sum((1, 2)) - CUT).mean() / (CUT * (CUT - 1))),
        "shared": float(np.linalg.norm(case.queries_QD.mean(0))),
    }  # fmt: skip


def encoder(model: str) -> Encode:
    """Query texts to unit vectors; bfloat16, as the vectors of most collections were made."""
    import torch
    from sentence_transformers import SentenceTransformer

    place = locate_model(model)
    encoder, prompts = SentenceTransformer(str(place), device="cpu"), find_prompts(place, model).prompts
    encoder.max_seq_length = 128

    def encode(texts: Sequence[str]) -> Array:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors = encoder.encode(
                list(texts), prompt=prompts.query, normalize_embeddings=True, convert_to_tensor=True
            )
        return np.asarray(vectors.float().numpy())

    return encode


def measure(folder: Path, model: str, vectors: Path, encode: Encode) -> dict[str, Any]:
    """One collection: nDCG@10 by query of every system at every weight, and the signals."""
    case = load(folder, model, vectors)
    values = [
        {"system": name, "weight": weight, "ndcg": case.ndcg(scores_QN).round(5).tolist()}
        for name, weight, scores_QN in second_searches(case, encode)
    ]
    return {"collection": folder.name, "model": model, "signals": signals(case), "values": values}


def main() -> None:
    """Measure what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else []
    done = {(one["model"], one["collection"]) for one in found}
    for model in asked.models.split(",") if asked.data else ():
        encode = encoder(model)
        for name in asked.collections.split(","):
            if (model, name) not in done:
                found.append(measure(asked.data / name, model, asked.vectors, encode))
                print(f"{model}, {name}", flush=True)
                if asked.json:
                    asked.json.write_text(json.dumps(found))
    print(tables(found))


if __name__ == "__main__":
    main()
