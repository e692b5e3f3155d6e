"""The study of wrong labels: labels are as wrong as it says, and its targets are the product's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import doubts, label_noise, wrong_labels
from benchmarks.label_noise import WRONG_TOP, Case, Judged, corrupted, load, rows_of, table
from benchmarks.label_targets import TARGETS, Step, evidence, mixed
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.training.losses import with_labels
from tests.helpers.tiny import write_random_vectors


@pytest.fixture(scope="module")
def case() -> Case:
    """40 queries, each one a document turned by a quarter in two of eight dims; the teacher knows the turn."""
    chance = torch.Generator().manual_seed(0)
    documents_ND = torch.nn.functional.normalize(torch.randn(60, 8, generator=chance), dim=1)
    turn_DD = torch.eye(8)
    turn_DD[0, 0] = turn_DD[1, 1] = 0.0
    turn_DD[0, 1], turn_DD[1, 0] = 1.0, -1.0
    queries_QD = documents_ND[:40] @ turn_DD.T
    gain_QN = np.eye(60, dtype=np.float32)[:40]
    judged = Judged([f"q{q}" for q in range(40)], queries_QD, gain_QN)
    base_QN, teacher_QN = (asked_QD @ documents_ND.T / 0.05 for asked_QD in (queries_QD, queries_QD @ turn_DD))
    labels = [np.asarray([q]) for q in range(40)]
    return Case("turned", documents_ND, queries_QD, base_QN, teacher_QN, labels, {"dev": judged, "test": judged})


@pytest.mark.parametrize("kind", ["plausible", "random"])
def test_as_many_labels_are_wrong_as_was_asked_for(case: Case, kind: str) -> None:
    labels, wrong_Q = corrupted(case, kind, 0.4, seed=3)
    assert wrong_Q.sum() == 16
    for q, (before, after) in enumerate(zip(case.labels, labels, strict=True)):
        assert len(after) == len(before) and (after.tolist() == before.tolist()) == (not wrong_Q[q])
        if wrong_Q[q] and kind == "plausible":
            assert (case.base_QN[q] > case.base_QN[q, after[0]]).sum() < WRONG_TOP


def test_the_targets_are_the_products_and_sum_to_one() -> None:
    teacher_BM, positive_BM = torch.randn(3, 5), torch.eye(5, dtype=torch.bool)[:3]
    step = Step(teacher_BM, teacher_BM, teacher_BM, positive_BM, 0.5)
    torch.testing.assert_close(
        evidence(step, 4.0), with_labels(teacher_BM.log_softmax(1), positive_BM, 4.0).exp(), rtol=1e-4, atol=1e-5
    )
    for targets in TARGETS.values():
        for name, target in targets.items():
            if not name.startswith("bounded"):  # which weighs queries by it
                torch.testing.assert_close(target(step).sum(1), torch.ones(3), msg=name)
    assert float(mixed(step, 1.0)[1, 1]) == 1.0


def test_a_row_is_what_was_learned_under_its_noise(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_noise, "UPDATES", 30)
    monkeypatch.setattr(label_noise, "RATE", 2e-2)
    monkeypatch.setattr(label_noise, "NOISE_OF", {"noise": (("none", 0.0), ("random", 0.4))})
    rows = list(rows_of(case, "noise", seed=3))
    means = {
        (row["target"], row["share"]): np.mean(list(row["test"]["ndcg"].values())) for row in rows
    }  # fmt: skip
    assert means["teacher alone", 0.0] > means["base", 0.0] + 0.1
    assert ("teacher alone", 0.4) not in means, "labels have no part in it"
    assert means["evidence 4", 0.4] > means["hard labels", 0.4]
    lines = table(rows, "test", "hard labels").splitlines()
    assert (
        lines[0] == "| target | none | random 0.4 |" and f"| hard labels | {means['hard labels', 0.0]:.3f}" in lines[3]
    )


def test_the_teacher_tells_wrong_labels_and_queries_worth_a_label(case: Case) -> None:
    first = doubts.wrong_labels(case).splitlines()[2]
    assert first.startswith("| teacher, behind the best |") and "1.00" in first
    picked = doubts.worth_labelling(case).splitlines()[-1]
    assert picked == "| base's first behind the teacher's | 0% | 100% | 100% | 0% | 2.00 |"


def test_a_collection_is_read_with_its_dev_and_test_apart(tiny_corpus: Path, tmp_path: Path) -> None:
    write_random_vectors(tiny_corpus, tmp_path / label_noise.MODEL / tiny_corpus.name)
    label_noise.UNIT_HITS, kept = 10, label_noise.UNIT_HITS
    try:
        found = load(tiny_corpus, tmp_path)
    finally:
        label_noise.UNIT_HITS = kept
    assert found.teacher_QN.shape == (len(found.labels), len(found.documents_ND))
    assert set(found.splits) == {"dev", "test", "unseen"} and found.splits["test"].gain_QN.sum() >= len(
        found.splits["test"].ids
    )
    seen = sorted({document for of in found.labels for document in of.tolist()})
    assert not found.splits["unseen"].gain_QN[:, seen].any()


def test_a_copy_with_wrong_labels_differs_in_as_many_train_queries_and_nothing_else(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    write_random_vectors(tiny_corpus, tmp_path / "vectors" / label_noise.MODEL / tiny_corpus.name)
    before, copy = open_corpus(str(tiny_corpus)), tmp_path / "copy"
    count = wrong_labels.write(tiny_corpus, copy, 0.25, "plausible", tmp_path / "vectors")
    after = open_corpus(str(copy))
    train = before.qrels["train"]
    changed = [query for query in train if after.qrels["train"][query] != train[query]]
    assert len(changed) == count == round(0.25 * len(train))
    assert not any(after.qrels["train"][query].keys() & train[query].keys() for query in changed)
    assert {split: before.qrels[split] for split in ("dev", "test")} == {s: after.qrels[s] for s in ("dev", "test")}
    assert list(after.document_ids) == list(before.document_ids)
