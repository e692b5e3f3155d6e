"""Runs on documents alone: queries are made, filtered, kept apart; what they measure is marked an estimate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sdretrieval.cli.search import search
from sdretrieval.corpus import load_corpus
from sdretrieval.corpus.text import words_of
from sdretrieval.errors import CorpusError
from sdretrieval.evaluation import Measured
from sdretrieval.evaluation.prediction import BY_WEIGHT, MATTERS
from sdretrieval.indexes.probability import PRIOR
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Ragged
from sdretrieval.report.build import _seen_positives
from sdretrieval.report.figures import Figures
from sdretrieval.run.api import probe_config, run_config
from sdretrieval.run.preflight import check_corpus
from sdretrieval.stages.collection import JUDGED, SYNTHETIC_TRAIN, Collection
from sdretrieval.stages.corpus import build_corpus
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.probe import choose
from sdretrieval.stages.search import dense_query_removed
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.synthetic_queries.overlap import PRIOR as PRIOR_OVERLAP
from sdretrieval.teachers.ensemble import TeacherScores
from tests.helpers.runs.tiny_runs import EMA, LEXICAL, MakeConfig, copy_without, ensemble, keys_of, ledger_of

COUNTS = {"labels": False, "dev_queries": 12, "generated_queries": 40}


@pytest.fixture(scope="module")
def documents_only(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = Path(shutil.copytree(tiny_corpus, tmp_path_factory.mktemp("corpus") / "documents"))
    shutil.rmtree(copy / "qrels")
    (copy / "queries.jsonl").unlink()
    return copy


@pytest.fixture(scope="module")
def bare(make_config: MakeConfig, documents_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run on documents alone."""
    corpus = {"source": str(documents_only), **COUNTS}
    config = make_config("evaluate.controls=[hard_labels]", "train.hard_label_weight=0.1", corpus=corpus)
    return run_config(config, runs=tmp_path_factory.mktemp("runs"))


def prepared_of(folder: Path) -> Collection:
    keys, store = keys_of(folder), folder.parent / "store"
    made = {name: next(store.glob(f"**/{keys[f'0/{name}']}*")) for name in ("corpus", "queries")}
    return Collection(*(Artifact(keys[f"0/{name}"], made[name]) for name in ("corpus", "queries")))


def test_documents_alone_go_to_a_report_whose_every_figure_is_an_estimate(bare: Any) -> None:
    report = bare.report
    assert report["estimate"] and report["split_is_synthetic"] and report["split"] == "test"
    assert report["estimate_against_truth"] is None
    assert set(report["synthetic_queries"]) == {"dev", "test", "generated"}
    assert 4 <= report["n_queries"] <= 12 and 4 <= report["n_dev_queries"] <= 12
    assert "test (estimate): " in bare.details["headline"] or not report["generations"][0]["proven"]
    assert any("every figure of test (estimate) is an estimate as well" in note for note in bare.details["notes"])
    assert "split test (estimate)" in (bare.folder / "report.html").read_text(encoding="utf8")
    assert "hard_labels" in report["measures"], "the queries' own documents are labels for the control"


def test_without_judged_dev_queries_probabilities_are_estimates_and_it_is_said(bare: Any) -> None:
    runs, record = bare.folder.parent, bare.report["probability"]
    assert record["estimate"] and list(record["figures"]) == ["test"]
    assert record["map"]["agreement"] == PRIOR.agreement and record["map"]["lead"] > PRIOR.lead
    assert any("Probabilities that search prints are estimates" in note for note in bare.details["notes"])
    answer = search(bare.folder.name, "ore in oslo", 3, runs=runs)
    assert answer.note == "probabilities are estimates: no judged dev queries to fit them on"
    assert all(0 < (hit.probability or 0) < 1 for hit in answer.hits)


def test_the_record_adds_up(bare: Any) -> None:
    for split, made in bare.report["synthetic_queries"].items():
        kinds = made["kinds"].values()
        assert sum(kind["kept"] for kind in kinds) == made["kept"] <= made["wanted"]
        assert all(kind["kept"] + sum(kind["dropped"].values()) <= kind["made"] for kind in kinds), split
        assert made["examples"]
    page = (bare.folder / "report.html").read_text()
    assert "Queries made from documents" in page and "kept of 40 wanted" in page


