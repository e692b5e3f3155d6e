"""The guard: a student that forgets another collection is not accepted, and the report says how much is forgotten."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sdretrieval.corpus import open_corpus
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.errors import CorpusError
from sdretrieval.evaluation import read_trec
from sdretrieval.run.api import RunResult, open_run, plan_config, run_config
from sdretrieval.stages import guard
from sdretrieval.stages.guard import Forgotten, guarded
from sdretrieval.stages.run import Weights
from tests.helpers import tiny
from tests.helpers.runs.tiny_runs import MakeConfig, copy_without, keys_of, ledger_of, made_in, run

CONTROLS = "evaluate.controls=[hard_labels, shuffled_teacher]"


@pytest.fixture(scope="module")
def liked_by_the_base(finished: RunResult, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection in which the document that the base student finds first is relevant: all training forgets it."""
    folder = Path(shutil.copytree(tiny_corpus, tmp_path_factory.mktemp("guard") / "liked"))
    found = read_trec(finished.folder / "runs" / "student_0.test.trec")
    lines = [f"{query}\t{max(hits, key=hits.__getitem__)}\t1" for query, hits in found.items()]
    shutil.rmtree(folder / "qrels")
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return folder


@pytest.fixture(scope="module")
def refused(
    finished: RunResult, liked_by_the_base: Path, make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> RunResult:
    """The finished run with that guard, in a copy of its store."""
    runs = Path(shutil.copytree(finished.folder.parent, tmp_path_factory.mktemp("refused") / "runs"))
    return run(make_config(CONTROLS, f"gate.guard={liked_by_the_base}"), runs)


def test_a_student_that_forgets_is_refused_after_its_mixtures(refused: RunResult, finished: RunResult) -> None:
    made = made_in(refused.folder, after=len(ledger_of(finished.folder)))
    assert made[0] == "0/guard" and "1/train" not in made
    # The first mixture is there: the run without a guard compared it with the student that it accepted.
    assert {"1/merge:0.25", "1/merge:0.75"} <= set(made)
    (one,) = refused.report["generations"]
    assert (one["decision"], one["proven"]) == ("rejected", False)
    assert one["guard"]["difference"] < 0 and one["guard"]["p"] < 0.05 and not one["guard"]["passed"]
    assert one["reason"].startswith(f"rejected: it forgets, guard liked: {one['guard']['difference']:+.4f} (")
    assert finished.report["generations"][0]["reason"] in one["reason"]
    total = refused.report["guard"]
    assert (total["corpus"], total["split"], total["n_queries"], total["n_documents"]) == ("liked", "test", 24, 120)
    assert total["base"] == total["student"] == 1.0, "the base is kept"
    assert f"{total['text']}: nDCG@10 1.0000 to 1.0000 on 24 test queries, 120 documents that nobody" in "".join(
        refused.details["notes"]
    )


def test_a_mixture_that_forgets_less_is_accepted(
    refused: RunResult, liked_by_the_base: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = refused.report["generations"][0]["guard"]["difference"]
    monkeypatch.setattr(Forgotten, "passed", property(lambda one: one.difference > lost))
    config = make_config(CONTROLS, "name=lenient", f"gate.guard={liked_by_the_base}")
    result = run(config, refused.folder.parent)
    (one,) = result.report["generations"]
    assert one["decision"] == "merged" and result.report["guard"]["difference"] > lost
    mixed = f"mixed with the student before it ({one['merge_share']:.0%} of the new weights), "
    assert one["reason"].startswith(f"{mixed}since as trained it forgets (guard liked: {lost:+.4f} (")


def test_a_student_that_forgets_nothing_is_accepted(
    letters: Path, make_config: MakeConfig, finished: RunResult, finished_copy: Path
) -> None:
    """Every query of this collection is a copy of its document, which any student finds."""
    config = make_config(CONTROLS, f"gate.guard={letters}")
    planned = {line.address for line in plan_config(config, runs=finished_copy) if not line.cached}
    assert planned == {"0/guard", "0/guard:student_0", "1/guard", "final/guard"}
    result = run(config, finished_copy)
    (one,), (alone,) = result.report["generations"], finished.report["generations"]
    assert one["decision"] == alone["decision"] == "accepted"
    assert one["reason"] == f"{alone['reason']} guard letters: +0.0000 (+0.0000 to +0.0000), p = 1."
    assert result.report["guard"]["n_queries"] == 20, "its dev queries"
    assert result.report["measures"] == finished.report["measures"]
    keys = keys_of(result.folder)
    assert keys["final/guard"] == keys["1/guard"] != keys["0/guard:student_0"]


def test_if_queries_alone_learn_the_guards_documents_stay_the_bases(
    letters: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    other = tiny.write_student(tmp_path / "other", seed=5)
    with open_run(make_config("student.train=query", f"gate.guard={letters}"), runs=tmp_path / "runs") as opened:
        sampled = guard.sample_guard(opened)
        assert sampled is not None
        base, learned = (
            guard.measure_guard(opened, sampled, "1/guard", weights).path
            for weights in (opened.base, Weights("learned", other, other))
        )
    by_side = {
        side: [np.array(Embeddings.load(made / side).vectors_WD) for made in (base, learned)]
        for side in ("documents", "queries")
    }
    assert (by_side["documents"][0] == by_side["documents"][1]).all()
    assert np.abs(by_side["queries"][0] - by_side["queries"][1]).max() > 0.01


def test_a_guard_that_cannot_guard_is_refused_before_any_work(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    few = copy_without(tiny_corpus, tmp_path / "few", "train", "dev")
    lines = (few / "qrels" / "test.tsv").read_text().splitlines()
    (few / "qrels" / "test.tsv").write_text("\n".join(lines[:8]) + "\n")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("some words")
    for source, said in (
        (tmp_path / "nothing", "gate.guard: .*nothing"),
        (
            tmp_path / "notes",
            "gate.guard: corpus .*notes has no judgements, without which nobody can say what a student",
        ),
        (few, "gate.guard: corpus .*few has 7 judged test queries; 20 are needed"),
        (tiny_corpus, "gate.guard: .*tiny is the corpus that is trained on"),
    ):
        with pytest.raises(CorpusError, match=said):
            run_config(make_config(f"gate.guard={source}"), runs=tmp_path / "runs")
    assert not list(tmp_path.glob("runs/store/artifacts/*"))


def test_a_large_guard_is_cut_to_queries_and_the_documents_that_answer_them(
    tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "QUERIES", 20)
    monkeypatch.setattr(guard, "DOCUMENTS", 30)
    split, cut = guard.sample(open_corpus(str(tiny_corpus)))
    assert (split, cut.name, len(cut.documents), len(cut.qrels["dev"])) == ("dev", "tiny", 30, 20)
    assert all(document in cut.document_row for judged in cut.qrels["dev"].values() for document in judged)


def test_only_a_significant_loss_turns_a_decision_down() -> None:
    decision = {"accepted": True, "proven": True, "reason": "accepted, a proven gain: +0.04."}

    def found(difference: float, p: float) -> Forgotten:
        return Forgotten("fiqa", "dev", 300, 2000, "nDCG@10", 0.5, 0.5 + difference, difference, (-0.02, 0.01), p, 0.02)

    for difference, p, accepted in ((-0.01, 0.2, True), (0.01, 0.001, True), (-0.01, 0.04, False)):
        judged = guarded(decision, found(difference, p))
        assert (judged["accepted"], judged["proven"]) == (accepted, accepted)
    assert judged["reason"] == (
        "rejected: it forgets, guard fiqa: -0.0100 (-0.0200 to +0.0100), p = 0.04. By dev alone it would be accepted, "
        "a proven gain: +0.04."
    )
