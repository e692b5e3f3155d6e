"""Three layers of six: which layers a smaller student keeps, where it begins, and what it is fitted to.

    python -m benchmarks.fewer_layers DATA --out OUT [--collections a,b] [--rows "a;b"] [--updates N] [--start]
      [--float32]

DATA: a folder of BEIR collections. all-MiniLM-L6-v2 is the target, of documents cut at `TOKENS` tokens and of pieces
of documents that are as long as queries, as `smaller: [{layers: 3}]` has them. Each row of `ROWS` is fitted for N
updates of `BATCH` texts and measured on at most `MOST_TEST` test queries: one JSON line a row in OUT/rows.jsonl. Rows
that are there are not made again. Prints the table. `--start` fits nothing, and says for each choice of three layers
how near it is to the target before any update. `--float32`: for processors that are slow in bfloat16.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.lexical_half import ndcg
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.encode.locate import locate_model
from sdretrieval.evaluation import paired_test
from sdretrieval.ragged import Array
from sdretrieval.training.smaller import SCORES_WEIGHT, divergence

MODEL, OTHER = "all-MiniLM-L6-v2", "paraphrase-MiniLM-L3"
TOKENS, SPANS, LEAST, MOST = 64, 5_000, 3, 32
BATCH, WHOLE, UPDATES, TEMPERATURE, MOST_TEST, SEED = 64, 8, 100, 0.05, 600, 13
"""Texts of a batch, and how many of them are documents."""
PART = 768
RIDGE = 1e-3
"""Of the mean squared length of the smaller student's vectors."""


class Row(NamedTuple):
    """One way to fit."""

    layers: tuple[int, ...] | None = (1, 2, 3)
    """Of the target's, counted from 1; None: `OTHER`."""
    mapped: bool = False
    """Whether a linear map, fitted in closed form before the first update, is behind the pooling."""
    rate: float = 2e-4
    distance: float = 1.0
    scores: float = SCORES_WEIGHT
    hidden: float = 0.0
    relations: float = 0.0
    last: float = 0.0
    """Weight of the last layer's token vectors, whose distance is their mean squared error over that of zero."""
    words: bool = False
    """Whether the word embeddings learn."""
    updates: float = 1.0
    """Times N."""


ROWS: Mapping[str, Row] = {
    "1 2 3, before": Row(updates=0),
    "1 2 3, mapped, before": Row(mapped=True, updates=0),
    "1 5 6, before": Row(layers=(1, 5, 6), updates=0),
    "1 5 6, mapped, before": Row(layers=(1, 5, 6), mapped=True, updates=0),
    "1 5 6": Row(layers=(1, 5, 6)),
    "1 5 6, last": Row(layers=(1, 5, 6), last=1),
    "1 5 6, relations": Row(layers=(1, 5, 6), relations=1),
    "1 5 6, hidden": Row(layers=(1, 5, 6), hidden=1),
    "1 5 6, mapped": Row(layers=(1, 5, 6), mapped=True),
    "1 5 6, rate 5e-4": Row(layers=(1, 5, 6), rate=5e-4),
    "1 5 6, distance alone": Row(layers=(1, 5, 6), scores=0),
    "1 5 6, divergence alone": Row(layers=(1, 5, 6), distance=0, scores=1),
    "1 2 3": Row(),
    "2 4 6": Row(layers=(2, 4, 6)),
    "L3": Row(layers=None),
    "L3, mapped": Row(layers=None, mapped=True),
}


@dataclass(frozen=True)
class Data:
    """Texts of a collection as token ids with their special ones, the target's vectors of them, and its judgements."""

    documents: Sequence[Array]
    spans: Sequence[Array]
    sources: Array
    """Rows of the documents that the spans are from."""
    queries: Sequence[Array]
    ids: Sequence[str]
    gain_QN: Array
    texts_TD: Array
    """Of documents, then of spans."""
    queries_QD: Array


