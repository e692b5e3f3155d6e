"""Runs whose cross-encoder learns the train judgements before it teaches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.corpus import load_corpus
from sdretrieval.errors import RequestError
from sdretrieval.mining.candidates import Candidates
from sdretrieval.run.api import forecast_config, run_config
from sdretrieval.stages import fit_teacher
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher, load_cross_encoder
from sdretrieval.teachers.ensemble import TeacherScores
from sdretrieval.teachers.pairs import PairCache
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of

FIT = {"epochs": 2, "candidates": 4}
ADDRESS = "0/fit:teacher0"


def teacher(model: Path, **fit: object) -> dict[str, object]:
    return {"kind": "cross_encoder", "model": str(model), "max_tokens": 64, "fit": {**FIT, **fit}}


def test_it_learns_each_half_apart_and_scores_no_query_that_it_has_learned(
    finished_copy: Path, make_config: MakeConfig, tiny_cross_encoder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = make_config(teacher=teacher(tiny_cross_encoder))
    predicted = forecast_config(config, runs=finished_copy).forecast.stages[ADDRESS]
    assert predicted.amount is not None and predicted.seconds is not None

    real, made = fit_teacher.fit_model, []

    def killed(*arguments: Any, **settings: Any) -> None:
        made.append(arguments[3].name)
        if len(made) == 2:
            raise KeyboardInterrupt
        real(*arguments, **settings)

    monkeypatch.setattr(fit_teacher, "fit_model", killed)
    with pytest.raises(KeyboardInterrupt):
        run_config(config, runs=finished_copy, until=ADDRESS)
    run_config(config, runs=finished_copy, until="1/targets")
    assert made == ["fitting_first", "fitting_second", "fitting_second"], "what was finished is kept"

    run = finished_copy / "tiny"
    (fitted,) = [one for one in ledger_of(run) if one["stage"] == ADDRESS]
    assert fitted["counts"] == {"judged_queries": 40, "updates": predicted.amount.count}
    folder = artifact(run, ADDRESS)
    losses = [json.loads(line)["loss"] for line in (folder / "first.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    learned = json.loads((folder / "learned_by_first.json").read_text())["queries"]
    assert len(learned) == 20

    corpus, lists = load_corpus(artifact(run, "0/corpus") / "corpus"), Candidates.load(artifact(run, "1/mine"))
    scores = TeacherScores.load(artifact(run, "1/score")).members[0]
    for half, queries in (("second", learned), ("first", sorted(set(corpus.qrels["train"]) - set(learned)))):
        model, _ = load_cross_encoder(str(folder / half), max_tokens=64, device="cpu")
        texts, documents = corpus.query_texts(), corpus.document_texts()
        alone = CrossEncoderTeacher(
            model, name="alone", query_text=texts.__getitem__, document_text=documents.__getitem__,
            cache=PairCache(tmp_path / half), max_tokens=64,
        )  # fmt: skip
        chosen = np.flatnonzero(np.isin(lists.query_rows_Q, [corpus.query_row[query] for query in queries]))
        expected = alone.score(lists.query_rows_Q[chosen], lists.take(chosen).rows)
        found = [scores.raw[position] for position in chosen]
        np.testing.assert_allclose(np.concatenate(found), expected.values_T, atol=1e-5)


def test_one_judged_query_cannot_be_halved(
    make_config: MakeConfig, tiny_cross_encoder: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    one = Path(shutil.copytree(tiny_corpus, tmp_path / "one"))
    judged = one / "qrels" / "train.tsv"
    judged.write_text("".join(judged.read_text().splitlines(keepends=True)[:2]))
    config = make_config(corpus={"source": str(one)}, teacher=teacher(tiny_cross_encoder))
    with pytest.raises(
        RequestError, match=r"teacher\.fit: found 1 train query with a known positive .*teacher\.fit=null"
    ):
        run_config(config, runs=tmp_path / "runs", until=ADDRESS)
