"""The side-by-side benchmarks: sides do the same work, turns are taken, tables say what was found."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmarks import (
    adapter,
    exits,
    fitted_reranker,
    forecast,
    lexical_half,
    mixing,
    scaling,
    served_scores,
    short_dims,
)
from benchmarks.__main__ import LONG, NAMES, run
from benchmarks.ceiling import operations
from benchmarks.inputs import Asked
from benchmarks.passages import WORDS, passages
from benchmarks.record import BEGIN, END, Record, Row, compared, update_readme
from benchmarks.scaling import exponent
from benchmarks.sides import Side, measure
from sdretrieval.corpus.read import python_stdlib
from sdretrieval.training.smaller import divergence, principal_dims
from tests.helpers import counting_sides
from tests.helpers.tiny import write_random_vectors


@pytest.fixture(scope="module", autouse=True)
def a_sixth_of_the_library() -> Iterator[None]:
    """The collection that most sides work on is made in a second or two."""
    every = python_stdlib._modules
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(python_stdlib, "_modules", lambda folder: list(every(folder))[::6])
        yield


def test_sides_take_turns_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    found = measure(counting_sides.__name__, ["one", "other"], tmp_path, rounds=3)
    turns = [line.split() for line in (tmp_path / "turns.txt").read_text().splitlines()]
    assert [name for name, _ in turns] == ["one", "other", "other", "one", "one", "other"]
    assert len({process for _, process in turns} | {str(os.getpid())}) == 3
    assert {name: side.result for name, side in found.items()} == {"one": "one", "other": "other"}
    assert all(len(side.seconds) == 3 and side.peak_bytes > 50_000_000 for side in found.values())


def test_a_side_that_fails_says_which_and_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"counting_sides, side broken:\n(.|\n)*ValueError: no such thing"):
        measure(counting_sides.__name__, ["one", "broken"], tmp_path, rounds=1)


def test_ratios_are_taken_round_by_round_and_held_against_the_target() -> None:
    ours, peer = Side("ours", [1.0, 2.0, 1.0], 10**9), Side("peer", [3.0, 4.0, 1.5], 2 * 10**9)
    row = compared("work", ours, peer, 2.0, "equal")
    assert row.text == "| work | 2.00 (1.50 to 3.00) | 2: met | 1.00 against 2.00 GB | equal |"
    assert "5: **not met**" in compared("work", ours, peer, 5.0).text


def test_records_become_tables_between_the_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    Record("mine", "some work", [Row("all of it", [2.0])], ["a note"]).write(tmp_path / "results")
    update_readme(readme, tmp_path / "results")
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}") and text.endswith(f"{END}\nafter\n") and "old" not in text
    assert "**mine**: some work" in text and "| all of it | 2.00 |" in text and "* a note" in text
    record = json.loads((tmp_path / "results" / "mine.json").read_text())
    assert record["commit"] in text and record["cpu"] in text


def test_operations_of_an_encoder_by_hand() -> None:
    class Config:
        hidden_size, intermediate_size, num_hidden_layers = 4, 8, 2

    # A token and layer: 4 products of 4 x 4 and 2 of 4 x 8, two operations each; attention: 2 products of L x L x 4.
    lengths = np.array([3, 5])
    assert operations(Config, lengths) == 2 * (8 * 2 * (4 * 16 + 2 * 32) + 4 * 4 * (9 + 25))


def test_passages_are_short_and_distinct() -> None:
    found = passages(2000)
    assert len(set(found)) == 2000
    assert all(len(text.split()) <= WORDS and "\n" not in text for text in found)


def test_the_exponent_is_the_slope_over_sizes() -> None:
    sizes = [1_000, 2_000, 4_000]
    assert exponent(sizes, [1.0, 2.0, 4.0]) == pytest.approx(1)
    assert exponent(sizes, [1.0, 4.0, 16.0]) == pytest.approx(2)
    assert exponent(sizes, [3.0, 3.0, 3.0]) == pytest.approx(0)


def test_every_stage_is_measured_as_each_thing_grows(
    tiny_student: Path, tiny_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scaling, "START", {"documents": 200, "queries": 20, "candidates": 5, "tokens": 16})
    monkeypatch.setattr(scaling, "GROWTH", {"queries": (10, 20), "candidates": (5, 10), "tokens": (16, 30)})
    monkeypatch.setattr(scaling, "SCORED", 5)
    models = scaling.Models(str(tiny_student), str(tiny_cross_encoder))
    grown = dict(scaling.grow(models, [100, 400]))
    assert {name: [one.size for one in runs] for name, runs in grown.items()} == {
        "documents": [100, 400], "queries": [10, 20], "candidates": [5, 10], "tokens": [16, 30],
    }  # fmt: skip
    stages = ["tokenize", "encode", "bm25", "search", "bm25 search", "mine"]
    stages += ["score, 1 query of 5", "train, 1 query of 10"]
    assert all(list(one.seconds) == list(one.peak_bytes) == stages for runs in grown.values() for one in runs)
    scaling.record(grown, models).write(tmp_path)
    text = json.loads((tmp_path / "scaling.json").read_text(encoding="utf8"))["markdown"]
    assert "| documents | 100 | 400 | exponent |" in text
    assert text.count("\n| train, 1 query of 10 |") == len(grown)


AGREED = {
    "encode": "least cosine 1.0000",
    "mine": "candidates shared 1.0",
    "score": "logits within ",
    "train": "dev nDCG@10",
    "search": "recall@100 1.000 against 1.000",
}


def _measure_here(module: str, names: Sequence[str], folder: Path, rounds: int) -> dict[str, Side]:
    """`measure` in this process: one that imports torch and its libraries for each side takes most of a minute."""
    sides = {name: Side(name, peak_bytes=1) for name in names}
    for name, side in sides.items():
        work = import_module(module).SIDES[name](folder)
        for _ in range(rounds):
            start = time.perf_counter()
            side.results.append(work())
            side.seconds.append(time.perf_counter() - start)
    return sides


@pytest.mark.parametrize("name", [*NAMES, *LONG])
def test_both_sides_agree_on_small_models(
    name: str, tiny_student: Path, tiny_cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import benchmarks.mine as mining
    import benchmarks.search as searching
    import benchmarks.train as training

    monkeypatch.setattr("benchmarks.__main__.measure", _measure_here)
    monkeypatch.setattr("benchmarks.ceiling.PRODUCTS", 2)
    monkeypatch.setattr(mining, "QUERIES", 40)
    monkeypatch.setattr(mining, "DOCUMENTS", 1500)
    monkeypatch.setattr(training, "DOCUMENTS", 300)
    monkeypatch.setattr(training, "UPDATES", 4)
    monkeypatch.setattr(searching, "DOCUMENTS", 3000)
    asked = Asked(
        str(tiny_student),
        str(tiny_cross_encoder),
        max_tokens=64,
        scale=1.0 if name in ("mine", "train", "search") else 0.05,
    )
    record = run(name, asked, rounds=1)
    text = record.markdown()
    assert AGREED[name] in text
    if name == "score":
        apart = float(text.split("logits within ")[1].split()[0])
        assert apart < 1e-4
    if name == "mine":
        assert text.count("candidates shared 1.0") == 2
    if name == "search":
        found = {side: figures["recall_at_100"] for side, figures in record.details["sides"].items()}
        assert found["ivf, faiss"] < 0.5, "its default looks into one list"
        assert min(found[side] for side in found if "ours" in side) > 0.9
        assert record.details["built"]["exact, ours"]["bytes_per_vector"] == pytest.approx(1536, abs=1)
    assert all(len(side.seconds) == 1 for side in record.sides.values())


def test_a_forecast_is_set_beside_what_came() -> None:
    def stage(address: str, unit: str, amounts: list[int], seconds: list[float | None]) -> dict[str, Any]:
        sides = [
            {"amount": amount, "seconds": each, "peak_rss_bytes": peak}
            for amount, each, peak in zip(amounts, seconds, (10**9, 2 * 10**9), strict=True)
        ]
        return {"stage": address, "unit": unit, "predicted": sides[0], "actual": sides[1]}

    text = forecast.table(
        [
            stage("1/encode", "tokens", [104, 100], [15.0, 10.0]),
            stage("1/train", "updates", [80, 100], [0.5, 1.0]),
            stage("1/mine", "candidates", [100, 100], [None, 7.0]),
        ]
    )
    assert "| 1/encode | 100 tokens | 1.040 | 15.0 | 10.0 | 1.50 | 1.00 / 2.00 |" in text
    assert "| 1 stages under 5 s each | | | 0.5 | 1.0 | 0.50 | |" in text
    assert "2 of 3 amounts of work within 5%; beyond: 1/train 0.80" in text
    assert "0 of 1 stages of 5 s or more, seconds within 30%; beyond: 1/encode 1.50" in text
    assert "1 stages whose seconds are not predicted: 7.0 s" in text


def test_mixing_finds_the_mixture_that_harms_nowhere(tiny_corpus: Path, tmp_path: Path) -> None:
    """Random vectors: BM25 knows all, so every mixture gains, and more strength gains more."""
    place = tmp_path / "random" / tiny_corpus.name
    write_random_vectors(tiny_corpus, place)
    rows = mixing.measure(tiny_corpus, ["random"], tmp_path)
    of = {row["mixture"]: row["difference"] for row in rows}
    least, most = mixing.named("coverage", 2), mixing.named("coverage", 12)
    assert 0 < of[least] < of[most] < of["BM25 alone"] + 0.05
    harmed = [{**row, "collection": "other", "difference": -0.1, "p": 0.01} for row in rows]
    table = mixing.held_out([*rows, *harmed], "coverage")
    assert "| other | 12 | -0.100 |" in table, "the first collection alone chooses the greatest strength"
    assert "worst -0.100" in table.splitlines()[-1]
    row = next(line for line in mixing.summary([*rows, *harmed]).splitlines() if line.startswith(f"| {most} |"))
    assert row.endswith("-0.100 (other) | 1 of 2 | 1 |")
    np.save(place / "queries.npy", np.load(place / "queries.npy")[:3])
    with pytest.raises(SystemExit, match="rows of another collection"):
        mixing.measure(tiny_corpus, ["random"], tmp_path)


def test_log_odds_give_back_what_a_sigmoid_took(tiny_corpus: Path, tiny_cross_encoder: Path, tmp_path: Path) -> None:
    write_random_vectors(tiny_corpus, tmp_path / served_scores.STUDENT / tiny_corpus.name)
    rows = served_scores.measure(tiny_corpus, tmp_path, str(tiny_cross_encoder), 24)
    of = {row["way"]: row for row in rows}
    assert of["logits"]["difference"] == 0 and of["logits"]["queries"] == 24
    assert of["log-odds of the sigmoid"]["ndcg"] == pytest.approx(of["logits"]["ndcg"]) and of["logits"]["ndcg"] > 0
    assert "| the reranker's scores | tiny (24) |" in served_scores.table(rows)


def test_a_fitted_reranker_is_measured_in_fold_and_out_of_fold(
    tiny_corpus: Path, tiny_cross_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitted_reranker, "UPDATES", 2)
    monkeypatch.setattr(fitted_reranker, "BATCH", 12)
    write_random_vectors(tiny_corpus, tmp_path / served_scores.STUDENT / tiny_corpus.name)
    asked = Namespace(
        reranker=str(tiny_cross_encoder), out=tmp_path, queries=12, rate=1e-2, epochs=4, candidates=4, tokens=48
    )
    case = fitted_reranker.load(tiny_corpus, tmp_path, asked.queries)
    reranker = fitted_reranker.Reranker(case, asked)
    logits = fitted_reranker.by_fold(case, reranker)
    both = [reranker.scores(half, case.train, case.lists_QL) for half in (0, 1)]
    np.testing.assert_array_equal(logits["in fold"][1::2], both[1][1::2])
    np.testing.assert_array_equal(logits["out of fold"][1::2], both[0][1::2])
    assert [line.split(" | ")[0] for line in fitted_reranker.on_dev(case, reranker)][1:] == [
        "| (cosines; cosines and BM25)", "| as it was", "| fitted to one half",
    ]  # fmt: skip
    assert sum("in fold" in line for line in fitted_reranker.on_students(case, logits, ["dev"])) == 2


def test_a_lexical_half_brings_bm25_to_vectors_that_know_nothing(tiny_corpus: Path, tmp_path: Path) -> None:
    write_random_vectors(tiny_corpus, tmp_path / "random" / tiny_corpus.name)
    rows = lexical_half.measure(tiny_corpus, ["random"], tmp_path)
    of = {row["system"]: row["difference"] for row in rows}
    # 120 documents have no more than 120 directions, so that all of BM25 is left; hashed terms fall together.
    kinds = [f"512 dims, {kind}, 4 sigma" for kind in lexical_half.KINDS]
    assert len({round(of[kind], 6) for kind in kinds}) == 1 and of[kinds[0]] > of["hybrid, absolute"] > 0.1
    assert of["128 dims, hashed, 4 sigma"] < of[kinds[0]]
    assert "| 512 dims, idf in the query, 4 sigma |" in lexical_half.summary(rows)
    assert f"| {tiny_corpus.name} | 24 |" in lexical_half.by_collection(rows)


def test_an_adapter_learns_a_rotation_that_the_teacher_knows() -> None:
    generator = torch.Generator().manual_seed(5)
    documents_ND, queries_QD = (torch.randn(n, 8, generator=generator) for n in (60, 200))
    documents_ND, queries_QD = (torch.nn.functional.normalize(one, dim=1) for one in (documents_ND, queries_QD))
    turn_DD = torch.linalg.qr(torch.randn(8, 8, generator=generator) * 0.05 + torch.eye(8)).Q
    turn_DD *= torch.sign(torch.diagonal(turn_DD))
    target_QN = torch.log_softmax(queries_QD @ turn_DD @ documents_ND.T / adapter.TEMPERATURE, dim=1)
    found_DD = adapter.fit(queries_QD, documents_ND, torch.zeros(200, 60), target_QN, both=False)
    assert (found_DD - turn_DD).norm() < 0.6 * (torch.eye(8) - turn_DD).norm()


def test_a_map_to_fewer_dims_learns_to_keep_scores() -> None:
    chance = np.random.default_rng(5)
    texts_ND = normalize(torch.from_numpy(chance.normal(size=(200, 16)).astype(np.float32)), dim=1)
    first_DE = torch.from_numpy(principal_dims(texts_ND.numpy(), 4))
    lost = [
        float(divergence(normalize(texts_ND @ map_DE, dim=1), texts_ND, short_dims.TEMPERATURE))
        for map_DE in (first_DE, short_dims.learned(texts_ND, first_DE))
    ]
    assert lost[1] < 0.98 * lost[0]


def test_a_map_reads_out_of_early_layers_what_the_whole_student_says() -> None:
    chance = np.random.default_rng(2)
    wanted_XF = np.asarray(normalize(torch.from_numpy(chance.normal(size=(80, 6))), dim=1), dtype=np.float32)
    read_XF = (wanted_XF @ chance.normal(size=(6, 6)) + 0.05 * chance.normal(size=(80, 6))).astype(np.float32)
    wanted = torch.from_numpy(wanted_XF)
    lost = [
        float(divergence(normalize(torch.from_numpy(vectors_XF), dim=1), wanted, exits.TEMPERATURE))
        for vectors_XF in (read_XF, read_XF @ exits.fitted_map(read_XF, wanted_XF, None))
    ]
    assert lost[1] < 0.2 * lost[0]