class Small(nn.Module):
    """A transformer, mean pooling, perhaps a linear map."""

    reduced = True
    """Whether it computes in bfloat16."""

    def __init__(self, transformer: nn.Module, map_DD: Tensor | None = None) -> None:
        super().__init__()
        self.transformer: Any = transformer
        self.map = None if map_DD is None else nn.Parameter(map_DD.clone())
        self.kept: dict[str, Tensor] = {}
        attention = self.transformer.encoder.layer[-1].attention.self
        for name in ("query", "key", "value"):
            getattr(attention, name).register_forward_hook(lambda _, __, out, name=name: self.kept.update({name: out}))

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Pooled vectors (not of length 1), and the hidden states of the embedding and of each layer."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.reduced):
            out = self.transformer(input_ids=ids_BT, attention_mask=mask_BT, output_hidden_states=True)
        weights_BT1 = mask_BT[:, :, None].float()
        pooled_BD = (out.last_hidden_state.float() * weights_BT1).sum(1) / weights_BT1.sum(1)
        return (pooled_BD if self.map is None else pooled_BD @ self.map), out.hidden_states


def transformer_of(name: str) -> Any:
    """In float32."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(str(locate_model(name)), dtype=torch.float32).eval()


def with_layers(whole: Any, layers: Sequence[int]) -> Any:
    """A copy with some of the layers, counted from 1."""
    smaller = copy.deepcopy(whole)
    smaller.encoder.layer = nn.ModuleList(smaller.encoder.layer[n - 1] for n in layers)
    smaller.config.num_hidden_layers = len(layers)
    return smaller


def batches(texts: Sequence[Array], rows: Sequence[int]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Rows of texts of similar length, their ids and their mask."""
    order, part = sorted(rows, key=lambda row: len(texts[row])), []
    for row in [*order, -1]:
        if part and (row < 0 or len(texts[row]) * (len(part) + 1) > PART):
            width = len(texts[part[-1]])
            ids_BT = np.stack([np.pad(texts[one], (0, width - len(texts[one]))) for one in part])
            yield part, torch.from_numpy(ids_BT).long(), torch.from_numpy(ids_BT != 0).long()
            part = []
        part.append(row)


@torch.no_grad()
def encode(model: Small, texts: Sequence[Array]) -> Tensor:
    """Pooled vectors, not of length 1."""
    found: list[tuple[list[int], Tensor]] = [
        (rows, model(ids, mask)[0]) for rows, ids, mask in batches(texts, range(len(texts)))
    ]
    out = torch.empty(len(texts), found[0][1].shape[1])
    for rows, vectors_BD in found:
        out[rows] = vectors_BD
    return out


def load(folder: Path, out: Path, target: Small) -> Data:
    """A collection; the target's vectors are kept in `out`."""
    from transformers import AutoTokenizer

    corpus, tokenizer = open_corpus(str(folder)), AutoTokenizer.from_pretrained(str(locate_model(MODEL)))
    chance = np.random.default_rng(SEED)
    drawn = np.sort(chance.permutation(corpus.split_rows("test"))[:MOST_TEST]).tolist()
    ids = [corpus.query_ids[row] for row in drawn]
    gain_QN = np.zeros((len(ids), len(corpus.documents)))
    for q, query in enumerate(ids):
        for document, grade in corpus.qrels["test"][query].items():
            if document in corpus.document_row:
                gain_QN[q, corpus.document_row[document]] = max(grade, 0)

    def tokens(texts: Sequence[str], most: int) -> list[Array]:
        found = tokenizer(texts, truncation=True, max_length=most, add_special_tokens=True)["input_ids"]
        return [np.asarray(one) for one in found]

    whole = tokens(list(corpus.document_texts()), 512)
    first, last = whole[0][0], whole[0][-1]
    documents = [one if len(one) <= TOKENS else np.append(one[: TOKENS - 1], last) for one in whole]
    spans = []
    lengths = np.exp(chance.uniform(math.log(LEAST), math.log(MOST + 1), SPANS)).astype(int)
    sources = chance.integers(0, len(whole), SPANS)
    for row, length in zip(sources, lengths, strict=True):
        inner = whole[row][1:-1]
        start = int(chance.integers(max(len(inner) - length, 0) + 1))
        spans.append(np.concatenate([[first], inner[start : start + length], [last]]))
    queries, texts = tokens(corpus.query_texts(drawn), 64), [*documents, *spans]
    made = []
    for name, some in {"texts": texts, "queries": queries}.items():
        path = out / f"{folder.name}-{name}.npy"
        if not path.is_file():
            np.save(path, normalize(encode(target, some), dim=1).numpy())
        made.append(np.load(path))
    return Data(documents, spans, sources, queries, ids, gain_QN, made[0], made[1])


