"""Runs that other rerankers teach: one behind a server, for which a server of ours stands, and a language model."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from sdretrieval.errors import ModelError, RequestError, WorkError
from sdretrieval.run.api import forecast_config, plan_config, run_config
from sdretrieval.teachers.ensemble import TeacherScores
from tests.helpers import tiny
from tests.helpers.rerank_server import rerank_server
from tests.helpers.runs.tiny_runs import EMA, MakeConfig, artifact, ensemble, ledger_of, made_in

FEW = {"labels": False, "dev_queries": 6, "generated_queries": 12}


def test_its_scores_teach_and_nothing_is_asked_twice(
    finished_copy: Path, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with rerank_server() as server, rerank_server("texts") as other:
        members = [EMA, server.config]
        config = make_config(teacher={"kind": "ensemble", "members": members})
        before = len(ledger_of(finished_copy / "tiny"))
        asked = forecast_config(config, runs=finished_copy).forecast.asked
        plan_config(config, runs=finished_copy)
        assert not server.bodies, "a plan asks nobody"
        ((path, _, cost),) = asked["1/score"]
        assert (path, cost.what, cost.calls) == ("teacher.members.1", "scores of 320 pairs", 40)
        run_config(config, runs=finished_copy, until="1/targets")
        scored = next(one for one in ledger_of(finished_copy / "tiny")[before:] if one["stage"] == "1/score")
        assert scored["counts"]["newly_scored_pairs"] == 320 and scored["counts"]["requests"] == 40
        assert len(server.pairs) == len(set(server.pairs)) > 320, "the probe has asked for dev's"
        lines = len(ledger_of(finished_copy / "tiny"))
        members[1] = {**other.config, "documents_per_request": 3, "concurrency": 9}
        config = make_config(teacher={"kind": "ensemble", "members": members})
        run_config(config, runs=finished_copy, until="1/targets")
        assert not other.bodies and not made_in(finished_copy / "tiny", lines), "the same model, served elsewhere"
    assert "teacher.members.1: tiny-reranker at http://127.0.0.1" in caplog.text


def test_a_synthetic_querys_own_document_is_read_without_it(
    make_config: MakeConfig, tiny_corpus: Path, tmp_path: Path
) -> None:
    with rerank_server() as server:
        config = make_config(corpus={"source": str(tiny_corpus), **FEW}, teacher=server.config)
        run_config(config, runs=tmp_path, until="0/lexical")
        asked = forecast_config(config, runs=tmp_path).forecast.asked
        run_config(config, runs=tmp_path, until="1/score")
    whole = {f"{record['title']} {record['text']}" for record in tiny.documents()}
    removed = [(query, text) for query, text in server.pairs if text not in whole]
    assert len(removed) == 6 + 12 and all(query not in text for query, text in removed)
    made = [one["stage"] for one in ledger_of(tmp_path / "tiny")]
    costs = [cost for stage in made for _, _, cost in asked.get(stage, [])]
    pairs = sum(int(cost.what.split()[2]) for cost in costs)
    assert len(server.pairs) <= pairs <= 1.2 * len(server.pairs)
    assert len(server.bodies) <= sum(cost.calls for cost in costs) <= 1.2 * len(server.bodies)


def test_a_key_that_is_missing_is_said_before_anything_is_made(make_config: MakeConfig, tmp_path: Path) -> None:
    with rerank_server() as server:
        config = make_config(teacher={**server.config, "key_variable": "A_TEST_KEY"})
        with pytest.raises(RequestError, match=r"teacher\.key_variable: .* A_TEST_KEY is not set"):
            run_config(config, runs=tmp_path)
    assert not server.bodies and not (tmp_path / "store" / "pairs").exists()


def test_nobody_listens(finished_copy: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdretrieval.chat.parallel.FIRST_WAIT", 0.001)
    with rerank_server() as gone:
        pass
    with pytest.raises(WorkError, match=r"teacher: tiny-reranker at .*: found no connection .*; start the server, or"):
        run_config(make_config(teacher=gone.config), runs=finished_copy, until="1/score")


def test_a_language_model_that_is_asked_for_yes_or_no_teaches(
    finished_copy: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    model = tiny.write_yes_no_reranker(tmp_path / "yes_no", prompt="Find the place.")
    reader = {"kind": "cross_encoder", "model": str(model), "max_tokens": 128}
    run_config(make_config(teacher=reader), runs=finished_copy, until="1/targets")
    (scored,) = [one for one in ledger_of(finished_copy / "tiny") if one["stage"] == "1/score"][1:]
    assert scored["counts"]["newly_scored_pairs"] == 320
    with pytest.raises(ModelError, match=r"has 256 positions, max_tokens asks for 512"):
        plan_config(make_config(teacher={**reader, "max_tokens": 512}), runs=finished_copy)


def test_encoders_of_token_vectors_and_of_words_teach_and_the_probe_weighs_them(
    finished_copy: Path, make_config: MakeConfig, tiny_corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    alone = {"source": str(tiny_corpus), **FEW}
    models = [tiny.write_multi_vector(tmp_path / "tokens"), tiny.write_sparse(tmp_path / "words"), tiny_student]
    view = {"windows": "all", "max_tokens": 32}
    members = [
        {"kind": kind, "model": str(model), "view": view, "weight": "auto"}
        for kind, model in zip(("multi_vector", "sparse", "multi_vector"), models, strict=True)
    ]
    run_config(make_config(corpus=alone, teacher=ensemble(*members)), runs=finished_copy, until="1/targets")
    probed = json.loads((artifact(finished_copy / "tiny", "0/probe") / "probe.json").read_text())
    assert [member["name"] for member in probed["members"]] == [
        "multi_vector:tokens", "sparse:words", "multi_vector:student",
    ]  # fmt: skip
    scored = TeacherScores.load(artifact(finished_copy / "tiny", "1/score"))
    assert [member.free for member in scored.members] == [False] * 3
    assert "each token of the query with every token" in scored.members[0].asymmetry
    fewer = make_config("mine.keep=6", corpus=alone, teacher=ensemble(*members))
    run_config(fewer, runs=finished_copy, until="1/score")
    again = [one for one in ledger_of(finished_copy / "tiny") if one["stage"] == "1/score"][-1]
    assert again["counts"]["newly_scored_pairs"] < again["counts"]["pairs"] / 2, "pairs are known from before"
