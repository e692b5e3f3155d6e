"""What a student may learn from documents alone before it is taught: which step helps, alone and under an adapter?

    python -m benchmarks.pretrain DATA --out OUT [--collections a,b] [--rows a,b] [--updates N]

all-MiniLM-L6-v2, documents cut as in `benchmarks.fewer_layers`. Rows: `none`; `spans`, where two pieces of a document
find each other among those of a batch (COCO-DR's step: Yu et al., 2022); `denoising`, where a decoder writes a piece
again from the vector of what is left of it (TSDAE: Wang et al., 2021; sentence-transformers' own loss). After each, an
adapter on the query's side learns for `STEPS` updates from `PIECES` pieces of documents: the base student's cosines
plus BM25's coverage, over all documents, `OVERLAP` of it on the piece's own document. So the teacher is the same in all
rows. Prints nDCG@10 on at most 600 test queries, differences to `none` with their 95 % intervals.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from benchmarks.fewer_layers import MODEL, SEED, TEMPERATURE, Data, Small, batches, encode, load, transformer_of
from benchmarks.lexical_half import ndcg
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.encode.locate import locate_model
from sdretrieval.evaluation import paired_test
from sdretrieval.ragged import Array
from sdretrieval.stages.lexical import build_lexical

UPDATES, BATCH, RATE, PIECE = 100, 48, 2e-5, (8, 40)
"""Of the step; tokens of a piece."""
DENOISING_BATCH, DENOISING_RATE, DELETED = 24, 3e-5, 0.6
STEPS, PIECES, STUDENTS_BATCH, ADAPTER_RATE, SIGMAS, OVERLAP = 64, 2000, 128, 1e-3, 6.0, 0.35
ROWS = ("none", "spans", "denoising")


def piece(ids: Array, chance: np.random.Generator) -> Array:
    """Of a document, with its special tokens."""
    inner, length = ids[1:-1], int(chance.integers(*PIECE))
    start = int(chance.integers(max(len(inner) - length, 0) + 1))
    return np.concatenate([ids[:1], inner[start : start + length], ids[-1:]])


def pretrained(row: str, data: Data, updates: int) -> Small:
    """all-MiniLM-L6-v2 after the step."""
    torch.manual_seed(SEED)
    student = Small(transformer_of(MODEL))
    if row == "none" or not updates:
        return student
    chance, loss = np.random.default_rng(SEED), spans_loss
    parameters, batch, rate = list(student.parameters()), BATCH, RATE
    if row == "denoising":
        denoiser = Denoiser()
        student = Small(denoiser.transformer)
        parameters, batch, rate = list(denoiser.parameters()), DENOISING_BATCH, DENOISING_RATE
        loss = denoiser.loss
    transformer = student.transformer
    transformer.config._attn_implementation = "eager"  # sdpa's gradient in bfloat16 takes three times as long
    transformer.embeddings.word_embeddings.requires_grad_(False)
    optimiser = torch.optim.AdamW([one for one in parameters if one.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (updates / 10), (updates - step) / (0.9 * updates))
    )
    long = [one for one in data.documents if len(one) > 12]
    for _ in range(updates):
        some = [long[one] for one in chance.choice(len(long), batch, replace=False)]
        value = loss(student, some, chance)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    transformer.config._attn_implementation = "sdpa"
    return student


def spans_loss(student: Small, documents: Sequence[Array], chance: np.random.Generator) -> Tensor:
    """InfoNCE of two pieces of each document."""
    pieces = [piece(one, chance) for one in [*documents, *documents]]
    order: list[int] = []
    parts = []
    for rows, ids_BT, mask_BT in batches(pieces, range(len(pieces))):
        order += rows
        parts.append(student(ids_BT, mask_BT)[0])
    vectors_BD = normalize(torch.cat(parts), dim=1)[torch.from_numpy(np.argsort(order))]
    one_BD, other_BD = vectors_BD.chunk(2)
    scores_BB, itself = one_BD @ other_BD.T / TEMPERATURE, torch.arange(len(documents))
    return (cross_entropy(scores_BB, itself) + cross_entropy(scores_BB.T, itself)) / 2


class Denoiser(nn.Module):
    """sentence-transformers' loss around `transformer`. The paper writes a text again from its first token's vector;
    here it is the mean of all, by which this student searches."""

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.losses import DenoisingAutoEncoderLoss

        super().__init__()
        model = SentenceTransformer(str(locate_model(MODEL)), device="cpu")
        first: Any = model[0]
        self.transformer = first.auto_model
        self.inner = DenoisingAutoEncoderLoss(model, tie_encoder_decoder=True)

    def loss(self, _: Small, documents: Sequence[Array], chance: np.random.Generator) -> Tensor:
        """Of writing pieces again."""
        whole = [piece(one, chance) for one in documents]
        left = []
        for one in whole:
            kept = chance.random(len(one)) > DELETED
            kept[[0, 1, -1]] = True
            left.append(one[kept])
        features = []
        for some in (left, whole):
            width = max(map(len, some))
            ids_BT = torch.from_numpy(np.stack([np.pad(one, (0, width - len(one))) for one in some])).long()
            features.append({"input_ids": ids_BT, "attention_mask": (ids_BT != 0).long()})
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found: Tensor = self.inner(features, torch.empty(0))
        return found


def adapted(pieces_PD: Tensor, documents_ND: Tensor, targets_PN: Tensor) -> Tensor:
    """The map (D, D) of queries that follows the teacher's distributions over all documents."""
    chance = np.random.default_rng(SEED)
    change_DD = torch.zeros(2 * (documents_ND.shape[1],), requires_grad=True)
    optimiser = torch.optim.Adam([change_DD], lr=ADAPTER_RATE)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = ADAPTER_RATE * (1 - step / STEPS)
        rows = torch.from_numpy(chance.integers(0, len(pieces_PD), STUDENTS_BATCH))
        mapped_BD = normalize(pieces_PD[rows] + pieces_PD[rows] @ change_DD, dim=1)
        logs_BN = (mapped_BD @ documents_ND.T / TEMPERATURE).log_softmax(dim=1)
        wanted_BN = targets_PN[rows]
        loss = -(wanted_BN * logs_BN).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return torch.eye(len(change_DD)) + change_DD.detach()