def best_map(vectors_TD: Tensor, targets_TE: Tensor) -> Tensor:
    """The linear map (D, E) of least squared error from vectors made length 1."""
    unit_TD = normalize(vectors_TD, dim=1).double()
    second_DD = unit_TD.T @ unit_TD
    second_DD += RIDGE * torch.eye(len(second_DD)) * second_DD.diagonal().mean()
    return torch.linalg.solve(second_DD, unit_TD.T @ targets_TE.double()).float()


def start(data: Data, whole: Any) -> Iterator[str]:
    """Each choice of three layers before any update: mean cosine with the target, the nearest first."""
    chance, texts = np.random.default_rng(SEED), [*data.documents, *data.spans]
    rows = np.concatenate([chance.permutation(len(data.documents))[:100], len(data.documents) + np.arange(400)])
    found = {}
    for layers in [*itertools.combinations(range(1, 7), 3), ()]:
        name = " ".join(map(str, layers)) if layers else OTHER
        small = Small(with_layers(whole, layers) if layers else transformer_of(OTHER))
        vectors_TD = normalize(encode(small, [texts[row] for row in rows]), dim=1).numpy()
        found[name] = float((vectors_TD * data.texts_TD[rows]).sum(axis=1).mean())
    for name, cosine in sorted(found.items(), key=lambda pair: -pair[1]):
        yield f"| {name} | {cosine:.3f} |"


def relation_loss(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], mask_BT: Tensor, heads: int) -> Tensor:
    """Mean divergence of the relations query-query, key-key and value-value (Wang et al., 2021, MiniLMv2)."""
    total = torch.zeros(())
    for name, weight in dict.fromkeys(("query", "key", "value"), 1 / 3).items():
        logs = []
        for kept in (wanted, found):
            split = kept[name].float().unflatten(2, (heads, -1)).transpose(1, 2)
            scores = split @ split.transpose(2, 3) / math.sqrt(split.shape[-1])
            logs.append(scores.masked_fill(mask_BT[:, None, None, :] == 0, -1e4).log_softmax(dim=3))
        each_BHT = (logs[0].exp() * (logs[0] - logs[1])).sum(dim=3)
        total = total + weight * (each_BHT.mean(dim=1) * mask_BT).sum() / mask_BT.sum()
    return total


