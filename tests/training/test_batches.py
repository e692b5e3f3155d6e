"""From visits to a batch: each document once, targets that sum to 1, nobody else's documents in a list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.build import build_targets
from sdretrieval.targets.false_negatives import Rule
from sdretrieval.training import batches as batches_module
from sdretrieval.training.batches import Collator, KnownRelevance, QueryRemoved
from tests.training.inputs import TrainingInputs

VISITS = [{"position": position, "visit": 0} for position in (4, 0, 31, 7)]
EVERY = 99


def columns(inputs: TrainingInputs) -> Array:
    """Document rows of the batch's columns where whole lists are taken."""
    return np.unique(np.concatenate([inputs.candidates.rows[visit["position"]] for visit in VISITS]))


def document_ids(batch: dict[str, Any]) -> list[list[int]]:
    """Token ids of each column's document, in column order."""
    found: list[list[int]] = []
    number = 0
    while f"document{number}_input_ids" in batch:
        ids, mask = batch[f"document{number}_input_ids"], batch[f"document{number}_attention_mask"]
        found += [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)]
        number += 1
    return [found[place] for place in batch["label"]["order_M"].tolist()]


def test_each_document_stands_once_however_many_lists_hold_it(
    inputs: TrainingInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "PART_TOKENS", 150)
    batch = inputs.batches(wanted=EVERY)(VISITS)
    expected = [inputs.documents.sequence(int(row)).tolist() for row in columns(inputs)]
    assert document_ids(batch) == expected and "document3_input_ids" in batch
    assert sum(len(inputs.candidates.rows[visit["position"]]) for visit in VISITS) > len(expected)


def test_queries_stand_in_the_visits_order(inputs: TrainingInputs) -> None:
    batch = inputs.batches()(VISITS)
    rows = inputs.candidates.query_rows_Q[[4, 0, 31, 7]]
    assert batch["label"]["queries_B"].tolist() == rows.tolist()
    for ids, row in zip(batch["query_input_ids"], rows, strict=True):
        expected = inputs.queries.sequence(int(row)).tolist()
        assert ids[: len(expected)].tolist() == expected


@pytest.mark.parametrize("whole_batch", [True, False])
@pytest.mark.parametrize("wanted", [4, EVERY])
def test_targets_sum_to_one(inputs: TrainingInputs, whole_batch: bool, wanted: int) -> None:
    label = inputs.batches(whole_batch, wanted=wanted)(VISITS)["label"]
    np.testing.assert_allclose(label["target_log_probs_BM"].exp().sum(dim=1).numpy(), 1.0, atol=1e-5)
    assert np.isfinite(label["target_log_probs_BM"].numpy()).all() == whole_batch


def test_in_list_scope_the_documents_of_other_queries_are_excluded(inputs: TrainingInputs) -> None:
    label = inputs.batches(whole_batch=False, wanted=EVERY)(VISITS)["label"]
    rows = columns(inputs)
    for b, visit in enumerate(VISITS):
        own = np.isin(rows, inputs.candidates.rows[visit["position"]])
        np.testing.assert_array_equal(np.isfinite(label["target_log_probs_BM"][b].numpy()), own)
        order = np.argsort(inputs.candidates.rows[visit["position"]])
        expected = inputs.targets.log_probs[visit["position"]][order]
        np.testing.assert_allclose(label["target_log_probs_BM"][b].numpy()[own], expected, atol=1e-5)


def test_in_batch_scope_the_teacher_judges_every_document(inputs: TrainingInputs) -> None:
    label = inputs.batches(wanted=EVERY)(VISITS)["label"]
    scores = inputs.judge.matrix(np.asarray([4, 0, 31, 7]), columns(inputs)) / inputs.targets.temperature
    expected = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(label["target_log_probs_BM"].numpy(), expected, atol=1e-4)


def test_known_positives_are_always_shown_and_never_negatives(inputs: TrainingInputs) -> None:
    label = inputs.batches(wanted=2)(VISITS)["label"]
    assert label["positive_BM"].sum(dim=1).tolist() == [1, 1, 1, 1]
    assert not bool((label["positive_BM"] & label["negative_BM"]).any())
    assert bool((label["positive_BM"] | label["negative_BM"]).all())


