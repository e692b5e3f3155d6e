"""The cross-encoder: raw logits, the best window of a long document, no pair scored twice."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.encode.pace import Pace
from sdretrieval.errors import ModelError, NumericError
from sdretrieval.ragged import Ragged
from sdretrieval.teachers import cross_encoder
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher, load_cross_encoder, tf32_on
from sdretrieval.teachers.pair_windows import PairWindows
from sdretrieval.teachers.pairs import PairCache
from sdretrieval.teachers.protocols import FreeTeacher, Teacher
from tests.helpers import tiny
from tests.teachers.collection import Collection

Model = Any


def opinionated(model: Model) -> Model:
    """The random model's logits differ by a millionth from pair to pair: ten times its weights make them differ."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embeddings" not in name:
                parameter.mul_(10)
    return model


@pytest.fixture(scope="module")
def model(tiny_cross_encoder: Path) -> Model:
    return opinionated(load_cross_encoder(str(tiny_cross_encoder), max_tokens=128, device="cpu")[0])


def teacher_of(model: Model, collection: Collection, folder: Path, **settings: Any) -> CrossEncoderTeacher:
    return CrossEncoderTeacher(
        model,
        name="judge",
        query_text=collection.queries.__getitem__,
        document_text=collection.documents.__getitem__,
        cache=PairCache(folder),
        **{"max_tokens": 128, **settings},
    )