def token_loss(found_BTD: Tensor, wanted_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean squared error of tokens' vectors over the mean square of those wanted."""
    weights_BT1 = mask_BT[:, :, None].float()
    error = ((found_BTD.float() - wanted_BTD.float()) ** 2 * weights_BT1).sum()
    return error / (wanted_BTD.float() ** 2 * weights_BT1).sum()


def fit(data: Data, whole: Any, row: Row, updates: int) -> tuple[Small, float]:
    """The fitted student and the seconds that it took."""
    texts, chance = [*data.documents, *data.spans], np.random.default_rng(SEED + 1)
    targets_TD = torch.from_numpy(data.texts_TD)
    began = time.process_time()
    torch.manual_seed(SEED)
    small = Small(transformer_of(OTHER) if row.layers is None else with_layers(whole, row.layers))
    if row.mapped:
        small.map = nn.Parameter(best_map(encode(small, texts), targets_TD))
    if not updates:
        return small, time.process_time() - began
    if not row.words:
        small.transformer.embeddings.word_embeddings.requires_grad_(False)
    target = Small(whole) if row.hidden or row.relations or row.last else None
    learning = [one for one in small.parameters() if one.requires_grad]
    small.transformer.config._attn_implementation = "eager"  # sdpa's gradient in bfloat16 takes three times as long
    optimiser = torch.optim.AdamW(learning, lr=row.rate, weight_decay=0.0)
    warm = max(1, updates // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (updates - step) / (updates - warm))
    )
    count = len(data.documents)
    some_UD, some_US = (
        np.concatenate([chance.permutation(rows) for _ in range(updates * size // rows + 1)])[: updates * size]
        for rows, size in ((count, WHOLE), (len(data.spans), BATCH - WHOLE))
    )
    order_UB = np.hstack([some_UD.reshape(updates, -1), count + some_US.reshape(updates, -1)]).tolist()
    for step in range(updates):
        vectors, wanted, inner = [], [], torch.zeros(())
        for rows, ids_BT, mask_BT in batches(texts, order_UB[step]):
            pooled_BD, states = small(ids_BT, mask_BT)
            vectors.append(normalize(pooled_BD, dim=1))
            wanted.append(targets_TD[rows])
            if target is not None:
                inner = inner + inner_loss(row, small, target, states, ids_BT, mask_BT) * len(rows) / BATCH
        found_BD, targets_BD = torch.cat(vectors), torch.cat(wanted)
        loss = row.scores * divergence(found_BD, targets_BD, TEMPERATURE) + inner
        loss = loss + row.distance * (1 - (found_BD * targets_BD).sum(dim=1)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        schedule.step()
    small.transformer.config._attn_implementation = "sdpa"
    return small, time.process_time() - began


def inner_loss(
    row: Row, small: Small, target: Small, states: tuple[Tensor, ...], ids_BT: Tensor, mask_BT: Tensor
) -> Tensor:
    """What the target's insides ask."""
    with torch.no_grad():
        _, wanted = target(ids_BT, mask_BT)
    total = torch.zeros(())
    if row.hidden:
        each = [token_loss(found, state, mask_BT) for found, state in zip(states, wanted[::2], strict=True)]
        total = total + row.hidden * sum(each[1:], torch.zeros(())) / 3
    if row.last:
        total = total + row.last * token_loss(states[-1], wanted[-1], mask_BT)
    if row.relations:
        total = total + row.relations * relation_loss(small.kept, target.kept, mask_BT, 12)
    return total


def measure(data: Data, small: Small) -> dict[str, Any]:
    """nDCG@10 by query: of the target, of the smaller student, of its queries beside the target's documents."""
    count = len(data.documents)
    documents_ND, queries_QD = (
        normalize(encode(small, texts), dim=1).numpy() for texts in (data.documents, data.queries)
    )
    systems = {
        "target": (data.queries_QD, data.texts_TD[:count]),
        "both": (queries_QD, documents_ND),
        "queries": (queries_QD, data.texts_TD[:count]),
    }
    return {name: ndcg(q @ d.T, data.gain_QN).tolist() for name, (q, d) in systems.items()}


def line(collection: str, name: str, found: Mapping[str, Any]) -> str:
    """A row of the table."""
    each = {system: dict(enumerate(values)) for system, values in found["ndcg"].items()}
    mean = {system: float(np.mean(values)) for system, values in found["ndcg"].items()}
    test = paired_test(*({str(k): v for k, v in each[one].items()} for one in ("both", "target")), SEED)
    low, high = test.interval95
    return (
        f"| {collection} | {name} | {found['updates']} | {mean['target']:.3f} | {mean['both']:.3f} | "
        f"{mean['both'] / mean['target']:.0%} | {low:+.3f} to {high:+.3f} | {mean['queries'] / mean['target']:.0%} | "
        f"{found['seconds']:.0f} |"
    )


def main() -> None:
    """Fit, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--collections", default="feedbackqa,scifact,covidqa_passage")
    parser.add_argument("--rows", default=";".join(ROWS))
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--float32", action="store_true")
    asked = parser.parse_args()
    Small.reduced = not asked.float32
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    whole, file = transformer_of(MODEL), asked.out / "rows.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    done = {(one["collection"], one["row"], one["updates"]): one for one in map(json.loads, lines)}
    for collection in asked.collections.split(","):
        data = load(asked.data / collection, asked.out, Small(whole))
        if asked.start:
            print("\n".join(start(data, whole)), flush=True)
            continue
        for name in asked.rows.split(";"):
            updates = round(asked.updates * ROWS[name].updates)
            key = (collection, name, updates)
            if key not in done:
                small, seconds = fit(data, whole, ROWS[name], updates)
                done[key] = {**dict(zip(("collection", "row", "updates"), key, strict=True)), "seconds": seconds}
                done[key]["ndcg"] = measure(data, small)
                with file.open("a") as out:
                    out.write(json.dumps(done[key]) + "\n")
            print(line(collection, name, done[key]), flush=True)


if __name__ == "__main__":
    main()