def test_what_another_query_brings_is_no_negative_where_it_is_known_to_be_none(inputs: TrainingInputs) -> None:
    """The first query's positives, copies of them and own document come in by the lists of the others."""
    rows, first = columns(inputs), VISITS[0]["position"]
    own_list = set(inputs.candidates.rows[first].tolist())
    also_positive, copy, own = [row for row in rows.tolist() if row not in own_list][:3]
    judged = inputs.candidates.rows[first][inputs.candidates.positive[first]].tolist()
    positives = [np.empty(0, dtype=np.int64)] * len(inputs.candidates)
    positives[first] = np.asarray([*judged, also_positive], dtype=np.int64)
    groups = np.arange(len(inputs.documents.tokens))
    groups[copy] = groups[also_positive]
    own_documents = np.full(len(inputs.candidates), -1)
    own_documents[first] = own
    nobody = Ragged.of([[]] * len(positives), np.int64)
    known = KnownRelevance(Ragged.of(positives, np.int64), nobody, own_documents, groups)
    before = inputs.batches(wanted=EVERY)(VISITS)["label"]
    label = replace(inputs.batches(wanted=EVERY), known=known)(VISITS)["label"]
    column = {row: int(np.searchsorted(rows, row)) for row in (also_positive, copy, own)}
    assert all(bool(before["negative_BM"][0, at]) for at in column.values())
    assert not any(bool(label["negative_BM"][0, at]) for at in column.values())
    assert bool(label["positive_BM"][0, column[also_positive]])
    excluded = np.isneginf(label["target_log_probs_BM"][0].numpy())
    assert np.flatnonzero(excluded).tolist() == [column[own]]
    for name in ("positive_BM", "negative_BM", "target_log_probs_BM"):
        np.testing.assert_array_equal(label[name][1:].numpy(), before[name][1:].numpy())


def with_exclusions(inputs: TrainingInputs, excluded: Array) -> tuple[TrainingInputs, Ragged]:
    """The inputs with candidates excluded from all terms."""
    lists = inputs.candidates.rows.with_values(excluded)
    targets, _ = build_targets(
        inputs.scores.mixed([0.3, 0.7]), inputs.candidates.positive, temperature=0.5, excluded=lists
    )
    return replace(inputs, targets=targets), lists


@pytest.mark.parametrize("whole_batch", [True, False])
def test_an_excluded_candidate_is_no_target_and_no_negative(inputs: TrainingInputs, whole_batch: bool) -> None:
    everything = inputs.candidates.rows.values_T
    changed, lists = with_exclusions(inputs, (everything % 3 == 0) & ~inputs.candidates.positive.values_T)
    label = changed.batches(whole_batch, wanted=EVERY)(VISITS)["label"]
    rows = columns(inputs)
    for b, visit in enumerate(VISITS):
        out = np.isin(rows, inputs.candidates.rows[visit["position"]][lists[visit["position"]]])
        assert out.any() and np.isneginf(label["target_log_probs_BM"][b].numpy()[out]).all()
        assert not label["negative_BM"][b].numpy()[out].any()
    np.testing.assert_allclose(label["target_log_probs_BM"].exp().sum(dim=1).numpy(), 1.0, atol=1e-5)


def test_a_suspected_false_negative_leaves_the_hard_term_only(inputs: TrainingInputs) -> None:
    targets, _ = build_targets(inputs.scores.mixed([0.3, 0.7]), inputs.candidates.positive, rule="margin", margin=0.0)
    label = replace(inputs, targets=targets).batches(wanted=EVERY)(VISITS)["label"]
    neither = ~(label["positive_BM"] | label["negative_BM"])
    assert bool(neither.any()) and np.isfinite(label["target_log_probs_BM"].numpy()[neither.numpy()]).all()


@pytest.mark.parametrize("whole_batch", [True, False])
@pytest.mark.parametrize("wanted", [4, EVERY])
@pytest.mark.parametrize("rule", ["margin", "percent_of_positive"])
def test_the_rule_judges_every_document_that_the_teacher_scores_whichever_query_brought_it(
    inputs: TrainingInputs, whole_batch: bool, wanted: int, rule: Rule
) -> None:
    mixed, positive = inputs.scores.mixed([0.3, 0.7]), inputs.candidates.positive
    targets, _ = build_targets(mixed, positive, rule=rule, margin=0.8, percent=20.0, teacher_raw=mixed)
    changed = replace(inputs, targets=targets).batches(whole_batch, wanted=wanted)
    changed = changed if whole_batch else replace(changed, judge_batch=inputs.judge.matrix)
    label = changed(VISITS)["label"]
    positions = np.asarray([visit["position"] for visit in VISITS])
    rows = columns(inputs) if wanted == EVERY else batch_rows(changed)
    scores_BM = inputs.judge.matrix(positions, rows)
    low, high = np.percentile(mixed.values_T, [1, 99])
    on_scale_BM = np.clip((scores_BM - low) / (high - low), 0, 1)
    brought = np.zeros(len(rows), dtype=np.int64)
    for b, position in enumerate(positions.tolist()):
        best = on_scale_BM[b][np.isin(rows, inputs.candidates.rows[position][positive[position]])].max()
        suspect_M = on_scale_BM[b] > (best - 0.8 if rule == "margin" else 0.2 * best)
        brought += suspect_M & ~np.isin(rows, inputs.candidates.rows[position])
        np.testing.assert_array_equal(label["negative_BM"][b].numpy(), ~suspect_M & ~label["positive_BM"][b].numpy())
    assert brought.any(), "else this test shows nothing"


