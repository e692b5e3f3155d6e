"""How true are estimates without labels? Synthetic queries beside judged ones, over collections and base models.

    python -m benchmarks.estimates DATA --out OUT [--models FOLDER,...] [--collections NAME,...] [--queries 100]
    python -m benchmarks.estimates --out OUT          # only the table and the plot again

DATA holds folders in BEIR's layout. For each collection and model: the differences to dense search in nDCG@10 of BM25,
of hybrid search by z-scores (five weights) and on the absolute scale (three weights), once on the judged test queries
(the truth) and once on synthetic queries of each kind, whose documents keep 0, 10, ... 100 % of the query's words; and
the signals of the test queries' texts from which `sdretrieval.evaluation.prediction` predicts. Judgements are read for
the truth alone. One JSON file a case goes into OUT, then `estimates.md` and `estimates.svg` (see
`benchmarks.estimates_table`). Vectors of documents are cached in OUT/vectors.

A thinned document's dense score lies between that of the document with all of the query's words and with none, in
proportion to the idf of the words that it keeps, so that each is encoded twice instead of eleven times.

Legend: Q queries, N documents, D dimensions, C candidates of a query (own document last), k best documents.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import estimates_table
from sdretrieval.corpus import Corpus, open_corpus
from sdretrieval.corpus.text import hash_rank
from sdretrieval.evaluation.prediction import DEPTH, UNRELATED, mean_cosine
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.synthetic_queries import Recipe, SyntheticQuery, make_queries, thinned
from sdretrieval.synthetic_queries.overlap import content_words, held_share, top_share
from sdretrieval.targets.calibrate import EVIDENCE

Array = np.ndarray[Any, Any]

K, SEED, DRAWS, MOST_JUDGED = 100, 13, 4, 600
KEEP = tuple(step / 10 for step in range(11))
SHARES, WEIGHTS = (0.1, 0.25, 0.5, 0.75, 0.9), (0.25, 0.5, 0.75)
"""BM25's share in a mixture of z-scores, and its weight on the absolute scale."""


class Lists(NamedTuple):
    """Candidates of each query: rows (-1: none), dense and BM25 scores (Q, C), which are in either one's top."""

    rows: Array
    dense: Array
    lexical: Array
    in_dense: Array
    in_lexical: Array


class Side:
    """A collection as a model and BM25 see it."""

    def __init__(self, corpus: Corpus, encode: Callable[[Sequence[str], bool], Array], vectors_ND: Array) -> None:
        self.corpus, self.encode, self.vectors_ND = corpus, encode, vectors_ND
        self.lexical = LexicalIndex.build(corpus.document_texts())
        df_V = np.diff(self.lexical.weights_NV.tocsc().indptr)
        self.idf_V = np.log1p((self.lexical.count - df_V + 0.5) / (df_V + 0.5))

    def lists(self, texts: Sequence[str], queries_QD: Array, own_Q: Array | None) -> Lists:
        """The best 100 of either search, without each query's own document."""
        dense_QN = queries_QD @ self.vectors_ND.T
        lexical_QN = self.lexical.scores(texts, range(self.lexical.count))
        if own_Q is not None:
            dense_QN[np.arange(len(texts)), own_Q] = -np.inf
            lexical_QN[np.arange(len(texts)), own_Q] = 0
        k = min(K, self.lexical.count - 1)
        tops = [np.argpartition(-scores, k - 1, axis=1)[:, :k] for scores in (dense_QN, lexical_QN)]
        shape = (len(texts), 2 * k)
        out = Lists(
            np.full(shape, -1), np.full(shape, -np.inf), np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)
        )
        for q, (dense_k, lexical_k) in enumerate(zip(*tops, strict=True)):
            lexical_k = lexical_k[lexical_QN[q, lexical_k] > 0]
            rows = np.unique(np.concatenate([dense_k, lexical_k]))
            if own_Q is not None:
                rows = rows[rows != own_Q[q]]
            n = len(rows)
            out.rows[q, :n], out.dense[q, :n], out.lexical[q, :n] = rows, dense_QN[q, rows], lexical_QN[q, rows]
            out.in_dense[q, :n], out.in_lexical[q, :n] = np.isin(rows, dense_k), np.isin(rows, lexical_k)
        return out


