"""Runs whose queries a language model writes, or whose dev it judges: a server of ours stands for it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.chat import parallel as asking
from sdretrieval.cli.export import export_run
from sdretrieval.cli.lookup import Serving
from sdretrieval.errors import RequestError, WorkError
from sdretrieval.files import read_json
from sdretrieval.run.api import plan_config, run_config
from sdretrieval.stages import judge as judging
from sdretrieval.store.run_folder import REPORT
from tests.helpers.chat_server import ChatServer, chat_server
from tests.helpers.runs.nursery import Nursery
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of, made_in

COUNTS = {"labels": False, "dev_queries": 20, "generated_queries": 40}
FEW = {"labels": False, "dev_queries": 6, "generated_queries": 12}
DEPTH = 10
"""Of the pairs that are judged: an answer of the server takes as long as a pair of a cross-encoder."""


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with chat_server() as one:
        yield one


@pytest.fixture(scope="module")
def written(
    server: ChatServer, tiny_corpus: Path, make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A finished run: the model writes training queries and judges dev; the collection's test queries are judged."""
    generate = {"written": 100, "within": 50, "writer": server.config}  # beside the other kinds' 1
    corpus = {"source": str(tiny_corpus), "generate": generate, **COUNTS}
    evaluate = {"judge": {**server.config, "model": "tiny-judge"}, "teacher_depth": DEPTH}
    return run_config(make_config(corpus=corpus, evaluate=evaluate), runs=tmp_path_factory.mktemp("runs"))


def test_the_model_writes_queries_from_the_documents_that_they_are_for(written: Any, server: ChatServer) -> None:
    made = written.report["synthetic_queries"]["generated"]
    assert made["kinds"]["written"]["kept"] >= 30
    assert made["examples"]["written"][0].startswith("where is the ")
    prompts = [prompt for prompt in server.prompts if "Grade:" not in prompt]
    kinds = ("Write one question", "Write one short statement", "Write the two to six words")
    assert all(any(kind in prompt for prompt in prompts) for kind in kinds), "kinds are mixed"
    counts = next(record["counts"] for record in ledger_of(written.folder) if record["stage"] == "0/corpus")
    assert counts["written_by_model"] >= 30 and counts["written_prompt_tokens"] == 100 * counts["written_by_model"]


def test_dev_is_measured_by_the_grades(written: Any) -> None:
    judged = written.report["judge"]
    assert judged["model"] == "tiny-judge" and judged["dev"]["pairs"] == sum(judged["dev"]["grades"].values())
    assert written.report["n_dev_queries"] == judged["dev"]["answered"] <= judged["dev"]["queries"]
    assert DEPTH < judged["dev"]["pairs"] / judged["dev"]["queries"] <= 2 * DEPTH + 1
    grades = read_json(artifact(written.folder, "0/judge:dev") / "judged.json")["grades"]
    dev = Serving.of(written.folder).corpus().qrels["dev"]  # what `compare` measures by, too
    assert len(dev) == judged["dev"]["answered"]
    assert all({d: max(0, grade - 1) for d, grade in grades[query].items()} == of for query, of in dev.items())
    unjudged = judged["dev"]["unjudged_at_10"]
    assert unjudged["student_0"] == 0 <= unjudged["final"] < 1, "the base's best were pooled"


def test_the_report_says_who_judged_and_calls_nothing_proven(written: Any) -> None:
    page = (written.folder / "report.html").read_text(encoding="utf8")
    assert "dev (estimate, judged by tiny-judge)" in page
    assert any(note.startswith("Dev is judged by tiny-judge, not by people: of ") for note in written.details["notes"])
    assert all("judged by tiny-judge" in one["reason"] for one in written.report["generations"])


def test_an_exported_student_says_who_judged_its_dev(written: Any, tmp_path: Path) -> None:
    export_run(str(written.folder), tmp_path / "bundle")
    assert "made from documents, and judged by tiny-judge, so" in (tmp_path / "bundle" / "README.md").read_text()


def test_agreement_with_people_is_measured_on_the_reports_split(written: Any) -> None:
    found = written.report["judge"]["agreement"]
    assert found["split"] == "test" and found["queries"] == 24 and 24 * DEPTH < found["pairs"] <= 24 * (2 * DEPTH + 1)
    assert -1 <= found["kappa"] <= 1 and 0 <= found["agreed"] <= 1 and found["of_relevant"] > 0.5
    assert any("tiny-judge and people agree on" in note for note in written.details["notes"])


