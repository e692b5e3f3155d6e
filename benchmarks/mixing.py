"""Ways to mix a bi-encoder's scores with BM25's, over collections and base models: which one never harms?

    python -m benchmarks.mixing DATA --vectors FOLDER [--models a,b] [--collections a,b] [--json FILE]

DATA holds collections in BEIR's layout, each with a test split. FOLDER keeps the vectors, as
MODEL/COLLECTION/{documents,queries}.npy, rows as in the collection's files; those that are missing are made (256 tokens
of a document, the model's own query prompt). Prints, per model, each mixture's nDCG@10 less that of the bi-encoder
alone: mean and worst over collections, and how many significant losses and gains (p < 0.05, not adjusted); then each
collection; then what the strength of the absolute scale costs if it is chosen on the other collections alone.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.z_scores import fuse
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.types import Corpus
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.prompts import find_prompts
from sdretrieval.evaluation import Run, absolute, evaluate, log_odds, paired_test, reciprocal_ranks, run_from_hits
from sdretrieval.indexes import exact_search
from sdretrieval.stages.lexical import build_lexical

MODELS = ("all-MiniLM-L6-v2", "bge-small-en-v1.5", "paraphrase-MiniLM-L3")
COLLECTIONS = (
    "scifact", "feedbackqa", "covidqa_passage", "cacm", "cisi", "med", "npl", "lisa", "wikiqa", "climate_fever_sent",
    "adi",
)  # fmt: skip
STRENGTHS = {
    "coverage": (2, 3, 4, 5, 6, 9, 12),
    "norm": (1, 1.5, 2, 2.5, 3, 4, 6),
}
"""By what BM25's score is divided by: what the query can reach, or its vector of idf's length."""
MEASURE, DEPTH, SPLIT, SEED = "nDCG@10", 100, "test", 13
NOISE = 0.005
"""A loss within this on the other collections does not rule a strength out."""

Scores = Mapping[str, Mapping[str, float]]


def min_max(runs: Sequence[Scores]) -> Run:
    """The even sum of scores scaled to 0..1 over each query's top; 0 for what a run lacks."""
    fused: Run = {}
    for query in dict.fromkeys(query for run in runs for query in run):
        total: dict[str, float] = {}
        for run in runs:
            hits = run.get(query, {})
            low, high = min(hits.values(), default=0.0), max(hits.values(), default=0.0)
            for document, score in hits.items():
                total[document] = total.get(document, 0.0) + (score - low) / ((high - low) or 1.0)
        fused[query] = total
    return fused


def corpus_log_odds(runs: Sequence[Scores]) -> Run:
    """The sum of scores over their standard deviation in all queries' tops: one sigmoid a system, as a teacher has it.
    A document that a run lacks gets the run's lowest score of the query."""
    units = [float(np.std([score for hits in run.values() for score in hits.values()])) for run in runs]
    fused: Run = {}
    for query in dict.fromkeys(query for run in runs for query in run):
        parts = [(run.get(query, {}), unit) for run, unit in zip(runs, units, strict=True)]
        documents = {document for hits, _ in parts for document in hits}
        lowest = [min(hits.values(), default=0.0) for hits, _ in parts]
        fused[query] = {
            d: sum(hits.get(d, low) / unit for (hits, unit), low in zip(parts, lowest, strict=True)) for d in documents
        }
    return fused


def mixtures(dense: Run, lexical: Run, units: Mapping[str, Mapping[str, float]]) -> dict[str, Callable[[], Run]]:
    """All that are compared, by the name of their row."""
    both = [dense, lexical]
    return {
        "BM25 alone": lambda: lexical,
        "z-scores, even": lambda: fuse(both, [1, 1], DEPTH),
        "z-scores, 3 : 1": lambda: fuse(both, [3, 1], DEPTH),
        "min-max, even": lambda: min_max(both),
        "reciprocal ranks": lambda: reciprocal_ranks(both, DEPTH),
        "log-odds (txtai)": lambda: log_odds(both, DEPTH),
        "log-odds, one sigmoid a corpus": lambda: corpus_log_odds(both),
        **{
            named(kind, strength): partial(absolute, dense, lexical, units[kind], strength, DEPTH)
            for kind, strengths in STRENGTHS.items()
            for strength in strengths
        },
    }


def named(kind: str, strength: float) -> str:
    """The name of a row."""
    return f"{strength:g} sigma x BM25 / {'reach' if kind == 'coverage' else 'norm'}"


def measure(folder: Path, models: Sequence[str], vectors: Path) -> list[dict[str, Any]]:
    """Rows of one collection: model, mixture, difference, p, and the bi-encoder's own figure."""
    corpus = open_corpus(str(folder))
    rows = corpus.split_rows(SPLIT)
    texts, ids = corpus.query_texts(rows), [corpus.query_ids[row] for row in rows]
    index = build_lexical(corpus.document_texts(), False, "english")

    def run_of(hits: Any) -> Run:
        run = run_from_hits(ids, corpus.document_ids, *hits)
        return {query: dict(list(found.items())[:DEPTH]) for query, found in run.items()}

    k = min(DEPTH + 1, len(corpus.documents))
    lexical, units = (
        run_of(index.search(texts, k)),
        {
            kind: dict(zip(ids, values_Q.tolist(), strict=True))
            for kind, values_Q in (("coverage", index.reach(texts)), ("norm", index.norm(texts)))
        },
    )
    out = []
    for model in models:
        documents_ND, queries_QD = load_vectors(corpus, model, vectors / model / folder.name)
        dense = run_of(exact_search(documents_ND, queries_QD[rows], k))
        own = evaluate(corpus.qrels[SPLIT], dense, [MEASURE]).of(MEASURE)
        for name, mix in mixtures(dense, lexical, units).items():
            test = paired_test(evaluate(corpus.qrels[SPLIT], mix(), [MEASURE]).of(MEASURE), own, SEED, samples=2000)
            out.append(
                {
                    "collection": folder.name, "model": model, "mixture": name, "difference": test.difference,
                    "p": test.p, "dense": float(np.mean(list(own.values()))), "queries": len(own),
                }
            )  # fmt: skip
        print(f"{folder.name}, {model}: {len(own)} queries", flush=True)
    return out


