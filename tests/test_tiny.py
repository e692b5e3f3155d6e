"""The tiny collection and models are what the other tests take them for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers import tiny


def _queries(folder: Path, split: str) -> list[tuple[str, str]]:
    texts = {r["_id"]: r["text"] for r in map(json.loads, (folder / "queries.jsonl").read_text().splitlines())}
    rows = [line.split("\t") for line in (folder / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]]
    return [(texts[query], document) for query, document, _ in rows]


def test_the_collection_has_the_promised_sizes_and_no_query_in_two_splits(tiny_corpus: Path) -> None:
    assert len((tiny_corpus / "corpus.jsonl").read_text().splitlines()) == 120
    judged = {split: _queries(tiny_corpus, split) for split in dict(tiny.SPLITS)}
    assert {split: len(rows) for split, rows in judged.items()} == {"train": 40, "dev": 20, "test": 24}
    assert len({text for rows in judged.values() for text, _ in rows}) == 84


def test_two_makings_are_the_same_to_the_byte(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> None:
    corpus, student = tiny.write_corpus(tmp_path / "corpus"), tiny.write_student(tmp_path / "student")
    for name in ("corpus.jsonl", "queries.jsonl"):
        assert (corpus / name).read_bytes() == (tiny_corpus / name).read_bytes()
    assert (student / "model.safetensors").read_bytes() == (tiny_student / "model.safetensors").read_bytes()


def test_tests_leave_nothing_behind_in_the_temporary_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", __file__]
    root = Path(__file__).parents[1]
    subprocess.run(command, cwd=root, env={**os.environ, "TMPDIR": str(tmp_path)}, check=True, capture_output=True)
    assert not list(tmp_path.iterdir())


def _ndcg_at_10(scores_QN: NDArray[np.float32], wanted: list[int]) -> float:
    """Mean nDCG@10 where each query has one relevant document."""
    ranks = np.array([(scores_N > scores_N[row]).sum() for scores_N, row in zip(scores_QN, wanted, strict=True)])
    return float(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean())


def test_bm25_is_far_above_the_random_student(tiny_corpus: Path, tiny_student: Path) -> None:
    import bm25s
    from sentence_transformers import SentenceTransformer

    records = [json.loads(line) for line in (tiny_corpus / "corpus.jsonl").read_text().splitlines()]
    texts = [f"{r['title']} {r['text']}" for r in records]
    asked = [text for text, _ in _queries(tiny_corpus, "test")]
    wanted = [[r["_id"] for r in records].index(document) for _, document in _queries(tiny_corpus, "test")]

    lexical = bm25s.BM25()
    lexical.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    words_Q = bm25s.tokenize(asked, return_ids=False, show_progress=False)
    student = SentenceTransformer(str(tiny_student), device="cpu")

    assert _ndcg_at_10(np.stack([lexical.get_scores(words) for words in words_Q]), wanted) > 0.7
    assert _ndcg_at_10(student.encode(asked) @ student.encode(texts).T, wanted) < 0.4


def test_the_student_gives_unit_vectors_and_knows_every_word(tiny_corpus: Path, tiny_student: Path) -> None:
    from sentence_transformers import SentenceTransformer

    student = SentenceTransformer(str(tiny_student), device="cpu")
    texts = [text for text, _ in _queries(tiny_corpus, "dev")]
    assert student.max_seq_length == 128
    assert np.linalg.norm(student.encode(texts), axis=1) == pytest.approx(1.0, abs=1e-5)
    assert student.tokenizer.unk_token_id not in student.tokenizer(texts[0])["input_ids"]


def test_every_third_document_is_longer_than_the_positions(tiny_corpus: Path, tiny_student: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(tiny_student))
    texts = [json.loads(line)["text"] for line in (tiny_corpus / "corpus.jsonl").read_text().splitlines()]
    lengths = [len(ids) for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
    assert [length > 128 for length in lengths] == [row % 3 == 0 for row in range(120)]


def test_the_cross_encoder_gives_one_number_per_pair(tiny_cross_encoder: Path) -> None:
    from sentence_transformers import CrossEncoder

    scores = CrossEncoder(str(tiny_cross_encoder), device="cpu").predict(
        [("oak saw", "timber in riga"), ("kiln", "fog")]
    )
    assert scores.shape == (2,)
    assert scores[0] != scores[1]