def systems(lists: Lists, norm_Q: Array, sigma: float) -> dict[str, Array]:
    """Scores (Q, C) by system."""
    dense, lexical = _standard(lists.dense, lists.in_dense), _standard(lists.lexical, lists.in_lexical)
    found = lists.in_dense | lists.in_lexical
    evidence = EVIDENCE * lists.lexical / np.where(norm_Q > 0, norm_Q, 1.0)[:, None]
    return {
        "dense": np.where(lists.in_dense, lists.dense, -np.inf),
        "bm25": np.where(lists.in_lexical, lists.lexical, -np.inf),
        **{f"z {s:g}": np.where(found, (1 - s) * dense + s * lexical, -np.inf) for s in SHARES},
        **{f"abs {w:g}": np.where(found, (1 - w) * lists.dense / sigma + w * evidence, -np.inf) for w in WEIGHTS},
    }


def _standard(scores: Array, inside: Array) -> Array:
    n = inside.sum(1, keepdims=True).clip(1)
    kept = np.where(inside, scores, 0.0)
    mean = kept.sum(1, keepdims=True) / n
    spread = np.sqrt((np.where(inside, kept - mean, 0.0) ** 2).sum(1, keepdims=True) / n)
    z = np.where(inside, (kept - mean) / np.where(spread < 1e-6, 1.0, spread), np.inf)
    lowest = z.min(1, keepdims=True)
    return np.where(inside, z, np.where(np.isfinite(lowest), lowest, 0.0))


def spread_of(lists: Lists) -> float:
    """sigma: the mean standard deviation of the dense top."""
    tops = zip(lists.dense, lists.in_dense, strict=True)
    return float(np.mean([scores[inside].std() for scores, inside in tops]))