def test_splits_share_no_source_and_kept_queries_alone_train_and_measure(bare: Any) -> None:
    prepared = prepared_of(bare.folder)
    sources = {
        split: {d for judged in prepared.corpus.qrels[split].values() for d in judged}
        for split in ("dev", "test", "generated")
    }
    assert not sources["dev"] & sources["test"] | sources["generated"] & (sources["dev"] | sources["test"])
    trained = {prepared.corpus.query_ids[row] for row in prepared.train_rows}
    assert trained == set(prepared.kept["generated"]) and len(trained) <= 40
    assert set(prepared.corpus.qrels["dev"]) == set(prepared.kept["dev"])


def test_a_dev_query_meets_its_document_with_part_of_its_own_words(bare: Any) -> None:
    prepared = prepared_of(bare.folder)
    held = [
        [words_of(query) & words_of(text) for text in (document, one.text)]
        for _, one in prepared.query_removed_of("dev")
        for query in prepared.corpus.query_texts([prepared.corpus.query_row[one.query]])
        for document in prepared.corpus.document_texts([one.document_row])
    ]
    assert all(left <= whole for whole, left in held)
    assert 0 < sum(len(left) for _, left in held) < sum(len(whole) for whole, _ in held)


def test_training_and_judging_share_no_kind(bare: Any) -> None:
    prepared = prepared_of(bare.folder)
    kinds = {split: set((prepared.kinds(split) or {}).values()) for split in ("dev", "test", "generated")}
    assert kinds["dev"] == kinds["test"] and not kinds["dev"] & kinds["generated"]


