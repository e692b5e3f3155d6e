"""Stages: by what a source is known, what becomes of a damaged artifact, and their small parts."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.config import Config
from sdretrieval.corpus import find_source, load_corpus, open_corpus
from sdretrieval.errors import CorpusError
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Ragged
from sdretrieval.run.api import run_config
from sdretrieval.stages import probe
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.corpus import build_corpus
from sdretrieval.stages.search import cut
from sdretrieval.stages.targets import build_list_targets, live_share, scores_whole_batch
from sdretrieval.stages.teachers import member_identities
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.targets.build import Targets
from sdretrieval.targets.calibrate import EVIDENCE, spread_statistics, unit_statistics
from sdretrieval.targets.temperature import log_softmax
from sdretrieval.teachers.ensemble import MemberScores, TeacherScores
from tests.helpers.runs.tiny_runs import EMA, LEXICAL, MakeConfig, artifact, copy_without, figures, ledger_of, made_in

# --- sources


def test_a_source_is_known_by_its_content_not_by_its_place(tiny_corpus: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_corpus, tmp_path / "elsewhere"))
    (copy / "README").write_text("notes")
    assert find_source(str(copy)).digest() == find_source(str(tiny_corpus)).digest()


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/dev.tsv"])
def test_a_changed_file_makes_another_source(tiny_corpus: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(tiny_corpus, tmp_path / "copy"))
    before = find_source(str(copy)).digest()
    text = (copy / name).read_text()
    (copy / name).write_text(text.replace("1", "2", 1))
    assert find_source(str(copy)).digest() != before


def test_a_table_is_known_by_its_content(tmp_path: Path) -> None:
    for name, text in (("a.csv", "x"), ("b.csv", "x"), ("c.csv", "y"), ("d.tsv", "x")):
        (tmp_path / name).write_text(f"text\n{text}\n")
    digests = {name: find_source(str(tmp_path / name)).digest() for name in ("a.csv", "b.csv", "c.csv", "d.tsv")}
    assert digests["a.csv"] == digests["b.csv"]
    assert len(set(digests.values())) == 3, "another text and another way to read it are other sources"
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CorpusError, match=r"notes\.txt is no table by its name"):
        find_source(str(tmp_path / "notes.txt")).digest()


def test_a_saved_dataset_is_known_by_its_rows(tmp_path: Path) -> None:
    from datasets import Dataset

    from sdretrieval.corpus.arrow import quiet_datasets

    with quiet_datasets():
        for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
            Dataset.from_dict({"text": [text]}).save_to_disk(str(tmp_path / name))
    a, b, c = (find_source(str(tmp_path / name)).digest() for name in "abc")
    assert a == b != c


def test_a_packed_beir_folder_is_read_as_it_is(tiny_corpus: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_corpus, tmp_path / "copy"))
    for name in ("corpus.jsonl", "queries.jsonl"):
        (copy / f"{name}.gz").write_bytes(gzip.compress((copy / name).read_bytes()))
        (copy / name).unlink()
    assert open_corpus(str(copy)).digest == open_corpus(str(tiny_corpus)).digest
    assert "corpus.jsonl.gz=" in find_source(str(copy)).digest()


def test_a_corpus_without_training_queries_says_how_to_get_some(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    copy = copy_without(tiny_corpus, tmp_path / "copy", "train")
    config = make_config(corpus={"source": str(copy), "labels": False})
    with pytest.raises(CorpusError, match=r"--set corpus\.generated_queries=1000"):
        build_corpus(Work(tmp_path), config)


def test_generated_training_queries_join_the_judged_ones(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    work = Work(tmp_path / "made")
    build_corpus(work, make_config(corpus={"source": str(tiny_corpus), "generated_queries": 30}))
    assert work.counts == {"documents": 120, "train_queries": 85, "dev_queries": 20}  # spare ones, for the filter


def test_a_run_may_train_on_a_part_of_the_queries(tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    chosen = []
    for count in (None, 15, 10, 900):
        work = Work(tmp_path / str(count))
        build_corpus(work, make_config(corpus={"source": str(tiny_corpus), "train_queries": count}))
        chosen.append(set(json.loads((work.folder / "notes.json").read_text())["train_queries"]))
    assert [len(queries) for queries in chosen] == [40, 15, 10, 40]
    assert chosen[2] < chosen[1] < chosen[0], "a smaller part of the same order"


# --- damage


def test_a_damaged_artifact_is_named_and_made_again(
    finished: Any, finished_copy: Path, full_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    folder = finished_copy / "tiny"
    vectors = artifact(folder, "1/encode") / "documents" / "vectors.npy"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    lines = len(ledger_of(folder))
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        again = run_config(full_config, runs=finished_copy)
    assert again is not None
    damage = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(
        vectors.parents[1].name in text and "documents/vectors.npy" in text and "made again" in text for text in damage
    )
    assert made_in(folder, after=lines) == ["1/encode"]
    assert vectors.read_bytes() == whole
    assert figures(again.report) == figures(finished.report)


# --- small parts


def test_weights_of_the_probe_are_quarters_that_sum_to_one() -> None:
    grid = list(probe.weight_grid(3))
    assert len(grid) == len(set(grid)) == 15
    assert all(sum(weights) == 1 for weights in grid)
    assert sorted(grid[:3]) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


def test_the_probe_tries_the_even_mixture_and_much_bm25_where_little_harm_is_done(make_config: MakeConfig) -> None:
    three = {"kind": "ensemble", "members": [{"kind": "ema"}, {"kind": "dense", "model": "m"}, LEXICAL]}

    def tried(*settings: str) -> set[tuple[float, ...]]:
        return set(probe.mixtures_of(make_config(*settings, teacher=three)))

    quarters = set(probe.weight_grid(3))
    assert tried("targets.calibrate=zscore") == quarters
    strong = {(0.1, 0, 0.9), (0, 0.1, 0.9)}
    assert tried("targets.calibrate=absolute") == quarters | {(1 / 3,) * 3} | strong
    assert tried("targets.calibrate=absolute", "corpus.labels=false") == quarters | {(1 / 3,) * 3}, "who would tell?"


def test_pooled_lists_hold_each_document_once_and_never_the_querys_own() -> None:
    dense, lexical = np.array([[3, 1, 2], [4, 0, -1]]), np.array([[2, 7], [0, -1]])
    lists = probe.pool_lists(dense, lexical, np.array([1, -1]))
    assert [lists[q].tolist() for q in range(2)] == [[3, 2, 7], [4, 0]]


def test_a_cut_run_keeps_the_best_and_breaks_ties_by_id() -> None:
    assert cut({"q": {"c": 1.0, "b": 2.0, "a": 1.0}}, 2) == {"q": {"b": 2.0, "a": 1.0}}


def test_scores_are_known_by_the_model_and_its_view_alone(make_config: MakeConfig, tiny_cross_encoder: Path) -> None:
    def identities(**changed: Any) -> list[dict[str, Any]]:
        reader = {"kind": "cross_encoder", "model": str(tiny_cross_encoder), "max_tokens": 96, **changed}
        config = make_config(teacher={"kind": "ensemble", "members": [reader, LEXICAL]})
        return member_identities(config)

    assert identities(weight=0.3, batch_tokens=64) == identities()
    assert identities(max_tokens=64) != identities()
    assert str(tiny_cross_encoder) not in str(identities())


@pytest.mark.parametrize(
    ("members", "scope", "whole"),
    [
        ([EMA, LEXICAL], "auto", True),
        ([EMA, LEXICAL], "list", False),
        (["reader", LEXICAL], "auto", False),
    ],
)
def test_only_free_teachers_judge_whole_batches(
    make_config: MakeConfig, tiny_cross_encoder: Path, members: list[Any], scope: str, whole: bool
) -> None:
    reader = {"kind": "cross_encoder", "model": str(tiny_cross_encoder), "max_tokens": 96}
    asked = [reader if member == "reader" else member for member in members]
    config = make_config(f"train.scope={scope}", teacher={"kind": "ensemble", "members": asked})
    assert scores_whole_batch(config, [0.5, 0.5]) is whole


def test_live_share_is_the_live_members_part_of_all_weights(make_config: MakeConfig) -> None:
    config = make_config(teacher={"kind": "ensemble", "members": [{**EMA, "mode": "live"}, LEXICAL]})
    assert live_share(config, [1, 3]) == 0.25
    assert live_share(make_config(), [1, 3]) == 0


def test_reranked_lists_become_runs_by_id(finished: Any) -> None:
    path = artifact(finished.folder, "0/corpus")
    collection = Collection(Artifact(path.name, path))
    row = int(collection.rows_of("dev")[0])
    lists = Ragged.of([np.array([0, 5])], np.int64)
    run = probe.rerank_run(collection, np.array([row]), lists, lists.with_values(np.array([0.5, 1.5], np.float32)))
    assert run == {collection.corpus.query_ids[row]: {"d0": 0.5, "d5": 1.5}}


def test_below_what_is_reranked_stands_the_rest_in_its_own_order() -> None:
    whole = {"q": {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}, "r": {"a": 1.0}}
    run = probe.with_rest({"q": {"b": -2.0, "a": -3.0}}, whole)
    assert sorted(run["q"], key=lambda document: -run["q"][document]) == ["b", "a", "c", "d"]
    assert run["r"] == {"a": -1.0}


def test_the_false_negative_rule_judges_a_live_teachers_whole_mixture(
    finished: Any, make_config: MakeConfig, tmp_path: Path
) -> None:
    candidates = Candidates.load(artifact(finished.folder, "1/mine"))
    scores = TeacherScores.load(artifact(finished.folder, "1/score"))
    rule = {"false_negatives": {"rule": "margin", "margin": 0.1}, "temperature": 0.5}
    masks = {}
    for mode in ("frozen", "live"):
        teacher = {"kind": "ensemble", "members": [{**EMA, "mode": mode}, LEXICAL]}
        config = make_config("train.hard_label_weight=0.1", teacher=teacher, targets=rule)
        work = Work(tmp_path / mode)
        work.folder.mkdir()
        build_list_targets(work, candidates, scores, [0.7, 0.3], config, shuffled=False)
        masks[mode] = Targets.load(work.folder).hard_negative.values_T
    assert 0 < masks["frozen"].mean() < 1
    assert np.array_equal(masks["live"], masks["frozen"])


def test_without_evidence_the_target_is_the_students_own_distribution(
    finished: Any, make_config: MakeConfig, tmp_path: Path
) -> None:
    candidates = Candidates.load(artifact(finished.folder, "1/mine"))
    ema, lexical = TeacherScores.load(artifact(finished.folder, "1/score")).members
    queries, cosines = len(ema.raw), ema.raw
    ema = ema._replace(statistics=spread_statistics(np.random.default_rng(0).normal(0.5, 0.1, (queries, 9))))
    words = lexical._replace(statistics=unit_statistics(np.full(queries, 2.0)))
    nothing = words._replace(raw=words.raw.with_values(np.zeros_like(words.raw.values_T)))
    config = make_config(
        "targets.calibrate=absolute", "targets.temperature=student", "train.student_temperature=0.04",
        teacher={"kind": "ensemble", "members": [EMA, LEXICAL]},
    )  # fmt: skip

    def taught(*members: MemberScores, weights: list[float]) -> Ragged:
        work = Work(tmp_path / f"{members[1].raw.values_T.sum()}-{weights}")
        work.folder.mkdir()
        build_list_targets(work, candidates, TeacherScores(members), weights, config, shuffled=False)
        return Targets.load(work.folder).log_probs

    own = log_softmax(cosines, 0.04).values_T
    np.testing.assert_allclose(taught(ema, nothing, weights=[1, 1]).values_T, own, atol=1e-3)
    np.testing.assert_allclose(taught(ema, nothing, weights=[9, 1]).values_T, own, atol=1e-3)
    evidence = EVIDENCE * ema.statistics.scale_Q[0] * words.raw.values_T / 2.0
    moved = log_softmax(cosines.with_values(cosines.values_T + evidence), 0.04).values_T
    np.testing.assert_allclose(taught(ema, words, weights=[1, 1]).values_T, moved, atol=1e-3)
    assert np.isfinite(taught(ema, words, weights=[0, 1]).values_T).all(), "the probe may choose BM25 alone"


def test_the_hard_label_control_needs_train_judgements(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_corpus, tmp_path / "copy"))
    (copy / "qrels" / "train.tsv").unlink()
    corpus = {"source": str(copy), "labels": False, "dev_queries": 20, "unjudged_queries": True}
    config = make_config("evaluate.controls=[hard_labels]", corpus=corpus)
    with pytest.raises(CorpusError, match=r"has no train judgements, which the control hard_labels learns from"):
        build_corpus(Work(tmp_path), config)
    build_corpus(Work(tmp_path / "made"), make_config(corpus=corpus))


def test_without_labels_no_train_or_dev_judgement_decides_what_a_cut_corpus_keeps(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tiny_corpus, tmp_path / "other"))
    for split in ("train", "dev"):
        path = other / "qrels" / f"{split}.tsv"
        head, *lines = path.read_text().splitlines()
        documents = [line.split("\t")[1] for line in lines]
        moved = [
            line.replace(f"\t{d}\t", f"\td{(int(d[1:]) + 7) % 120}\t") for line, d in zip(lines, documents, strict=True)
        ]
        path.write_text("\n".join([head, *moved]) + "\n")
    kept = []
    for source in (tiny_corpus, other):
        work = Work(tmp_path / f"made-{source.name}")
        asked = {"source": str(source), "labels": False, "max_documents": 60, "dev_queries": 20}
        build_corpus(work, make_config(corpus=asked))
        kept.append(load_corpus(work.folder / "corpus").document_ids)
    assert len(kept[0]) == 60
    assert kept[0] == kept[1]


def test_a_folder_of_text_files_is_known_by_what_is_read_of_it(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.txt").write_text("The oven is hot.")
    (tmp_path / "b" / ".hidden.txt").write_text("not read")
    (tmp_path / "b" / "picture.png").write_text("not read")
    before = find_source(str(tmp_path / "a")).digest()
    assert find_source(str(tmp_path / "b")).digest() == before
    (tmp_path / "b" / "one.txt").rename(tmp_path / "b" / "two.txt")
    assert find_source(str(tmp_path / "b")).digest() != before, "passages bear the file's name"