def with_own(lists: Lists, dense_Q: Array, lexical_Q: Array) -> Lists:
    """The lists, each query's own document in the last column."""
    floor = np.where(lists.in_dense, lists.dense, np.inf).min(1)
    least = np.where(lists.in_lexical, lists.lexical, np.inf).min(1)
    inside = (lexical_Q > 0) & ((lexical_Q > least) | (lists.in_lexical.sum(1) < lists.rows.shape[1] // 2))
    last = (np.full(len(dense_Q), -1), dense_Q, lexical_Q, dense_Q > floor, inside)
    return Lists(*(np.column_stack(pair) for pair in zip(lists, last, strict=True)))


def ndcg_of_own(scores: Array) -> Array:
    """nDCG@10 (Q,) if the last column is the one relevant document; ties count half."""
    own = scores[:, -1:]
    rank = 1 + (scores[:, :-1] > own).sum(1) + 0.5 * ((scores[:, :-1] == own) & np.isfinite(own)).sum(1)
    return np.where(np.isfinite(own[:, 0]) & (rank <= 10), 1 / np.log2(1 + rank), 0.0)


def ndcg(scores: Array, rows: Array, grades: Sequence[Mapping[int, int]]) -> Array:
    """nDCG@10 (Q,) by judgements, a grade by document row."""
    values = []
    for q, order in enumerate(np.argsort(-scores, axis=1, kind="stable")[:, :10]):
        gains = [grades[q].get(int(rows[q, c]), 0) if np.isfinite(scores[q, c]) else 0 for c in order]
        best = sorted(grades[q].values(), reverse=True)[:10]
        discounted = [sum(g / np.log2(i + 2) for i, g in enumerate(some)) for some in (gains, best)]
        values.append(discounted[0] / discounted[1])
    return np.asarray(values)


def differences(values: Mapping[str, Array]) -> dict[str, float]:
    """Mean difference to dense search by system."""
    return {name: float((one - values["dense"]).mean()) for name, one in values.items() if name != "dense"}


def truth(side: Side) -> dict[str, Any]:
    """The judged test queries: what is true of the systems, and of the overlap."""
    corpus = side.corpus
    judged = {
        row: {corpus.document_row[d]: g for d, g in corpus.qrels["test"][corpus.query_ids[row]].items()
              if g > 0 and d in corpus.document_row}
        for row in corpus.split_rows("test")
    }  # fmt: skip
    rows = sorted((row for row in judged if judged[row]), key=lambda row: hash_rank(SEED, corpus.query_ids[row]))
    rows = rows[:MOST_JUDGED]
    texts = corpus.query_texts(rows)
    lists = side.lists(texts, side.encode(texts, True), None)
    grades, scored = [judged[row] for row in rows], systems(lists, side.lexical.norm(texts), spread_of(lists))
    values = {name: ndcg(scores, lists.rows, grades) for name, scores in scored.items()}
    held = [
        np.mean([held_share(corpus.document_text(d), text, side.lexical.vocabulary) for d in sorted(found)[:20]])
        for text, found in zip(texts, grades, strict=True)
    ]
    return {
        "queries": len(rows), "dense": float(values["dense"].mean()), "truth": differences(values),
        "by_query": {name: [round(float(v), 4) for v in one - values["dense"]] for name, one in values.items()},
        "overlap": float(np.mean(held)), "top_share": top_share(side.lexical, texts),
        "unrelated": unrelated(side.encode), "signals": [signals_of(lists, q) for q in range(len(texts))],
    }  # fmt: skip


def signals_of(lists: Lists, q: int) -> list[float]:
    """A query's best cosine, and the share of the bi-encoder's best 10 documents that are BM25's too."""
    sides = ((lists.dense[q], lists.in_dense[q]), (lists.lexical[q], lists.in_lexical[q]))
    dense, words = (
        set(np.argsort(-np.where(inside, one, -np.inf))[: min(DEPTH, inside.sum())]) for one, inside in sides
    )
    return [round(float(lists.dense[q].max()), 4), len(dense & words) / DEPTH]


def unrelated(encode: Callable[[Sequence[str], bool], Array]) -> float:
    """A model's mean cosine of texts that have nothing to do with each other, as queries and as documents."""
    return mean_cosine(encode(UNRELATED, True), encode(UNRELATED, False))


def estimate(side: Side, queries: Sequence[SyntheticQuery]) -> dict[str, Any]:
    """By what is kept of the words: the share that documents then hold, dense search's nDCG@10, and the differences."""
    vocabulary, texts = side.lexical.vocabulary, [query.text for query in queries]
    own_Q = np.asarray([query.document_row for query in queries])
    queries_QD = side.encode(texts, True)
    ends = [
        side.encode([thinned(one.query_removed, one.text, keep, SEED, vocabulary) for one in queries], False)
        for keep in (0.0, 1.0)
    ]
    none_Q, all_Q = ((queries_QD * vectors).sum(1) for vectors in ends)
    lists = side.lists(texts, queries_QD, own_Q)
    norm_Q, sigma = side.lexical.norm(texts), spread_of(lists)
    words = [_words(side, query) for query in queries]
    found: dict[str, Any] = {"queries": len(queries), "held": [], "dense": [], "differences": []}
    for keep in KEEP:
        total: dict[str, Array] = {}
        shares = []
        for draw in range(DRAWS if 0 < keep < 1 else 1):
            kept = [one.kept(keep, draw) for one in words]
            lexical_Q = np.asarray([one.score(side, some) for one, some in zip(words, kept, strict=True)])
            weight_Q = np.asarray([one.weight(side, some) for one, some in zip(words, kept, strict=True)])
            shares.append(np.mean([len(some) / max(one.content, 1) for one, some in zip(words, kept, strict=True)]))
            scored = systems(with_own(lists, none_Q + (all_Q - none_Q) * weight_Q, lexical_Q), norm_Q, sigma)
            for name, scores in scored.items():
                total[name] = total.get(name, 0.0) + ndcg_of_own(scores)
        values = {name: value / len(shares) for name, value in total.items()}
        found["held"].append(float(np.mean(shares)))
        found["dense"].append(float(values["dense"].mean()))
        found["differences"].append(differences(values))
    return found


class Words(NamedTuple):
    """A query's words in its document: counts of the document's terms, of the query's, and its content words in it."""

    text: str
    content: int
    held: dict[int, str]
    asked: Counter[int]
    counts: Counter[int]

    def kept(self, keep: float, draw: int) -> set[int]:
        """Numbers of the content words that stay."""
        return {n for n, term in self.held.items() if hash_rank(draw, self.text, term) < keep * 2**64}

    def score(self, side: Side, kept: set[int]) -> float:
        """BM25 of the thinned document."""
        gone = set(self.held) - kept
        left = {term: count for term, count in self.counts.items() if term not in gone}
        lexical = side.lexical
        pull = lexical.k1 * (1 - lexical.b + lexical.b * sum(left.values()) / lexical.mean_length)
        return float(
            sum(
                many * side.idf_V[term] * left[term] / (left[term] + pull)
                for term, many in self.asked.items()
                if term in left
            )
        )

    def weight(self, side: Side, kept: set[int]) -> float:
        """Share of the held words' idf that is kept."""
        total = sum(side.idf_V[n] for n in self.held)
        return float(sum(side.idf_V[n] for n in kept) / total) if total else 1.0


def _words(side: Side, query: SyntheticQuery) -> Words:
    vocabulary = side.lexical.vocabulary
    content = content_words(query.text, vocabulary)
    counts = Counter(vocabulary.ids(query.query_removed))
    numbers = {vocabulary.numbers[term]: term for term in content.numbers if term in vocabulary.numbers}
    held = {number: term for number, term in numbers.items() if number in counts}
    return Words(query.text, len(content.numbers), held, Counter(vocabulary.ids(query.text)), counts)


def measure(folder: Path, model: Path, out: Path, count: int, kinds: Sequence[Any]) -> None:
    """One case, a collection and a model, into its file; of one that is there, the kinds that it lacks."""
    name, result = folder.name, out / f"{folder.name}.{model.name}.json"
    found: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
    missing = [kind for kind in kinds if kind not in found.get("kinds", {})]
    if found and not missing:
        return
    started = time.process_time()
    corpus = open_corpus(str(folder))
    encode = encoder(model)
    file = out / "vectors" / model.name / f"{name}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, encode(list(corpus.document_texts()), False))
    side = Side(corpus, encode, np.load(file))
    began = time.process_time()
    if not found:
        found = {"collection": name, "model": model.name, **truth(side), "kinds": {}}
    for kind in missing:
        queries = make_queries(corpus, range(len(corpus.documents)), count, SEED, Recipe({kind: 1.0}))
        enough = len(queries) >= count / 2
        found["kinds"][kind] = estimate(side, queries) if enough else None
    found["cpu_seconds"] = {"documents": began - started, "estimates": time.process_time() - began}
    result.write_text(json.dumps(found, indent=1))
    print(f"{name} {model.name}: {found['cpu_seconds']}", file=sys.stderr, flush=True)


def encoder(model: Path) -> Callable[[Sequence[str], bool], Array]:
    """Texts to unit vectors; True for queries, with the model's own prompt."""
    import torch
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(str(model), device="cpu")
    prompt = (loaded.prompts or {}).get("query") or ""

    def encode(texts: Sequence[str], are_queries: bool) -> Array:
        loaded.max_seq_length = 64 + 12 * bool(prompt) if are_queries else 256
        with torch.autocast("cpu", torch.bfloat16):  # several times as fast on many CPUs
            found = loaded.encode([prompt + t for t in texts] if are_queries else list(texts), convert_to_tensor=True)
        return np.asarray(torch.nn.functional.normalize(found.float(), dim=1).numpy())

    return encode


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then write table and plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimates", description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder of collections; without it nothing is measured")
    parser.add_argument("--out", type=Path, required=True, help="folder of JSON files, vectors, table and plot")
    parser.add_argument("--models", default="all-MiniLM-L6-v2", help="folders of sentence-transformers models")
    parser.add_argument("--collections", help="names of folders in DATA; all of them by default")
    parser.add_argument("--queries", type=int, default=100, help="synthetic queries of a kind")
    parser.add_argument("--kinds", default="title,keywords")
    given = parser.parse_args(arguments)
    names = given.collections.split(",") if given.collections else None
    for folder in sorted(given.data.iterdir()) if given.data else ():
        if not (folder / "qrels" / "test.tsv").exists() or (names and folder.name not in names):
            continue
        for model in map(Path, given.models.split(",")):
            measure(folder, model, given.out, given.queries, given.kinds.split(","))
    print(estimates_table.write(given.out))


if __name__ == "__main__":
    main()