def batch_rows(batches: Collator) -> Array:
    """Document rows of the batch's columns."""
    seen: list[Array] = []
    judge = batches.judge_batch or batches.score_batch
    assert judge is not None

    def noted(positions_B: Array, rows_M: Array) -> Array:
        seen.append(rows_M)
        return judge(positions_B, rows_M)

    replace(batches, judge_batch=noted)(VISITS)
    return seen[0]


def test_what_a_person_refused_stays_a_negative_whichever_query_brought_it(inputs: TrainingInputs) -> None:
    mixed, positive = inputs.scores.mixed([0.3, 0.7]), inputs.candidates.positive
    targets, _ = build_targets(mixed, positive, rule="margin", margin=0.8, teacher_raw=mixed)
    batches = replace(inputs, targets=targets).batches(wanted=EVERY)
    rows, first, count = columns(inputs), VISITS[0]["position"], len(positive)
    suspects = rows[~batches(VISITS)["label"]["negative_BM"][0].numpy()]
    brought = next(row for row in suspects.tolist() if row not in inputs.candidates.rows[first])
    empty = Ragged.of([[]] * count, np.int64)
    refused = Ragged.of([[brought] if position == first else [] for position in range(count)], np.int64)
    known = KnownRelevance(empty, refused, np.full(count, -1), np.arange(len(inputs.documents.tokens)))
    label = replace(batches, known=known)(VISITS)["label"]
    assert bool(label["negative_BM"][0, int(np.searchsorted(rows, brought))])


def test_lists_that_are_empty_or_wholly_excluded_weigh_nothing_and_make_no_nan(inputs: TrainingInputs) -> None:
    changed, _ = with_exclusions(inputs, np.ones(len(inputs.candidates.rows.values_T), dtype=bool))
    for label in (changed.batches(whole)(VISITS)["label"] for whole in (True, False)):
        assert label["weight_B"].tolist() == [0.0] * 4
        assert not np.isnan(label["target_log_probs_BM"].numpy()).any()
    empty = Ragged(np.empty(0), np.zeros(41, dtype=np.int64))
    fields = {"rows": np.int64, "scores": np.float32, "positive": np.bool_, "dense_rank": np.int32}
    lists = {name: Ragged(np.empty(0, dtype=dtype), empty.offsets) for name, dtype in fields.items()}
    nothing = Candidates(inputs.candidates.query_rows_Q, **lists)
    targets, _ = build_targets(lists["scores"], lists["positive"], temperature=1.0)
    batch = replace(inputs, candidates=nothing, targets=targets).batches(whole_batch=False)(VISITS)
    assert batch["label"]["target_log_probs_BM"].shape == (4, 1)
    assert np.isneginf(batch["label"]["target_log_probs_BM"].numpy()).all()


def test_a_visit_is_the_same_in_every_process_and_another_visit_shows_others(inputs: TrainingInputs) -> None:
    maker: Collator = inputs.batches(wanted=4)
    first, again = (document_ids(maker(VISITS)) for _ in range(2))
    later = document_ids(maker([{"position": visit["position"], "visit": 1} for visit in VISITS]))
    assert first == again and first != later


def test_a_document_is_shown_without_the_query_that_was_made_from_it(inputs: TrainingInputs) -> None:
    plain = inputs.batches(wanted=EVERY)
    query, document = int(inputs.candidates.query_rows_Q[31]), int(inputs.candidates.rows[31][0])
    other = int(inputs.candidates.query_rows_Q[12])  # not in this batch
    query_removed = QueryRemoved(
        Ragged.of([[7], [8, 9]], np.int32), {query: (document, 1), other: (int(columns(inputs)[-1]), 0)}
    )
    shown = document_ids(replace(plain, query_removed=query_removed)(VISITS))
    specials = plain.documents.specials
    for row, ids, before in zip(columns(inputs), shown, document_ids(plain(VISITS)), strict=True):
        left = [*specials.prefix, *specials.prompt, 8, 9, *specials.suffix]
        assert ids == (left if row == document else before)


def test_the_half_of_a_document_shown_without_its_query_is_of_what_is_shown(inputs: TrainingInputs) -> None:
    taken = int(inputs.candidates.query_rows_Q[4])
    removed = QueryRemoved(inputs.documents.tokens, {taken: (int(columns(inputs)[2]), 7)})
    seen: dict[str, Any] = {}

    def half(query_rows_B: Array, rows_M: Array, query_removed: Any) -> Array:
        seen.update(queries=query_rows_B.tolist(), rows=rows_M.tolist(), removed=dict(query_removed))
        return np.full((len(query_rows_B), len(rows_M)), 0.5, dtype=np.float32)

    label = replace(inputs.batches(wanted=EVERY), query_removed=removed, half=half)(VISITS)["label"]
    assert seen["queries"] == label["queries_B"].tolist() and seen["rows"] == columns(inputs).tolist()
    assert seen["removed"] == {int(columns(inputs)[2]): 7} and bool((label["half_BM"] == 0.5).all())
