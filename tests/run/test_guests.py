"""Another bi-encoder as a teacher in a run: its vectors serve all generations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdretrieval.encode.encoder import Embeddings
from sdretrieval.errors import ModelError, RequestError
from sdretrieval.run.api import plan_config, probe_config, run_config
from sdretrieval.teachers.ensemble import TeacherScores
from tests.helpers.runs.tiny_runs import LEXICAL, MakeConfig, artifact, dense, ensemble, keys_of, made_in


@pytest.fixture(scope="module")
def guested(make_config: MakeConfig, tiny_guest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two generations, taught by another bi-encoder with full context and BM25."""
    teacher = ensemble(
        dense(tiny_guest, view={"windows": "all", "max_tokens": 48}, prompts={"query": "query: "}, weight=0.2),
        {**LEXICAL, "weight": 0.8},
    )
    config = make_config("generations=2", "train.epochs=1", "train.later_epochs=0.5", teacher=teacher)
    result = run_config(config, runs=tmp_path_factory.mktemp("guested"))
    assert result is not None and [one["decision"] for one in result.report["generations"]]
    return result.folder


def test_a_guests_vectors_are_made_once_for_all_generations(guested: Path) -> None:
    made = made_in(guested)
    assert [stage for stage in made if "teacher0" in stage] == ["0/tokens:teacher0", "0/encode:teacher0"]
    assert {"1/score", "2/score"} <= set(keys_of(guested))


def test_a_guest_keeps_its_own_dims_view_and_prompts(guested: Path) -> None:
    vectors = Embeddings.load(artifact(guested, "0/encode:teacher0") / "documents")
    assert vectors.vectors_WD.shape[1] == 48 and not vectors.one_window
    assert Embeddings.load(artifact(guested, "1/encode") / "documents").vectors_WD.shape[1] == 32


def test_a_guest_is_named_and_says_what_it_knows(guested: Path, tiny_guest: Path) -> None:
    member = TeacherScores.load(artifact(guested, "2/score")).members[0]
    assert member.name == f"dense:{tiny_guest.name}" and member.free
    assert member.asymmetry.startswith("a larger bi-encoder (0 MB of weights, the student 0 MB); reads every window")


def test_a_guests_scores_are_those_of_its_own_vectors(guested: Path) -> None:
    from sdretrieval.mining.candidates import Candidates

    folder = artifact(guested, "0/encode:teacher0")
    documents, queries = Embeddings.load(folder / "documents"), Embeddings.load(folder / "queries")
    lists = Candidates.load(artifact(guested, "1/mine"))
    raw = TeacherScores.load(artifact(guested, "1/score")).members[0].raw
    row, document = int(lists.query_rows_Q[0]), int(lists.rows[0][0])
    windows = documents.vectors_WD[documents.windows[document] : documents.windows[document + 1]]
    assert raw[0][0] == pytest.approx(float((windows @ queries.vectors_WD[row]).max()), abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"weight": 0.4, "batch_tokens": 512}, False),
        ({"prompts": {"query": "ask: "}}, True),
        ({"view": {"windows": "first"}}, True),
        ({"query_tokens": 16}, True),
    ],
)
def test_what_makes_a_guests_vectors_anew(
    guested: Path, make_config: MakeConfig, tiny_guest: Path, changed: dict[str, Any], again: bool
) -> None:
    own = {"view": {"windows": "all", "max_tokens": 48}, "prompts": {"query": "query: "}, "weight": 0.2}
    config = make_config("generations=2", teacher=ensemble(dense(tiny_guest, **{**own, **changed}), LEXICAL))
    planned = {line.address: line.cached for line in plan_config(config, runs=guested.parent)}
    assert planned["0/tokens:teacher0"] is True
    assert planned["0/encode:teacher0"] is not again


def test_the_student_itself_as_a_guest_encodes_nothing_twice(
    make_config: MakeConfig, tiny_student: Path, tmp_path: Path
) -> None:
    config = make_config(teacher=ensemble(dense(tiny_student, query_tokens=64), LEXICAL))
    run_config(config, runs=tmp_path, until="1/score")
    keys = keys_of(tmp_path / "tiny")
    assert keys["0/encode:teacher0"] == keys["1/encode"] and keys["0/tokens:teacher0"] == keys["0/tokens"]
    assert "the student itself, as it was before training" in str(
        TeacherScores.load(artifact(tmp_path / "tiny", "1/score")).members[0].asymmetry
    )


def test_the_probe_measures_guests(make_config: MakeConfig, tiny_guest: Path, tmp_path: Path) -> None:
    members = [dense(tiny_guest), dense(tiny_guest, prompts={"query": "x "}), LEXICAL]
    config = make_config(teacher=ensemble(*({**member, "weight": "auto"} for member in members)))
    record = probe_config(config, runs=tmp_path)
    name = f"dense:{tiny_guest.name}"
    assert [member["name"] for member in record["members"]] == [name, f"{name} #2", "lexical"]
    assert len(record["rows"]) == 15


def test_a_reranker_as_bi_encoder_is_refused(make_config: MakeConfig, tiny_cross_encoder: Path, tmp_path: Path) -> None:
    config = make_config(teacher=dense(tiny_cross_encoder))
    with pytest.raises(
        ModelError, match=r"is no bi-encoder: its architecture is BertForSequenceClassification, a reran"
    ):
        run_config(config, runs=tmp_path)


def test_a_guest_with_too_short_a_context_is_refused(make_config: MakeConfig, tiny_guest: Path, tmp_path: Path) -> None:
    config = make_config(teacher=dense(tiny_guest, view={"max_tokens": 300}))
    with pytest.raises(ModelError, match="has 128 positions, max_tokens asks for 300"):
        run_config(config, runs=tmp_path)


def test_until_may_name_a_guests_stages(make_config: MakeConfig, tiny_guest: Path, tmp_path: Path) -> None:
    config = make_config(teacher=ensemble(LEXICAL, dense(tiny_guest)))
    assert run_config(config, runs=tmp_path, until="0/encode:teacher1") is None
    with pytest.raises(RequestError, match=r"--until 0/encode:teacher0: this config has no such stage"):
        run_config(config, runs=tmp_path, until="0/encode:teacher0")
