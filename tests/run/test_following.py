"""Queries that people asked, kept out of training, say whether a student follows its teacher."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.run.api import plan_config
from sdretrieval.stages import corpus
from sdretrieval.stages.follow import columns, divergence
from sdretrieval.store import Work
from tests.helpers.runs.tiny_runs import EMA, LEXICAL, MakeConfig, artifact, ledger_of, run, to_run

ASKED = ("corpus.labels=false", "corpus.dev_queries=40")
AUTO = {"kind": "ensemble", "members": [{**EMA, "weight": "auto"}, {**LEXICAL, "weight": "auto"}]}
SCALE = ("targets.calibrate=absolute", "targets.temperature=student", "evaluate.controls=[]")


@pytest.mark.parametrize("half", [(), ("student.lexical_half={dims: 8}",)], ids=["plain", "beside a lexical half"])
def test_queries_kept_out_of_training_decide_where_dev_is_synthetic(
    half: tuple[str, ...], make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "HELD_OUT_SHARE", 0.5)  # of 40 train queries
    config = make_config(*SCALE, *ASKED, *half, teacher=AUTO)
    assert "1/follow" in to_run(plan_config(config, runs=tmp_path))
    result = run(config, tmp_path)
    notes = json.loads((artifact(result.folder, "0/corpus") / "notes.json").read_text())
    assert len(notes["held_out_queries"]) == len(notes["train_queries"]) == 20
    assert not set(notes["held_out_queries"]) & set(notes["train_queries"])
    followed = json.loads((artifact(result.folder, "1/follow") / "followed.json").read_text())
    assert followed["queries"] == 20 and 0 < followed["share"] < 1, "it was taught, and not on these queries"
    counts = {record["stage"]: record["counts"] for record in ledger_of(result.folder)}
    assert counts["1/mine"]["queries"] == 20
    (one,) = result.report["generations"]
    assert f"came {100 * followed['share']:.0f} % of the way to its teacher" in one["reason"]
    assert ("ahead of the base without the lexical half" in one["reason"]) == bool(half)
    probe = json.loads((artifact(result.folder, "0/probe") / "probe.json").read_text())
    assert probe["predicted"] and ("over the student without its lexical half" in probe["reason"]) == bool(half)


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(SCALE, id="labels"),
        pytest.param((*SCALE, *ASKED, "corpus.generated_queries=30"), id="synthetic queries"),
        pytest.param((*ASKED, "evaluate.controls=[]"), id="z-scores, whose gain nothing predicts"),
    ],
)
def test_other_runs_go_by_dev_alone_and_train_on_all_queries(
    others: tuple[str, ...], make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "HELD_OUT_SHARE", 0.5)
    config = make_config(*others, teacher=AUTO)
    assert not any(address.endswith("/follow") for address in to_run(plan_config(config, runs=tmp_path)))
    work = Work(tmp_path / "made")
    corpus.build_corpus(work, config)
    assert json.loads((work.folder / "notes.json").read_text())["held_out_queries"] == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 3))
def test_the_divergence_falls_along_the_way(seed: int, scale: float) -> None:
    chance = np.random.default_rng(seed)
    wanted, found = chance.normal(size=(2, 5, 9)) * scale
    own = np.zeros(wanted.shape, dtype=bool)
    own[0, 3] = True
    ways = [divergence(wanted, found + share * (wanted - found), own) for share in (0.0, 0.3, 0.7, 1.0)]
    assert ways[-1] == pytest.approx(0, abs=1e-9) and (np.diff(ways, axis=0) <= 1e-9).all()
    wild = found.copy()
    wild[0, 3] = 50  # the query's own document, which it never retrieves
    assert divergence(wanted, wild, own) == pytest.approx(divergence(wanted, found, own))


def test_every_list_has_its_documents_and_all_have_others() -> None:
    rows = columns(np.asarray([7, 3, 7, 9000]), 10_000, seed=1)
    assert len(rows) == 5000 and {3, 7, 9000} <= set(rows.tolist()) and (np.diff(rows) > 0).all()
    assert columns(np.asarray([2]), 4, seed=1).tolist() == [0, 1, 2, 3]
