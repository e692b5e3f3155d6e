"""A student's first layers and fewer dims: what they keep untaught, taught along with it, and with a linear map behind.

    python -m benchmarks.exits DATA --out FOLDER [--collections a,b] [--rows base,plain,self,teacher,vectors]

DATA holds collections in BEIR's layout. A row is one student, all-MiniLM-L6-v2 whose documents are cut at 48 tokens:
`base` as it is; `plain` trained without labels, on the teacher of cosine + BM25's evidence, by `UPDATES` updates of
`QUERIES` queries with `CANDIDATES` documents each; the others the same with exits that learn along: `self` from the
student's own distribution over the batch, as `train.also` does, `teacher` from the teacher's, `vectors` from the
student's vectors. Each collection is cut to 1,000 documents, 300 test queries and 600 training queries (pieces of
documents, if it has no train split). FOLDER keeps the rows that are done: run it again to go on.

Prints nDCG@10 of the whole student and, as a share of it, of each exit alone and with a map that is fitted afterwards
(`map`). Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.lexical_half import ndcg
from sdretrieval.config import SmallerConfig
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.encode.batches import budget_batches, features_of
from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.encode.views import Specials, View
from sdretrieval.evaluation import paired_test
from sdretrieval.files import read_json, write_json
from sdretrieval.ragged import Array
from sdretrieval.stages.lexical import build_lexical
from sdretrieval.training.distillation import Labels, ListwiseDistillation
from sdretrieval.training.exits import Exits
from sdretrieval.training.losses import listwise_kl
from sdretrieval.training.smaller import SCORES_WEIGHT, divergence, linear_map, principal_dims
from sdretrieval.training.speed import dropout_at, freeze

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
COLLECTIONS = ("scifact", "feedbackqa", "covidqa_passage")
ROWS = ("base", "plain", "self", "teacher", "vectors")
TOKENS, DOCUMENTS, TEST, TRAIN, PIECE, LISTED = 48, 1000, 300, 600, 9, 40
UPDATES, QUERIES, CANDIDATES, RATE, TEMPERATURE, SEED = 40, 10, 4, 1e-4, 0.05, 13
WARMUP, PART, EVIDENCE = 6, 2048, 2.0
SIZES = ((None, 64), (None, 128), (3, None), (3, 128), (3, 64))
MAP_STEPS, MAP_RATE, MAP_BATCH = 100, 1e-3, 512


@dataclass(frozen=True)
class Cut:
    """A part of a collection: token ids, judgements by test query, and what training follows.

    `targets_QN`: of training queries, the base's cosines plus BM25's evidence; `lists_Qk`: their best documents;
    `vectors_ND`: the base's, of documents.
    """

    student: Student
    documents: list[Array]
    test: list[Array]
    train: list[Array]
    gain_QN: Array
    targets_QN: Array
    lists_Qk: Array
    vectors_ND: Array


def read_cut(folder: Path) -> Cut:
    """The collection in `folder`, with all documents that are relevant to the test queries kept."""
    corpus, chance = open_corpus(str(folder)), random.Random(SEED)
    asked = sorted(chance.sample(corpus.split_rows("test"), min(TEST, len(corpus.split_rows("test")))))
    relevant = [
        {corpus.document_row[one] for one, grade in corpus.qrels["test"][corpus.query_ids[row]].items() if grade > 0}
        for row in asked
    ]
    kept = set().union(*relevant)
    others = [row for row in range(len(corpus.documents)) if row not in kept]
    kept |= set(chance.sample(others, max(0, DOCUMENTS - len(kept))))
    rows, texts = sorted(kept), corpus.document_texts()
    shown, place = [texts[row] for row in rows], {row: n for n, row in enumerate(rows)}
    gain_QN = np.zeros((len(asked), len(rows)))
    for q, found in enumerate(relevant):
        gain_QN[q, [place[row] for row in found]] = 1
    if "train" in corpus.qrels:
        training = corpus.query_texts(chance.sample(corpus.split_rows("train"), TRAIN))
    else:  # pieces of documents
        words = [
            text.split() for text in chance.choices([text for text in shown if len(text.split()) > PIECE], k=TRAIN)
        ]
        starts = [chance.randrange(len(some) - PIECE) for some in words]
        training = [" ".join(some[start : start + PIECE]) for some, start in zip(words, starts, strict=True)]
    student = load_student(str(locate_model(MODEL)), max_tokens=TOKENS, query_tokens=TOKENS)
    documents, test, train = (
        [View(TOKENS).cut(ids, student.document_specials)[0] for ids in tokenize(some, student.tokenizer)]
        for some in (shown, corpus.query_texts(asked), training)
    )
    vectors_ND, vectors_QD = (
        encode_sequences(student.model, some, student.document_specials) for some in (documents, train)
    )
    cosines_QN, index = vectors_QD @ vectors_ND.T, build_lexical(shown, False, "english")
    lexical_QN = index.scores(training, np.arange(len(shown))) / np.maximum(index.norm(training), 1e-9)[:, None]
    sigma = float(np.sort(cosines_QN, axis=1)[:, -100:].std(axis=1).mean())
    targets_QN = cosines_QN + sigma * EVIDENCE * lexical_QN
    return Cut(
        student, documents, test, train, gain_QN, targets_QN, np.argsort(-targets_QN, axis=1)[:, :LISTED], vectors_ND
    )


class Taught(ListwiseDistillation):
    """The product's loss, with other ways to teach exits beside its own (`self`)."""

    kind = "self"

    def _exits_term(
        self, exits_BD: Sequence[Tensor], exits_MD: Sequence[Tensor], scores_BM: Tensor, half_BM: Tensor | None
    ) -> Tensor:
        if self.kind == "self":
            return super()._exits_term(exits_BD, exits_MD, scores_BM, half_BM)
        values = []
        for queries_BD, documents_MD in zip(exits_BD, exits_MD, strict=True):
            if self.kind == "teacher":
                scores = queries_BD.float() @ documents_MD.float().T
                values.append(listwise_kl(scores, self.target_BM, TEMPERATURE, torch.ones(len(scores))))
            else:
                found, wanted = torch.cat([queries_BD, documents_MD]).float(), self.whole_XD
                values.append(SCORES_WEIGHT * divergence(found, wanted, TEMPERATURE))
                if found.shape == wanted.shape:
                    values[-1] = values[-1] + (1 - (found * wanted).sum(dim=1)).mean()
        return torch.stack(values).mean()

    def teacher_term(
        self, queries_BD: Tensor, documents_MD: Tensor, scores_BM: Tensor, labels: Labels
    ) -> Tensor | None:
        """Keeps what exits are taught from."""
        self.target_BM = labels["target_log_probs_BM"]
        self.whole_XD = torch.cat([queries_BD, documents_MD]).detach().float()
        return super().teacher_term(queries_BD, documents_MD, scores_BM, labels)