def test_where_the_report_has_labels_the_estimate_stands_beside_the_truth(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    corpus = {"source": str(tiny_corpus), "labels": False, "dev_queries": 15}
    result = run_config(make_config(corpus=corpus), runs=tmp_path)
    assert result is not None
    found = result.report["estimate_against_truth"]
    assert {row["system"] for row in found["rows"]} == set(result.report["systems"]) - {"student_0"}
    final = next(row for row in found["rows"] if row["system"] == "final")
    means = result.report["measures"], result.report["dev_measures"]
    assert final["true"] == pytest.approx(means[0]["final"]["nDCG@10"] - means[0]["student_0"]["nDCG@10"])
    assert final["estimated"] == pytest.approx(means[1]["final"]["nDCG@10"] - means[1]["student_0"]["nDCG@10"])
    assert any(note.startswith("The estimate beside the truth, nDCG@10") for note in result.details["notes"])
    assert "The estimate beside the truth" in (result.folder / "report.html").read_text()


def test_another_filter_makes_no_vector_anew(
    make_config: MakeConfig, documents_only: Path, bare: Any, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(bare.folder.parent, tmp_path / "runs"))
    corpus = {"source": str(documents_only), "generate": {"within": 50}, **COUNTS}
    before, wider = len(ledger_of(runs / "tiny")), make_config(corpus=corpus)
    run_config(wider, runs=runs, until="1/mine")
    made = {record["stage"] for record in ledger_of(runs / "tiny")[before:] if not record["cached"]}
    assert "0/queries" in made and not made & {"0/corpus", "0/tokens", "1/encode"}


def test_queries_of_a_log_are_trained_on_if_asked(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = copy_without(tiny_corpus, tmp_path / "copy", "train")
    corpus = {"source": str(copy), "labels": False, "dev_queries": 12}
    with pytest.raises(CorpusError, match=r"train on the \d+ queries without a judgement \(--set corpus\.unjudged"):
        build_corpus(Work(tmp_path / "refused"), make_config(corpus=corpus))
    work = Work(tmp_path / "made")
    build_corpus(work, make_config(corpus={**corpus, "unjudged_queries": True}))
    notes = json.loads((work.folder / "notes.json").read_text())
    judged = {query for qrels in load_corpus(work.folder / "corpus").qrels.values() for query in qrels}
    assert len(notes["train_queries"]) == 40 and not set(notes["train_queries"]) & judged


def test_a_corpus_with_clicks_alone_measures_on_synthetic_queries(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    copy = copy_without(tiny_corpus, tmp_path / "clicked", "dev", "test")
    config = make_config(corpus={"source": str(copy), "labels": False, "dev_queries": 10, "unjudged_queries": True})
    check_corpus(config)
    build_corpus(Work(tmp_path / "made"), config)
    qrels = load_corpus(tmp_path / "made" / "corpus").qrels
    assert all(query.startswith("generated-") for split in ("dev", "test") for query in qrels[split])


def test_with_labels_no_training_query_is_made_from_what_dev_and_test_ask_for(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    sources = {}
    for labels in (True, False):
        corpus = {"source": str(tiny_corpus), "labels": labels, "generated_queries": 60, "dev_queries": 10}
        build_corpus(Work(tmp_path / str(labels)), make_config(corpus=corpus))
        qrels = load_corpus(tmp_path / str(labels) / "corpus").qrels
        sources[labels] = {document for judged in qrels[SYNTHETIC_TRAIN].values() for document in judged}
        measured = {
            split: {d for judged in qrels[split].values() for d, grade in judged.items() if grade > 0}
            for split in ("dev", "test")
        }
        assert not sources[labels] & measured["dev"]
        assert bool(sources[labels] & measured["test"]) is not labels, "without labels, judgements decide nothing"


def test_documents_of_synthetic_training_queries_count_as_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdretrieval.evaluation.overlap.LEAST", 1)
    qrels = {
        "test": {"a": {"x": 1}, "b": {"y": 1}, "c": {"z": 1}},
        "train": {"t": {"z": 1}},
        SYNTHETIC_TRAIN: {"g": {"x": 1}},
    }
    results: Any = SimpleNamespace(
        base=SimpleNamespace(collection=SimpleNamespace(corpus=SimpleNamespace(qrels=qrels))),
        run=SimpleNamespace(config=SimpleNamespace(evaluate=SimpleNamespace(split="test"), seed=1)),
    )
    measured = Measured({"nDCG@10": {"a": 1.0, "b": 0.5, "c": 0.0}})
    found = _seen_positives(results, Figures({"final": measured, "student_0": measured}, {}, {}), "nDCG@10")
    assert found is not None and (found["n_seen"], found["n_unseen"]) == (2, 1)
    assert found["means"]["final"] == {"seen": 0.5, "unseen": 0.5}


def test_a_mistyped_split_is_not_made_from_documents(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    corpus = {"source": str(tiny_corpus), "labels": False}
    with pytest.raises(CorpusError, match="has no split 'tset'"):
        build_corpus(Work(tmp_path), make_config("evaluate.split=tset", corpus=corpus))


def test_documents_all_alike_make_no_query_that_finds_its_own(make_config: MakeConfig, tmp_path: Path) -> None:
    folder = tmp_path / "alike"
    folder.mkdir()
    text = "The same words stand in every one of these documents here. And then a second sentence of eight words."
    lines = [json.dumps({"_id": f"d{n}", "title": "", "text": text}) for n in range(40)]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    corpus = {"source": str(folder), "labels": False, "dev_queries": 4, "generated_queries": 10}
    with pytest.raises(
        CorpusError, match="none of the .* queries made from documents for 'generated' is kept .*is in another"
    ):
        run_config(make_config("evaluate.split=dev", corpus=corpus), runs=tmp_path / "runs")


def test_training_too_meets_documents_with_part_of_the_words(bare: Any) -> None:
    prepared = prepared_of(bare.folder)
    training = [one for one in prepared.query_removed if one.split == "generated"]
    whole = prepared.corpus.document_texts([one.document_row for one in training])
    assert len(training) > 20 and any(one.text != text for one, text in zip(training, whole, strict=True))
    assert all(one.split != "generated" for one in prepared.query_removed[: prepared.measuring]), (
        "those that measure come first"
    )


def test_the_teacher_of_training_queries_reads_no_more_of_their_documents_than_the_student(bare: Any) -> None:
    prepared, keys, store = prepared_of(bare.folder), keys_of(bare.folder), bare.folder.parent / "store"
    mined, scored, encoded = (
        next(store.glob(f"**/{keys[address]}*")) for address in ("1/mine", "1/score", "1/encode:teacher0")
    )
    candidates, scores = Candidates.load(mined), TeacherScores.load(scored).members[0].raw
    vectors = Vectors(keys["1/encode:teacher0"], encoded)
    left = dense_query_removed(prepared, SYNTHETIC_TRAIN, vectors)
    whole = dict.fromkeys(left.document, 0.0)
    for position, row in enumerate(candidates.query_rows_Q.tolist()):
        own = left.document[row]
        (found,) = scores[position][candidates.rows[position] == own]
        assert found == pytest.approx(left.score[row], abs=1e-5)
        windows = vectors.documents.windows
        whole[row] = float(
            np.max(vectors.documents.vectors_WD[windows[own] : windows[own + 1]] @ vectors.queries_QD[row])
        )
    assert any(abs(whole[row] - left.score[row]) > 1e-3 for row in whole), "the words that are gone count"


def test_grades_of_a_language_model_do_not_change_which_documents_a_teacher_reads(bare: Any, tmp_path: Path) -> None:
    prepared = prepared_of(bare.folder)
    tokens = Ragged.of([[1, 2]] * len(prepared.query_removed), np.int32)
    graded = {"split": "dev", "model": "m", "grades": {query: {} for query in prepared.kept["dev"]}}
    (tmp_path / JUDGED).write_text(json.dumps(graded))
    judged = prepared.with_judgements(Artifact("", tmp_path))
    assert not judged.corpus.qrels["dev"], "it found no answer to any query"
    seen = judged.query_removed_tokens(tokens, training=True)
    assert seen.lengths.tolist() == prepared.query_removed_tokens(tokens, training=True).lengths.tolist()
    kept = sum(map(len, prepared.kept.values()))
    assert (seen.lengths > 0).sum() == kept < len(tokens), "queries that were dropped cost nothing"


def test_two_runs_are_compared_on_the_queries_that_were_kept(bare: Any) -> None:
    from sdretrieval.cli.compare import compare_runs

    found = compare_runs(str(bare.folder), str(bare.folder))
    assert found["estimate"] is True
    row = next(row for row in found["tests"] if (row["system"], row["measure"]) == ("final", "nDCG@10"))
    assert row["value_a"] == pytest.approx(bare.report["measures"]["final"]["nDCG@10"])


def test_a_run_on_documents_alone_is_exported_with_its_teachers(bare: Any, tmp_path: Path) -> None:
    from sdretrieval.cli.export import export_run

    export_run(str(bare.folder), tmp_path / "bundle")
    assert "lexical" in (tmp_path / "bundle" / "README.md").read_text()


def test_example_queries_set_the_overlap_and_are_compared_with(
    documents_only: Path, tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    lines = (tiny_corpus / "queries.jsonl").read_text().splitlines()
    asked = tmp_path / "asked.txt"
    asked.write_text("\n".join(json.loads(line)["text"] for line in lines[:30]))
    corpus = {"source": str(documents_only), "example_queries": str(asked), **COUNTS}
    auto = [{**EMA, "weight": "auto"}, {**LEXICAL, "weight": "auto"}]
    config = make_config(corpus=corpus, targets={"calibrate": "absolute"}, teacher=ensemble(*auto))
    result = run_config(config, runs=tmp_path / "runs")
    assert result is not None
    trust = result.report["trust"]
    assert trust["overlap"]["why"] == "by what BM25 finds for 30 queries that people asked"
    assert 0.1 <= trust["overlap"]["share"] <= 0.9 and set(trust["overlap"]["keep"]) >= {"keywords", "sentence"}
    assert all(0 <= area <= 1 for area in trust["realism"].values())
    hybrid = trust["hybrid"]
    assert hybrid["queries"] == 30 and hybrid["low"] < hybrid["gain"] < hybrid["high"]
    assert any("from 30 queries that people asked, without judgements" in note for note in result.details["notes"])
    probe = probe_config(config, runs=tmp_path / "runs")
    gains = {tuple(row["weights"]): row["predicted"] for row in probe["rows"]}
    assert gains[1.0, 0.0] == 0 and gains[tuple(probe["weights"])] == probe["predicted"]["gain"]
    assert probe["predicted"]["low"] >= -MATTERS, "the highest of those that can do no great harm"
    assert probe["train"] == (probe["predicted"]["gain"] >= MATTERS) and "that people asked" in probe["reason"]
    prepared = prepared_of(result.folder)
    seen = prepared.signals
    assert seen is not None and 0 <= seen.agreement <= 1 and seen.closeness < 1
    assert len(prepared.example_rows) == 30 and not set(prepared.example_rows) & set(prepared.train_rows.tolist())


def test_without_any_query_the_report_says_what_was_assumed(bare: Any) -> None:
    assert bare.report["trust"]["overlap"]["share"] == PRIOR_OVERLAP and bare.report["trust"]["realism"] == {}
    assert bare.report["trust"]["hybrid"] is None, "nothing is predicted from queries that we made"
    assert any(f"hold {PRIOR_OVERLAP:.2f} of a query's words" in note for note in bare.details["notes"])
    assert not any(one["proven"] for one in bare.report["generations"])


def test_without_any_query_other_collections_say_that_it_pays_to_train(
    bare: Any, documents_only: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: set[tuple[float, ...]] = set()

    def chosen(base: Any, tried: Any, *others: Any) -> tuple[float, ...]:
        offered.update(tried)
        return choose(base, tried, *others)

    monkeypatch.setattr("sdretrieval.stages.probe.choose", chosen)
    corpus = {"source": str(documents_only), **COUNTS}
    auto = [{**EMA, "weight": "auto"}, {**LEXICAL, "weight": "auto"}]
    config = make_config(corpus=corpus, targets={"calibrate": "absolute"}, teacher=ensemble(*auto))
    probe = probe_config(config, runs=bare.folder.parent)
    assert tuple(probe["weights"]) in offered and probe["train"]
    assert offered == {(0.75, 0.25), (0.5, 0.5), (0.25, 0.75)}, "neither alone is worth a training"
    assert probe["predicted"]["gain"] == BY_WEIGHT[probe["weights"][1]][0] and probe["predicted"]["queries"] == 0
    assert "on average of other collections (twenty example queries would tell" in probe["reason"]


def test_no_mixture_that_a_kind_punishes_is_chosen() -> None:
    kinds = {f"q{n}": "title" if n < 30 else "keywords" for n in range(60)}
    base = dict.fromkeys(kinds, 0.5)
    uneven = {query: 0.4 if kind == "title" else 0.9 for query, kind in kinds.items()}
    even, better = dict.fromkeys(kinds, 0.6), dict.fromkeys(kinds, 0.62)
    tried = {(1.0, 0.0): uneven, (0.5, 0.5): even}
    assert choose(base, tried, kinds, None, 1) == (0.5, 0.5)
    assert choose(base, tried, {}, None, 1) == (1.0, 0.0), "judged queries have no kind"
    assert choose(base, {(0.5, 0.5): even, (0.25, 0.75): better}, kinds, (0.5, 0.5), 1) == (0.25, 0.75)
    assert choose(base, {(0.5, 0.5): uneven, (1.0, 0.0): base}, kinds, (0.5, 0.5), 1) == (0.5, 0.5), (
        "no evidence for less"
    )
    assert choose(base, {(0.5, 0.5, 0.0): even}, kinds, (1 / 3,) * 3, 1) == (0.5, 0.5, 0.0), (
        "a default that other collections advise against"
    )
    noisy = {query: 0.61 if n else 0.0 for n, query in enumerate(kinds)}
    assert choose(base, {(0.5, 0.5): even, (0.25, 0.75): noisy}, kinds, (0.5, 0.5), 1) == (0.5, 0.5)
