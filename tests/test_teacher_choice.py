"""The study of the probe's choice: judged queries choose, the others are the truth; what is learned is of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import teacher_choice
from benchmarks import teacher_choice_table as table

MIXTURES = teacher_choice.mixtures()
ALONE, EVEN, OTHER = ((1.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def case(name: str, closeness: float, queries: int = 80) -> table.Case:
    """A collection on which the other bi-encoder gains the more, the less close the student's best documents are."""
    gains_MQ = np.zeros((len(MIXTURES), queries))
    gains_MQ[MIXTURES.index(EVEN)] = 0.03
    gains_MQ[MIXTURES.index(OTHER)] = 0.5 - closeness
    signals_Q3 = np.tile([closeness, 0.3, 0.3], (queries, 1))
    return table.Case(name, "m", {"absolute": gains_MQ}, signals_Q3, 0.0)


CASES = [case(f"c{n}", 0.30 + 0.05 * n) for n in range(6)]
EVERY = list(range(len(MIXTURES)))


def test_judged_queries_choose_the_best_and_the_others_say_what_it_gains() -> None:
    for one in table.judged(CASES, 30, EVERY, table.best):
        expected = max(0.03, 0.5 - float(one.case.signals_Q3[0, 0]))
        assert one.gain == one.best == one.best_of_all == pytest.approx(expected)
    few = table.judged([case("small", 0.3, queries=59)], 30, EVERY, table.best)
    assert not list(few), "half of the queries must be left for the truth"


def test_the_even_mixture_stays_unless_another_is_significantly_better() -> None:
    inside = [MIXTURES.index(one) for one in (ALONE, (0.0, 1.0, 0.0, 0.0), EVEN)]
    choose, gains_MQ = table.careful(MIXTURES), np.zeros((len(MIXTURES), 30))
    chance = np.random.default_rng(0).normal(0, 0.3, 30)
    gains_MQ[inside[1]] = 0.001 + chance - chance.mean()
    assert table.best(gains_MQ, inside) == inside[1] and choose(gains_MQ, inside) == inside[2]
    gains_MQ[inside[1]] += 1
    assert choose(gains_MQ, inside) == inside[1]


def test_a_prediction_is_learned_on_the_other_collections() -> None:
    odd = CASES[0]._replace(gains={"absolute": np.full_like(CASES[0].gains["absolute"], 9.0)})
    for signals in ([], [0, 1]):
        first, second = (table.fit(CASES[1:], signals)(one) for one in (CASES[0], odd))
        np.testing.assert_allclose(first, second)
    learned = table.fit(CASES, [0, 1])
    near, far = (learned(one)[MIXTURES.index(OTHER)] for one in (CASES[-1], CASES[0]))
    assert near < far
    assert next(table.predicted(CASES, EVERY, [0, 1])).gain == pytest.approx(0.2)


def test_a_case_is_measured_and_told(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model = str(tiny_student)
    monkeypatch.setattr(teacher_choice, "OTHER", {model: model})
    monkeypatch.setattr(teacher_choice, "MOST_QUERIES", 12)
    vectors = tmp_path / "vectors" / tiny_student.name
    vectors.mkdir(parents=True)
    monkeypatch.setattr(teacher_choice, "vectors_of", lambda out, model, name: vectors / f"{name}.npy")
    documents_ND = np.random.default_rng(0).normal(size=(120, 32)).astype(np.float32)
    np.save(vectors / f"{tiny_corpus.name}.npy", documents_ND / np.linalg.norm(documents_ND, axis=1, keepdims=True))
    monkeypatch.setattr(table, "DEV", (6,))
    teacher_choice.main([str(tiny_corpus.parent), "--out", str(tmp_path), "--models", model])
    record: dict[str, Any] = json.loads(next((tmp_path / "choice").glob("*.json")).read_text())
    value = dict(zip(MIXTURES, np.asarray(record["values"]["absolute"]).mean(1), strict=True))
    assert value[ALONE] == value[OTHER], "the same model"
    assert value[0.0, 1.0, 0.0, 0.0] > value[EVEN] > value[ALONE], "BM25 searches this collection well"
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 6 judged | BM25 | best |")]
    gain, cost = (float(cell) for cell in rows[0].split(" | ")[4:6])
    assert gain > 0.5 and cost < 0.1