def test_a_second_run_asks_nothing(written: Any, server: ChatServer, make_config: MakeConfig) -> None:
    from sdretrieval.config import load_config

    before = len(server.prompts)
    lines = len(ledger_of(written.folder))
    result = run_config(load_config(written.folder / "config.yaml"), runs=written.folder.parent)
    assert result is not None and len(server.prompts) == before and not made_in(written.folder, lines)
    # Another seed makes another corpus; what was written for the same documents is kept.
    plan_config(load_config(written.folder / "config.yaml", ["seeds=[99]"]), runs=written.folder.parent)
    assert len(server.prompts) == before, "a plan asks nobody"


def test_the_cost_is_said_before_the_first_call_and_what_it_took_after_the_last(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with chat_server() as server:
        writer = {**server.config, "key_variable": "A_TEST_KEY"}
        corpus = {"source": str(tiny_corpus), "generate": {"written": 1, "writer": writer}, **COUNTS}
        config = make_config(corpus=corpus)
        with pytest.raises(RequestError, match=r"corpus\.generate\.writer\.key_variable: .* A_TEST_KEY is not set"):
            run_config(config, runs=tmp_path, until="0/corpus")
        assert not server.prompts
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("A_TEST_KEY", "sk-very-secret")
            run_config(config, runs=tmp_path, until="0/corpus")
    lines = [record.getMessage() for record in caplog.records]
    asked = [line for line in lines if " is asked for " in line]
    assert asked[-1].startswith(f"corpus.generate.writer: tiny-writer at {server.url} is asked for training queries: ")
    announced = sum(int(re.findall(r"at most (\d+) calls, about [\d,]+ tokens of prompts$", line)[0]) for line in asked)
    assert 0 < len(server.prompts) <= announced
    count = len(server.prompts)
    took = f"{count} queries from tiny-writer, 0 of them kept from before; {100 * count:,} tokens of prompts, "
    assert any(took in line for line in lines)
    files = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not any("sk-very-secret" in text for text in files)
    assert "sk-very-secret" not in caplog.text


def test_killed_in_the_middle_it_asks_only_for_the_rest(
    tiny_corpus: Path, make_config: MakeConfig, nursery: Nursery, tmp_path: Path
) -> None:
    with chat_server(rest="slow 0.03") as server:
        corpus = {"source": str(tiny_corpus), "generate": {"written": 1, "writer": server.config}, **FEW}
        config = make_config(corpus=corpus)
        killed = nursery.run(config, tmp_path, until="0/corpus", kill_at="0/corpus", kill_when="store/answers/*.jsonl")
        assert killed.code == -9
        server.rest, first = "", list(server.prompts)
        kept = sum(len(path.read_text().splitlines()) for path in tmp_path.glob("store/answers/*.jsonl"))
        assert nursery.run(config, tmp_path, until="0/corpus").code == 0
        rest = server.prompts[len(first) :]
        with chat_server() as whole:
            corpus["generate"]["writer"] = whole.config  # type: ignore[index]
            run_config(make_config(corpus=corpus), runs=tmp_path / "whole", until="0/corpus")
    assert kept >= 1 and len(rest) == len(whole.prompts) - kept
    assert set(rest) < set(whole.prompts) == set(first) | set(rest)


def test_a_server_that_fails_says_so_once_and_keeps_what_it_gave(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.001)
    with chat_server([""] * 5, rest="500") as server:
        corpus = {"source": str(tiny_corpus), "generate": {"written": 1, "writer": server.config}, **FEW}
        with pytest.raises(WorkError, match=r"5 answers kept: run again, and only the others are asked for") as caught:
            run_config(make_config(corpus=corpus), runs=tmp_path, until="0/corpus")
    assert server.url in str(caught.value) and "tiny-writer" in str(caught.value)


def test_with_labels_the_judge_only_tells_how_far_people_agree(
    finished_copy: Path, finished: Any, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "CHECKED", 4)
    with chat_server() as server:
        config = make_config(evaluate={"judge": server.config, "controls": ["hard_labels", "shuffled_teacher"]})
        before = len(ledger_of(finished_copy / "tiny"))
        result = run_config(config, runs=finished_copy)
    assert result is not None and made_in(finished_copy / "tiny", before) == ["0/judge:dev"]
    assert result.report["judge"]["dev"] is None and result.report["judge"]["agreement"]["split"] == "dev"
    assert result.report["dev_measures"] == finished.report["dev_measures"]
    assert (finished_copy / "tiny" / REPORT).exists()


def test_a_judge_who_finds_nothing_relevant_measures_nothing(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    with chat_server(rest="says 1") as server:
        corpus = {"source": str(tiny_corpus), **COUNTS}
        config = make_config(corpus=corpus, evaluate={"judge": server.config, "teacher_depth": 2})
        with pytest.raises(WorkError, match=r"evaluate\.judge: tiny-writer calls no document relevant to any of \d+"):
            run_config(config, runs=tmp_path, until="0/judge:dev")
