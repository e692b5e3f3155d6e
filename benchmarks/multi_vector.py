"""Does the student's own late interaction know more than its one vector and BM25 do? MaxSim, without training.

    python -m benchmarks.multi_vector DATA --vectors FOLDER [--models a,b] [--collections a,b] [--json FILE]
    python -m benchmarks.multi_vector --json FILE          # only the tables again

DATA and FOLDER: see `benchmarks.mixing`. For at most 100 test queries of a collection, the 30 best documents of dense
search and BM25 together are put in another order by MaxSim (Khattab and Zaharia 2020): the mean over a query's tokens
of its greatest cosine with a token of the document, whose first 128 are read, in bfloat16. The student's last hidden
states, or those before its last layer; with or without its special tokens and its prompt's; tokens of the query
weighted by their idf or all alike. All scores are on the absolute scale, MaxSim in the mean standard deviation of the
lists, as dense scores are.

Prints nDCG@10 of each alone, then what MaxSim adds to the mixture of dense search and BM25 if one half of the queries
chooses all weights and the other half measures (mean over 50 random halves; paired test), and what it adds beside a
given weight of BM25. Test queries are read: this
compares methods, and no run chooses anything by it.

Legend: Q queries, L documents of a list, T tokens, D dims.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search_teachers import Case, load
from benchmarks.search_teachers_table import SAMPLES, SEED, SPLITS, head, row
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.prompts import find_prompts
from sdretrieval.evaluation import paired_test
from sdretrieval.targets.calibrate import mean_spread

Array = np.ndarray[Any, Any]
MODELS = ("all-MiniLM-L6-v2", "bge-small-en-v1.5")
COLLECTIONS = ("scifact", "feedbackqa", "covidqa_passage", "cacm", "wikiqa", "climate_fever_sent", "npl")
MOST_QUERIES, LISTED, TOKENS = 100, 30, 128
LAYERS = {"last layer": -1, "layer before": -2}
KINDS = ("all tokens", "own tokens", "own tokens by idf")
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 0.85, 0.9)
"""Of BM25 on the absolute scale."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of MaxSim in what is not BM25's."""
BEST = "last layer, own tokens by idf"


class Reader:
    """A bi-encoder's token vectors."""

    def __init__(self, model: str) -> None:
        from sentence_transformers import SentenceTransformer

        place = locate_model(model)
        self._model = SentenceTransformer(str(place), device="cpu")
        self._prompts = find_prompts(place, model).prompts

    def idf(self, texts: Sequence[str]) -> Array:
        """Of every token of the vocabulary, float64."""
        df = np.zeros(len(self._model.tokenizer))
        for ids in self._model.tokenizer(list(texts), truncation=True, max_length=512)["input_ids"]:
            df[list(set(ids))] += 1
        return np.asarray(np.log1p((len(texts) - df + 0.5) / (df + 0.5)))

    def read(self, texts: Sequence[str], *, query: bool = False) -> tuple[dict[str, Any], Any, Any]:
        """Unit vectors (L, T, D) by layer, token ids (L, T), and which tokens are the text's own: 2, its special ones
        and its prompt's: 1, padding: 0."""
        import torch

        prompt = (self._prompts.query if query else self._prompts.document) or ""
        encoded = self._model.tokenizer(
            [prompt + text for text in texts], padding=True, truncation=True, max_length=TOKENS,
            return_tensors="pt", return_special_tokens_mask=True, return_offsets_mapping=True,
        )  # fmt: skip
        special = encoded.pop("special_tokens_mask").bool() | (encoded.pop("offset_mapping")[:, :, 1] <= len(prompt))
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            states = self._model[0].auto_model(**encoded, output_hidden_states=True).hidden_states
        vectors = {name: torch.nn.functional.normalize(states[at].float(), dim=-1) for name, at in LAYERS.items()}
        present = encoded["attention_mask"]
        return vectors, encoded["input_ids"], present + present * ~special


def maxsim(reader: Reader, query: str, documents: Sequence[str], idf_V: Array) -> dict[str, Array]:
    """Scores (L,) by layer and kind."""
    import torch

    of_query, ids, queried = reader.read([query], query=True)
    of_documents, _, read = reader.read(documents)
    out = {}
    for layer in LAYERS:
        cosines = torch.einsum("td,lsd->lts", of_query[layer][0], of_documents[layer])
        for kind, least in zip(KINDS, (1, 2, 2), strict=True):
            best = cosines.masked_fill(~(read >= least)[:, None, :], -1.0).amax(-1)
            weights = (queried[0] >= least).float()
            if kind == KINDS[2]:
                weights = weights * torch.from_numpy(idf_V[ids[0].numpy()]).float()
            out[f"{layer}, {kind}"] = ((best * weights).sum(1) / weights.sum().clamp(min=1e-9)).numpy()
    return out