def load_vectors(corpus: Corpus, model: str, folder: Path) -> tuple[Any, Any]:
    """Vectors of all documents and all queries, in the order of the corpus; made if they are not there."""
    paths = {side: folder / f"{side}.npy" for side in ("documents", "queries")}
    if not all(path.is_file() for path in paths.values()):
        from sentence_transformers import SentenceTransformer

        place = locate_model(model)
        encoder, prompts = SentenceTransformer(str(place), device="cpu"), find_prompts(place, model).prompts
        encoder.max_seq_length = 256
        folder.mkdir(parents=True, exist_ok=True)
        sides = {
            "documents": (corpus.document_texts(), prompts.document),
            "queries": (corpus.query_texts(), prompts.query),
        }
        for side, (texts, prompt) in sides.items():
            np.save(paths[side], encoder.encode(list(texts), prompt=prompt, normalize_embeddings=True))
    documents_ND, queries_QD = (np.load(path, mmap_mode="r") for path in paths.values())
    if (len(documents_ND), len(queries_QD)) != (len(corpus.documents), len(corpus.query_ids)):
        raise SystemExit(f"{folder}: rows of another collection than {corpus.name}; delete it")
    return documents_ND, queries_QD


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table per model: mean, worst, significant losses and gains of each mixture."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        lines += [
            f"\n{model}\n",
            "| mixture | mean | worst | significant losses | significant gains |",
            "|---|---|---|---|---|",
        ]
        own = [row for row in rows if row["model"] == model]
        for name in dict.fromkeys(row["mixture"] for row in own):
            of = [row for row in own if row["mixture"] == name]
            worst = min(of, key=lambda row: row["difference"])
            losses, gains = (
                [row for row in of if row["p"] < 0.05 and sign * row["difference"] > 0] for sign in (-1, 1)
            )
            lines.append(
                f"| {name} | {np.mean([row['difference'] for row in of]):+.3f} | {worst['difference']:+.3f} "
                f"({worst['collection']}) | {len(losses)} of {len(of)} | {len(gains)} |"
            )
    return "\n".join(lines)


def by_collection(rows: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> str:
    """A table per model: a collection a row, the mixtures `shown` as columns; * marks p < 0.05."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        lines += [
            f"\n{model}\n",
            f"| collection | queries | dense | {' | '.join(shown)} |",
            "|---" * (3 + len(shown)) + "|",
        ]
        of = {(row["collection"], row["mixture"]): row for row in rows if row["model"] == model}
        for collection in dict.fromkeys(name for name, _ in of):
            found = [of[collection, name] for name in shown]
            cells = " | ".join(f"{row['difference']:+.3f}{'*' if row['p'] < 0.05 else ''}" for row in found)
            lines.append(f"| {collection} | {found[0]['queries']} | {found[0]['dense']:.3f} | {cells} |")
    return "\n".join(lines)


def held_out(rows: Sequence[Mapping[str, Any]], kind: str) -> str:
    """For each collection: the strength that the others choose, and what it gives here.

    They choose the best mean over collections and models among strengths that lose no more than `NOISE` on any of them;
    the one with the best worst if all do.
    """
    of = {
        (row["collection"], row["model"], strength): row
        for row in rows for strength in STRENGTHS[kind] if row["mixture"] == named(kind, strength)
    }  # fmt: skip
    models = list(dict.fromkeys(model for _, model, _ in of))
    lines = [f"| collection left out | strength chosen | {' | '.join(models)} |", "|---" * (2 + len(models)) + "|"]
    gains = []
    for left_out in [*dict.fromkeys(name for name, _, _ in of), None]:
        others = {
            s: [row["difference"] for (name, _, own), row in of.items() if own == s and name != left_out]
            for s in STRENGTHS[kind]
        }
        safe = {s: float(np.mean(found)) for s, found in others.items() if min(found) >= -NOISE}
        chosen = max(safe, key=safe.__getitem__) if safe else max(others, key=lambda s: min(others[s]))
        if left_out is None:
            mean, worst = np.mean(others[chosen]), min(others[chosen])
            lines.append(f"\nWith no collection left out: {chosen:g} sigma, mean {mean:+.3f}, worst {worst:+.3f}.")
        else:
            own = {
                model: of[left_out, model, chosen]["difference"] for model in models if (left_out, model, chosen) in of
            }
            gains += own.values()
            cells = " | ".join(f"{own[model]:+.3f}" if model in own else "" for model in models)
            lines.append(f"| {left_out} | {chosen:g} | {cells} |")
    lines.append(f"Held out: mean {np.mean(gains):+.3f}, worst {min(gains):+.3f}.")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in asked.collections.split(","):
        rows += measure(asked.data / name, asked.models.split(","), asked.vectors)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1), encoding="utf8")
    shown = ["z-scores, even", "reciprocal ranks", "log-odds (txtai)", named("coverage", 6), named("norm", 2)]
    print(summary(rows), by_collection(rows, shown), sep="\n")
    for kind in STRENGTHS if len({row["collection"] for row in rows}) > 1 else ():
        print(f"\n{kind}:\n{held_out(rows, kind)}")


if __name__ == "__main__":
    main()