def rate_at(update: int) -> float:
    """The share of the learning rate: it rises, then falls to 0."""
    return float(np.interp(update, (-1, WARMUP - 1, UPDATES), (0, 1, 0)))


def train(cut: Cut, model: SentenceTransformer, exits: Exits | None, kind: str) -> float:
    """Train `model` in place; returns the CPU seconds of an update."""
    loss = Taught(model, student_temperature=TEMPERATURE, exits=exits)
    loss.kind = kind
    freeze(model, ["word_embeddings"])
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser, seconds = torch.optim.AdamW(learning, lr=RATE, weight_decay=0.01), 0.0
    chance, specials = np.random.default_rng(SEED), cut.student.query_specials
    order = np.concatenate([chance.permutation(len(cut.train)) for _ in range(1 + UPDATES * QUERIES // len(cut.train))])
    with dropout_at(model.train(), 0.0):
        for update in range(UPDATES):
            began, drawn = time.process_time(), np.random.default_rng([SEED, update])
            rows_B = order[update * QUERIES : (update + 1) * QUERIES]
            half = CANDIDATES // 2
            lists = [[*one[:half], *drawn.choice(one[half:], half, replace=False)] for one in cut.lists_Qk[rows_B]]
            rows_M = np.unique(np.concatenate(lists))
            shown = [cut.documents[row] for row in rows_M]
            parts = list(budget_batches([len(ids) for ids in shown], PART))
            features = [features_of(model, [cut.train[row] for row in rows_B], specials)]
            features += [features_of(model, [shown[n] for n in part], specials) for part in parts]
            targets_BM = torch.from_numpy(cut.targets_QN[rows_B][:, rows_M] / TEMPERATURE).float()
            labels = {
                "order_M": torch.from_numpy(np.argsort(np.concatenate(parts))),
                "target_log_probs_BM": torch.log_softmax(targets_BM, dim=1),
                "weight_B": torch.ones(len(rows_B)),
                "queries_B": torch.from_numpy(rows_B),
            }
            for group in optimiser.param_groups:
                group["lr"] = RATE * rate_at(update)
            with torch.autocast("cpu", torch.bfloat16):
                terms = loss(features, labels)
            optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimiser.step()
            seconds += time.process_time() - began
    model.eval()
    return seconds / UPDATES


def encode(model: SentenceTransformer, exits: Exits, sequences: list[Array], specials: Specials) -> list[Array]:
    """Vectors of the whole student, then of each exit."""
    made: list[Array] = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for part in budget_batches([len(one) for one in sequences], PART):
            some = exits.vectors(model, features_of(model, [sequences[n] for n in part], specials))
            made = made or [np.zeros((len(sequences), one.shape[1]), dtype=np.float32) for one in some]
            for whole, block in zip(made, some, strict=True):
                whole[part] = block.float().numpy()
    return made


def fitted_map(read_XF: Array, wanted_XF: Array, dims: int | None) -> Array:
    """As `train.also` fits it in the end: it begins at the regression of the whole student's vectors."""
    map_FD = linear_map(read_XF, wanted_XF)
    if dims is not None:
        map_FD = map_FD @ principal_dims(wanted_XF, dims)
    learned, chance = torch.from_numpy(map_FD).requires_grad_(), np.random.default_rng(SEED)
    read, wanted = torch.from_numpy(read_XF), torch.from_numpy(wanted_XF)
    optimiser = torch.optim.AdamW([learned], lr=MAP_RATE, weight_decay=0.0)
    for step in range(MAP_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = MAP_RATE * (1 - step / MAP_STEPS)
        rows = torch.from_numpy(chance.permutation(len(read))[:MAP_BATCH])
        optimiser.zero_grad()
        divergence(normalize(read[rows] @ learned, dim=1), wanted[rows], TEMPERATURE).backward()
        optimiser.step()
    return learned.detach().numpy()


def named(layers: int | None, dims: int | None) -> str:
    """Of an exit."""
    return SmallerConfig(layers=layers, dims=dims).name


def measure(cut: Cut, model: SentenceTransformer, exits: Exits) -> dict[str, list[float]]:
    """nDCG@10 of each test query, by the whole student, by exits alone, and with a map."""
    specials = cut.student.query_specials
    documents, test, train = (encode(model, exits, one, specials) for one in (cut.documents, cut.test, cut.train))
    found = {"final": ndcg(test[0] @ documents[0].T, cut.gain_QN)}
    early = {None: 0, 3: 1 + SIZES.index((3, None))}
    for n, (layers, dims) in enumerate(SIZES, start=1):
        found[named(layers, dims)] = ndcg(test[n] @ documents[n].T, cut.gain_QN)
        one = early[layers]
        read, wanted = (np.concatenate([documents[at], train[at]]) for at in (one, 0))
        map_FD = fitted_map(read, wanted, dims)
        queries_QD, documents_ND = (
            some / np.linalg.norm(some, axis=1, keepdims=True) for some in (test[one] @ map_FD, documents[one] @ map_FD)
        )
        found[f"{named(layers, dims)}, map"] = ndcg(queries_QD @ documents_ND.T, cut.gain_QN)
    return {name: values.tolist() for name, values in found.items()}


def run_row(folder: Path, row: str, out: Path) -> None:
    """One student of one collection, kept in `out`."""
    stem = out / f"{folder.name}-{row}"
    cut = read_cut(folder)
    model = copy.deepcopy(cut.student.model)
    exits = Exits(model, SIZES, principal_dims(cut.vectors_ND, max(dims or 0 for _, dims in SIZES)), MODEL)
    seconds = 0.0
    if row != "base":
        seconds = train(cut, model, None if row == "plain" else exits, row)
    write_json(stem.with_suffix(".json"), {"seconds": seconds, "ndcg": measure(cut, model, exits)})


def lines_of(out: Path, collection: str, rows: Sequence[str]) -> list[str]:
    """The table's lines of one collection."""
    lines, plain = [], None
    for row in rows:
        if not (out / f"{collection}-{row}.json").exists():
            continue
        record = read_json(out / f"{collection}-{row}.json")
        by_query = {name: {str(q): value for q, value in enumerate(one)} for name, one in record["ndcg"].items()}
        whole = float(np.mean(record["ndcg"]["final"]))
        cells = [f"{np.mean(one) / whole:.1%}" for name, one in record["ndcg"].items() if name != "final"]
        plain = by_query if row == "plain" else plain
        change = ""
        if plain is not None and row != "plain":
            test = paired_test(by_query["final"], plain["final"])
            change = f"{test.difference:+.3f} ({test.interval95[0]:+.3f} to {test.interval95[1]:+.3f})"
        lines.append(
            f"| {collection} | {row} | {whole:.3f} | {change} | {' | '.join(cells)} | {record['seconds']:.2f} |"
        )
    return lines


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--rows", default=",".join(ROWS))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    collections, rows = asked.collections.split(","), asked.rows.split(",")
    for collection in collections:
        for row in rows:
            if not (asked.out / f"{collection}-{row}.json").exists():
                run_row(asked.data / collection, row, asked.out)
    exits = [name for size in SIZES for name in (named(*size), f"{named(*size)}, map")]
    print(f"| collection | row | final | to plain | {' | '.join(exits)} | seconds an update |")
    print("|---" * (len(exits) + 5) + "|")
    for collection in collections:
        print("\n".join(lines_of(asked.out, collection, rows)))


if __name__ == "__main__":
    main()