def teacher(folder: Path, data: Data, rows: Sequence[int]) -> Tensor:
    """Distributions of pieces over all documents: the untrained student's cosines plus BM25's coverage."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(locate_model(MODEL)))
    texts = tokenizer.batch_decode([data.spans[row] for row in rows], skip_special_tokens=True)
    corpus = open_corpus(str(folder))
    index = build_lexical(corpus.document_texts(), False, "english")
    count = len(data.documents)
    words_PN = index.scores(texts, range(index.count)) / np.maximum(index.norm(texts)[:, None], 1e-9)
    for one, row in enumerate(rows):
        words_PN[one, data.sources[row]] *= OVERLAP
    dense_PN = data.texts_TD[count + np.asarray(rows)] @ data.texts_TD[:count].T
    sigma = float(np.sort(dense_PN, axis=1)[:, -100:].std(axis=1).mean())
    mixed_PN = torch.from_numpy((dense_PN + SIGMAS * sigma * words_PN).astype(np.float32))
    return (mixed_PN / TEMPERATURE).softmax(dim=1)


def measure(folder: Path, data: Data, row: str, updates: int) -> dict[str, Any]:
    """nDCG@10 by query after the step, and with an adapter as well."""
    began = time.process_time()
    student = pretrained(row, data, updates)
    seconds = time.process_time() - began
    rows = np.random.default_rng(SEED).permutation(len(data.spans))[:PIECES].tolist()
    documents_ND, queries_QD, pieces_PD = (
        normalize(encode(student, some), dim=1)
        for some in (data.documents, data.queries, [data.spans[one] for one in rows])
    )
    change_DD = adapted(pieces_PD, documents_ND, teacher(folder, data, rows))
    mapped_QD = normalize(queries_QD @ change_DD, dim=1)
    plain, behind = ((one @ documents_ND.T).numpy() for one in (queries_QD, mapped_QD))
    return {
        "alone": ndcg(plain, data.gain_QN).tolist(),
        "adapter": ndcg(behind, data.gain_QN).tolist(),
        "seconds": seconds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--collections", default="feedbackqa,covidqa_passage,scifact")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--updates", type=int, default=UPDATES)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.collections.split(","):
        folder = asked.data / name
        data = load(folder, asked.out, Small(transformer_of(MODEL)))
        for row in asked.rows.split(","):
            updates = 0 if row == "none" else asked.updates
            files = [asked.out / f"{name}-{one}.json" for one in ("none-0", f"{row}-{updates}")]
            if not files[1].is_file():
                files[1].write_text(json.dumps(measure(folder, data, row, updates)))
            none, found = (json.loads(file.read_text()) for file in files)
            cells = [name, row, str(updates)]
            for system in ("alone", "adapter"):
                values, before = ({str(q): value for q, value in enumerate(one[system])} for one in (found, none))
                test = paired_test(values, before, SEED)
                low, high = test.interval95
                cells += [f"{np.mean(found[system]):.3f}", f"{test.difference:+.3f} ({low:+.3f} to {high:+.3f})"]
            print(f"| {' | '.join(cells)} | {found['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