def measure(folder: Path, model: str, vectors: Path) -> dict[str, Any]:
    """One collection: nDCG@10 by query of each MaxSim with each share and each weight of BM25."""
    case, reader = load(folder, model, vectors, MOST_QUERIES), Reader(model)
    lists = case.top(case.mix(0.5), LISTED)
    idf_V = reader.idf(case.document_texts)
    found = [
        maxsim(reader, text, [case.document_texts[int(r)] for r in rows], idf_V)
        for text, rows in zip(case.texts, lists, strict=True)
    ]
    values = []
    for name in found[0]:
        scores_QL = np.stack([one[name] for one in found])
        for share, weight, mixed in mixtures(case, lists, scores_QL / mean_spread(scores_QL)):
            values.append(
                {"system": name, "share": share, "weight": weight, "ndcg": case.ndcg(mixed).round(5).tolist()}
            )
    return {"collection": folder.name, "model": model, "values": values}


def mixtures(case: Case, lists: Array, scores_QL: Array) -> Iterator[tuple[float, float, Array]]:
    """(share, weight, scores_QN): documents that are not listed come last."""
    for share in SHARES:
        for weight in WEIGHTS:
            dense_QL, words_QL = (np.take_along_axis(one, lists, 1) for one in (case.dense_QN, case.words_QN))
            mixed_QN = np.full(case.dense_QN.shape, -np.inf)
            mixed_QL = (1 - weight) * ((1 - share) * dense_QL + share * scores_QL) + weight * words_QL
            np.put_along_axis(mixed_QN, lists, mixed_QL, 1)
            yield share, weight, mixed_QN


def tables(found: Sequence[dict[str, Any]]) -> str:
    """All of them, a model after the other, in Markdown."""
    lines: list[str] = []
    for model in dict.fromkeys(one["model"] for one in found):
        own = [one for one in found if one["model"] == model]
        for part in (alone(own), added(own), beside(own)):
            lines += [f"\n{model}\n", *part]
    return "\n".join(lines)


def values_of(one: dict[str, Any]) -> dict[tuple[str, float, float], Array]:
    """nDCG@10 (Q,) by system, share and weight; a share of 0 is nobody's."""
    return {
        (value["system"] if value["share"] else "", value["share"], value["weight"]): np.asarray(value["ndcg"])
        for value in one["values"]
    }


def alone(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """nDCG@10 of the lists in the order of each: dense, the best mixture, MaxSim."""
    yield from head("nDCG@10", *(one["collection"] for one in found), "mean")
    of = [values_of(one) for one in found]
    names = [name for name, share, weight in of[0] if share == 1 and not weight]
    keys = [("dense", ("", 0.0, 0.0)), *((f"dense with BM25 {w:g}", ("", 0.0, w)) for w in (0.5, 0.75))]
    for title, key in [*keys, *((name, (name, 1.0, 0.0)) for name in names)]:
        means = [values[key].mean() for values in of]
        yield row(title, *(f"{one:.3f}" for one in means), f"{np.mean(means):.3f}")


def added(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What MaxSim adds to a choice among the weights of BM25 alone; * marks p < 0.05, not adjusted."""
    yield from head("chosen by half of the queries", *(one["collection"] for one in found), "mean")
    of = [values_of(one) for one in found]
    names = list(dict.fromkeys(name for name, _, _ in of[0] if name))
    for title, some in [*((name, [name]) for name in names), ("any of them", names)]:
        cells, gains = [], []
        for values in of:
            plain = chosen(values, [key for key in values if not key[0]])
            mixed = chosen(values, [key for key in values if not key[0] or key[0] in some])
            test = paired_test(by_query(mixed), by_query(plain), SEED, samples=SAMPLES)
            gains.append(test.difference)
            cells.append(f"{test.difference:+.3f}{'*' if test.p < 0.05 else ''}")
        yield row(title, *cells, f"{np.mean(gains):+.4f}")


def beside(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What a share of the best kind adds beside a given weight of BM25; * as above."""
    yield from head(BEST, *(one["collection"] for one in found), "mean")
    of = [values_of(one) for one in found]
    for weight in (0.5, 0.75):
        for share in SHARES[1:-1]:
            tests = [
                paired_test(
                    by_query(values[BEST, share, weight]), by_query(values["", 0.0, weight]), SEED, samples=SAMPLES
                )
                for values in of
            ]
            cells = (f"{test.difference:+.3f}{'*' if test.p < 0.05 else ''}" for test in tests)
            mean = np.mean([test.difference for test in tests])
            yield row(f"share {share:g} beside BM25 {weight:g}", *cells, f"{mean:+.4f}")


def by_query(values_Q: Array) -> dict[str, float]:
    """As paired tests take them."""
    return {str(query): float(value) for query, value in enumerate(values_Q)}


def chosen(values: dict[tuple[str, float, float], Array], keys: Sequence[tuple[str, float, float]]) -> Array:
    """nDCG@10 (Q,) of what the other half of the queries chooses, the mean over halves."""
    values_SQ, draw = np.stack([values[key] for key in keys]), np.random.default_rng(SEED)
    total_Q = np.zeros(values_SQ.shape[1])
    for _ in range(SPLITS):
        order = draw.permutation(values_SQ.shape[1])
        for some, others in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            total_Q[others] += values_SQ[values_SQ[:, some].mean(1).argmax()][others] / SPLITS
    return total_Q


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
        for name in asked.collections.split(","):
            if (model, name) not in done:
                found.append(measure(asked.data / name, model, asked.vectors))
                print(f"{model}, {name}", flush=True)
                if asked.json:
                    asked.json.write_text(json.dumps(found))
    print(tables(found))


if __name__ == "__main__":
    main()