def test_a_gpu_scores_by_its_tf32_units_and_nothing_else_does(
    model: Model, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    usual = torch.get_float32_matmul_precision()
    with tf32_on("cuda"):
        assert torch.get_float32_matmul_precision() == "high" != usual
    with tf32_on("cpu"):
        assert torch.get_float32_matmul_precision() == usual
    seen: list[str] = []
    monkeypatch.setattr(cross_encoder, "tf32_on", lambda device: (seen.append(device), nullcontext())[1])
    teacher_of(model, collection, tmp_path).score(np.asarray([3]), Ragged.of([[1, 2]], np.int64))
    assert set(seen) == {"cpu"} and torch.get_float32_matmul_precision() == usual


def test_scores_are_raw_logits_as_the_library_predicts_them(
    model: Model, collection: Collection, tiny_cross_encoder: Path, tmp_path: Path
) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    short = Ragged.of([[1, 2, 4], [], [7, 5]], np.int64)
    found = teacher_of(model, collection, tmp_path).score(np.asarray([3, 8, 9]), short)
    pairs = [(collection.queries[q], collection.documents[d]) for q, d in [(3, 1), (3, 2), (3, 4), (9, 7), (9, 5)]]
    library = opinionated(CrossEncoder(str(tiny_cross_encoder), device="cpu", max_length=128))
    np.testing.assert_allclose(
        found.values_T, library.predict(pairs, activation_fn=torch.nn.Identity()), rtol=0, atol=1e-4
    )
    assert found.lengths.tolist() == [3, 0, 2] and np.ptp(found.values_T) > 0.01


def test_scores_do_not_depend_on_the_batch(model: Model, collection: Collection, tmp_path: Path) -> None:
    whole = teacher_of(model, collection, tmp_path / "a").score(collection.query_rows, collection.candidates)
    small = teacher_of(model, collection, tmp_path / "b", batch_tokens=130)
    np.testing.assert_allclose(
        small.score(collection.query_rows, collection.candidates).values_T, whole.values_T, atol=1e-5
    )


def test_few_windows_are_held_at_a_time_whatever_the_documents(
    model: Model, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"max_tokens": 40, "windows": "all"}
    asked = (collection.query_rows, collection.candidates)
    whole = teacher_of(model, collection, tmp_path / "whole", **settings).score(*asked)
    monkeypatch.setattr("sdretrieval.teachers.pair_windows.WINDOWS_AT_ONCE", 4)
    parted = teacher_of(model, collection, tmp_path / "parted", **settings)
    pairs = [(collection.queries[0], collection.documents[row]) for row in range(12)]
    windows = PairWindows(model, 40, "all")
    blocks = list(windows.blocks(pairs))
    assert sorted({owner for _, owners in blocks for owner in owners.tolist()}) == list(range(12))
    most = max(len(encoded) for pair in pairs for encoded, _ in windows.blocks([pair]))
    assert len(blocks) > 1 and max(len(encoded) for encoded, _ in blocks) < 4 + most
    np.testing.assert_allclose(parted.score(*asked).values_T, whole.values_T, atol=1e-5)


def test_progress_goes_by_work_though_most_pairs_end_in_the_last_batches(
    model: Model, collection: Collection, tmp_path: Path
) -> None:
    every = teacher_of(model, collection, tmp_path, max_tokens=40, windows="all", batch_tokens=400)
    pairs = [(collection.queries[query], collection.documents[row]) for query in range(3) for row in range(0, 60, 3)]
    steps: list[int] = []
    every._logits(pairs, steps.append, Pace("score", "cpu"))
    assert sum(steps) == len(pairs)
    half = sum(steps[: len(steps) // 2]) / len(pairs)
    assert 0.4 < half < 0.7, "half of the batches are about half of the work"


def logits_by_hand(model: Model, query: str, document: str, max_tokens: int, stride: int) -> list[float]:
    """One logit a window, each run alone."""
    import torch

    tokenizer = model.tokenizer
    asked, shown = (tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in (query, document))
    room, found, start = max_tokens - len(asked) - 3, [], 0
    while True:
        first = [tokenizer.cls_token_id, *asked, tokenizer.sep_token_id]
        second = [*shown[start : start + room], tokenizer.sep_token_id]
        kinds = torch.tensor([[0] * len(first) + [1] * len(second)])
        with torch.no_grad():
            output = model.model(input_ids=torch.tensor([first + second]), token_type_ids=kinds)
        found.append(float(output.logits[0, 0]))
        if start + room >= len(shown):
            return found
        start += stride


@pytest.mark.parametrize(("max_tokens", "stride"), [(64, 20), (48, 38), (128, 11)])
def test_a_long_document_gets_its_best_windows_logit(
    model: Model, collection: Collection, tmp_path: Path, max_tokens: int, stride: int
) -> None:
    settings = {"max_tokens": max_tokens, "windows": "all", "stride": stride}
    long = Ragged.of([[0, 3, 6, 1]], np.int64)
    found = teacher_of(model, collection, tmp_path, **settings).score(np.asarray([2]), long)[0]
    query = collection.queries[2]
    by_hand = [logits_by_hand(model, query, collection.documents[d], max_tokens, stride) for d in (0, 3, 6, 1)]
    assert len(by_hand[0]) > 1 and len(by_hand[3]) == 1
    np.testing.assert_allclose(found, [max(logits) for logits in by_hand], atol=1e-5)


def test_more_windows_never_lower_a_score(model: Model, collection: Collection, tmp_path: Path) -> None:
    first = teacher_of(model, collection, tmp_path / "first", max_tokens=64)
    every = teacher_of(model, collection, tmp_path / "all", max_tokens=64, windows="all")
    asked = (collection.query_rows, collection.candidates)
    gain = every.score(*asked).values_T - first.score(*asked).values_T
    assert gain.min() >= -1e-5 and gain.max() > 0.01


def test_a_query_longer_than_half_the_view_is_cut_too(model: Model, collection: Collection, tmp_path: Path) -> None:
    teacher = CrossEncoderTeacher(
        model,
        name="judge",
        query_text=lambda row: "dough " * 500,
        document_text=collection.documents.__getitem__,
        cache=PairCache(tmp_path),
        max_tokens=128,
        windows="all",
    )
    assert np.isfinite(teacher.score(np.asarray([0]), Ragged.of([[0, 1]], np.int64)).values_T).all()


def test_a_pair_is_scored_once(model: Model, collection: Collection, tmp_path: Path) -> None:
    first = teacher_of(model, collection, tmp_path)
    before = first.score(collection.query_rows, collection.candidates)
    again = teacher_of(model, collection, tmp_path)
    after = again.score(collection.query_rows, collection.candidates)
    assert (first.newly_scored, again.newly_scored) == (len(before.values_T), 0)
    np.testing.assert_array_equal(after.values_T, before.values_T)
    again.score(np.asarray([1]), Ragged.of([[20, 21, 22]], np.int64))
    assert again.newly_scored == 3


def test_equal_pairs_of_one_call_are_scored_once(model: Model, collection: Collection, tmp_path: Path) -> None:
    teacher = teacher_of(model, collection, tmp_path)
    found = teacher.score(np.asarray([1, 1]), Ragged.of([[20, 21], [21, 20]], np.int64))
    assert teacher.newly_scored == 2
    assert found[0].tolist() == found[1].tolist()[::-1]


def test_a_killed_run_loses_at_most_a_shard(
    model: Model, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_encoder, "PAIRS_PER_SHARD", 8)
    asked, total = (collection.query_rows, collection.candidates), len(collection.candidates.values_T)
    seen = []

    def killed(*_: Any) -> None:
        seen.append(1)
        if len(seen) == 30:
            raise KeyboardInterrupt

    hook = model.register_forward_hook(killed)
    with pytest.raises(KeyboardInterrupt):
        teacher_of(model, collection, tmp_path, batch_tokens=1).score(*asked)
    hook.remove()
    again = teacher_of(model, collection, tmp_path)
    again.score(*asked)
    assert again.newly_scored == total - 24  # 29 pairs were scored one by one: three shards of 8 and 5 lost


def test_broken_weights_name_the_teacher_and_the_pair(
    tiny_cross_encoder: Path, collection: Collection, tmp_path: Path
) -> None:
    import torch

    model = load_cross_encoder(str(tiny_cross_encoder), max_tokens=128, device="cpu")[0]
    with torch.no_grad():
        model.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(NumericError, match=r"teacher judge: 2 scores are not finite, the first for query 'where is"):
        teacher_of(model, collection, tmp_path).score(np.asarray([1]), Ragged.of([[20, 21]], np.int64))
    assert not len(PairCache(tmp_path))


def test_it_is_a_teacher_but_not_a_free_one(model: Model, collection: Collection, tmp_path: Path) -> None:
    teacher = teacher_of(model, collection, tmp_path)
    assert isinstance(teacher, Teacher) and not isinstance(teacher, FreeTeacher)


def test_a_model_with_two_outputs_is_refused(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder
    from transformers import BertForSequenceClassification

    tiny._write_bert(tmp_path / "bert", BertForSequenceClassification, seed=0)
    two = CrossEncoder(
        str(tmp_path / "bert"), num_labels=2, device="cpu", model_kwargs={"ignore_mismatched_sizes": True}
    )
    two.save_pretrained(str(tmp_path / "two"))
    with pytest.raises(ModelError, match=r"two' has 2 outputs, expected 1 relevance logit; choose a reranker"):
        load_cross_encoder(str(tmp_path / "two"), max_tokens=128, device="cpu")


def test_a_bi_encoder_is_refused_since_its_head_would_be_random(tiny_student: Path) -> None:
    with pytest.raises(
        ModelError, match=r"is no cross-encoder: its architecture is BertModel, expected one that ends in"
    ):
        load_cross_encoder(str(tiny_student), max_tokens=128, device="cpu")


def test_a_context_longer_than_the_positions_is_refused(tiny_cross_encoder: Path) -> None:
    with pytest.raises(ModelError, match=r"has 128 positions, max_tokens asks for 512; set max_tokens to at most 128"):
        load_cross_encoder(str(tiny_cross_encoder), max_tokens=512, device="cpu")
