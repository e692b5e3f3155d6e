"""Training: the student learns, two runs are one, a killed run is continued to the same weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from sdretrieval.encode.student import load_student
from sdretrieval.errors import NumericError
from sdretrieval.training.batches import Collator
from sdretrieval.training.distillation import ListwiseDistillation
from sdretrieval.training.train import TrainSettings, train, updates_of
from sdretrieval.training.trainer import (
    CompleteCallback,
    MetricsCallback,
    last_complete_checkpoint,
    read_metrics,
)
from tests.training.inputs import SETTINGS, TrainingInputs, assert_close, prepare, teach, weights

NewInputs = Callable[[], TrainingInputs]
CHECKOUT = Path(__file__).parents[2]
LAST = "encoder.layer.1.output.dense.weight"


def assert_same(first: Path, second: Path) -> None:
    """Students and averages exactly equal."""
    for which in ("student", "average"):
        one, other = weights(first, which), weights(second, which)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), which


@pytest.fixture(scope="module")
def reference(new_inputs: NewInputs, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of an undisturbed training without checkpoints; each kind is trained once."""
    folders: dict[tuple[TrainSettings, bool], Path] = {}

    def trained(settings: TrainSettings = SETTINGS, live: bool = False) -> Path:
        if (settings, live) not in folders:
            folders[settings, live] = tmp_path_factory.mktemp("reference")
            teach(new_inputs(), settings, folders[settings, live], live=live)
        return folders[settings, live]

    return trained


class Killed(Collator):
    """Collates until it is killed at a batch."""

    last = 10**9

    def __call__(self, visits: Sequence[dict[str, int]]) -> dict[str, Any]:
        if self.last == 0:
            raise KeyboardInterrupt
        self.last -= 1
        return super().__call__(visits)


def killed_and_resumed(
    new_inputs: NewInputs, settings: TrainSettings, folder: Path, *, after: int, **asked: Any
) -> list[dict[str, Any]]:
    """Train, be killed after `after` batches, train again from fresh objects; the metrics of both together."""
    first = new_inputs()
    batches = first.batches(kind=Killed)
    assert isinstance(batches, Killed)
    batches.last = after
    with pytest.raises(KeyboardInterrupt):
        teach(first, settings, folder, batches=batches, **asked)
    assert last_complete_checkpoint(folder / "trainer") is not None
    teach(new_inputs(), settings, folder, **asked)
    return read_metrics(folder / "metrics.jsonl")


@pytest.mark.parametrize("whole_batch", [True, False])
def test_the_student_learns_and_finds_more(inputs: TrainingInputs, tmp_path: Path, whole_batch: bool) -> None:
    before = inputs.reciprocal_rank()
    settings = replace(SETTINGS, epochs=6)
    trained = teach(inputs, settings, tmp_path, batches=inputs.batches(whole_batch))
    losses = [record["loss"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert trained.updates == len(losses) == 30
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert inputs.reciprocal_rank() > before + 0.05


def test_what_is_left_is_two_plain_models_and_the_metrics(inputs: TrainingInputs, tmp_path: Path) -> None:
    trained = teach(inputs, replace(SETTINGS, save_every=3), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"student", "average", "metrics.jsonl"}
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".txt", ".jsonl"}
    for which in ("student", "average"):
        again = load_student(str(tmp_path / which), max_tokens=48, device="cpu").model
        assert again.encode(["dough oven"]).shape == (1, 32)
    assert trained.counts == {
        "updates": 10,
        "queries": 80,
        "learning_parameters": trained.counts["learning_parameters"],
    }


def test_the_model_in_memory_is_the_saved_one_and_ready_for_use(inputs: TrainingInputs, tmp_path: Path) -> None:
    teach(inputs, SETTINGS, tmp_path)
    model = inputs.student.model
    saved = load_student(str(tmp_path / "student"), max_tokens=48, device="cpu").model
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    assert not model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.1}


def test_frozen_word_embeddings_do_not_move_and_the_average_lags(inputs: TrainingInputs, tmp_path: Path) -> None:
    start = {name: value.clone() for name, value in inputs.student.model[0].auto_model.state_dict().items()}
    teach(inputs, SETTINGS, tmp_path)
    student, average = weights(tmp_path), weights(tmp_path, "average")
    words, other = "embeddings.word_embeddings.weight", LAST
    assert torch.equal(student[words], start[words]) and torch.equal(average[words], start[words])
    moved = (student[other] - start[other]).norm()
    assert 0 < (average[other] - start[other]).norm() < moved


def test_two_runs_give_the_same_weights_and_another_seed_others(
    new_inputs: NewInputs, reference: Callable[..., Path], tmp_path: Path
) -> None:
    for name, seed in (("again", 13), ("other", 14)):
        teach(new_inputs(), replace(SETTINGS, seed=seed), tmp_path / name, live=True)
    assert_same(tmp_path / "again", reference(live=True))
    assert not torch.equal(weights(tmp_path / "again")[LAST], weights(tmp_path / "other")[LAST])


def test_a_training_killed_by_sigkill_is_continued_to_the_same_weights(
    new_inputs: NewInputs, reference: Callable[..., Path], tiny_corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    options = json.dumps({"save_every": 2, "live": 1, "whole_batch": 1, "slow": 1, "hard": 0.1})
    killed, whole = tmp_path / "killed", reference(live=True)
    command = [sys.executable, "-m", "tests.training.inputs", str(tiny_corpus), str(tiny_student), str(killed), options]
    process = subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE)
    try:
        while last_complete_checkpoint(killed / "trainer") is None:
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (killed / "student").exists()
    teach(new_inputs(), replace(SETTINGS, save_every=2), killed, live=True)
    assert_same(killed, whole)
    assert read_metrics(killed / "metrics.jsonl") == read_metrics(whole / "metrics.jsonl")


@pytest.mark.parametrize(
    "changed",
    [{"dropout": 0.1}, {"gradient_accumulation": 2, "queries_per_batch": 4}, {"epochs": 1.3}],
    ids=["dropout", "accumulation", "part of an epoch"],
)
def test_a_killed_training_is_continued_to_the_same_weights(
    new_inputs: NewInputs, reference: Callable[..., Path], tmp_path: Path, changed: dict[str, Any]
) -> None:
    settings = replace(SETTINGS, **changed)
    metrics = killed_and_resumed(
        new_inputs, replace(settings, save_every=2), tmp_path, after=11 if len(changed) > 1 else 5
    )
    assert_same(tmp_path, reference(settings))
    assert metrics == read_metrics(reference(settings) / "metrics.jsonl")
    assert [record["step"] for record in metrics] == list(range(1, updates_of(40, settings) + 1))


def test_a_training_killed_after_its_last_update_is_only_saved(
    new_inputs: NewInputs, reference: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, save_every=5)
    with monkeypatch.context() as patch:
        patch.setattr(SentenceTransformer, "save_pretrained", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            teach(new_inputs(), settings, tmp_path)
    assert teach(new_inputs(), settings, tmp_path).updates == 10
    assert_same(tmp_path, reference())


def test_a_checkpoint_cut_short_is_not_continued_from(
    new_inputs: NewInputs, reference: Callable[..., Path], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, save_every=2)
    broken = tmp_path / "trainer" / "checkpoint-8"
    first = new_inputs()
    batches = first.batches(kind=Killed)
    assert isinstance(batches, Killed)
    batches.last = 7
    with pytest.raises(KeyboardInterrupt):
        teach(first, settings, tmp_path, batches=batches)
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(b"half")
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 7, "lo')
    found = last_complete_checkpoint(broken.parent)
    assert found is not None and found.name == "checkpoint-6"
    next(found.glob("*.safetensors")).unlink()  # killed while it was deleted, in no order
    found = last_complete_checkpoint(broken.parent)
    assert found is not None and found.name == "checkpoint-4"
    teach(new_inputs(), settings, tmp_path)
    assert_same(tmp_path, reference())
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 10


def checkpoints(folder: Path, *steps: int) -> list[Path]:
    """Checkpoints as a training leaves them, each with one file beside its metrics."""
    metrics = folder / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n')
    made = []
    for step in steps:
        made.append(folder / f"checkpoint-{step}")
        made[-1].mkdir()
        (made[-1] / "optimizer.pt").write_bytes(b"moments of step %d" % step)
        state = SimpleNamespace(global_step=step, is_world_process_zero=True)
        CompleteCallback(metrics).on_save(SimpleNamespace(output_dir=str(folder)), state, None)
    return made


@pytest.mark.parametrize("name", ["optimizer.pt", "metrics.jsonl", "complete.json"])
@pytest.mark.parametrize("fault", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    tmp_path: Path, name: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = checkpoints(tmp_path, 4, 8)
    assert last_complete_checkpoint(tmp_path) == newer
    for checkpoint, expected in ((newer, older), (older, None)):
        path = checkpoint / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data if fault == "flip" else data[: len(data) // 2])
        if fault == "gone":
            path.unlink()
        caplog.clear()
        assert last_complete_checkpoint(tmp_path) == expected
        if (name, fault) != ("complete.json", "gone"):  # which is a checkpoint that was cut short
            goes_on = "continues from checkpoint-4" if expected else "starts again from the beginning"
            assert len(caplog.messages) == 1 and caplog.messages[0].endswith(f"; training {goes_on}")
            assert (
                f"damaged: checkpoint-8 ({'complete.json' if name == 'complete.json' else f'file {name}'}: "
                in (caplog.messages[0])
            )


def test_accumulated_batches_make_the_update_of_one_large_batch(new_inputs: NewInputs, tmp_path: Path) -> None:
    small = replace(SETTINGS, queries_per_batch=4, gradient_accumulation=2)
    for name, settings in (("large", SETTINGS), ("small", small)):
        inputs = new_inputs()
        # In list scope and without the hard term a query's loss does not depend on the rest of its batch.
        teach(inputs, settings, tmp_path / name, batches=inputs.batches(whole_batch=False), hard_label_weight=0.0)
    start = new_inputs().student.model[0].auto_model.state_dict()
    assert_close(weights(tmp_path / "large"), weights(tmp_path / "small"), start)


def test_bfloat16_trains_and_leaves_a_model_in_plain_float32(
    new_inputs: NewInputs, reference: Callable[..., Path], tmp_path: Path
) -> None:
    before, texts = reference(), ["dough oven", "where is the anchor"]
    for name, precision in (("half", "bfloat16"), ("after", "float32")):
        inputs = new_inputs()
        teach(inputs, replace(SETTINGS, precision=precision, save_every=4), tmp_path / name)
        saved = load_student(str(tmp_path / name / "student"), max_tokens=48, device="cpu").model
        assert abs(saved.encode(texts) - inputs.student.model.encode(texts)).max() < 1e-6
    assert_same(before, tmp_path / "after")
    assert not torch.equal(weights(before)[LAST], weights(tmp_path / "half")[LAST])
    losses = [record["loss"] for record in read_metrics(tmp_path / "half" / "metrics.jsonl")]
    assert losses[-1] < losses[0]


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_the_trainer_does_not_put_the_student_in_the_live_teachers_place(
    inputs: TrainingInputs, tmp_path: Path
) -> None:
    ema, targets = inputs.live(SETTINGS)
    network, start = ema.network, {name: value.clone() for name, value in ema.network.state_dict().items()}
    loss = ListwiseDistillation(inputs.student.model, student_temperature=0.05, live=targets)
    train(inputs.student.model, inputs.batches(), loss, SETTINGS, tmp_path, live=ema)
    assert ema.network is network and ema.network is not inputs.student.model
    assert all(module is not network for module in loss.modules())
    name = next(key for key in start if key.endswith("layer.1.output.dense.weight"))
    student, teacher = inputs.student.model.state_dict()[name], ema.network.state_dict()[name]
    assert 0 < (teacher - start[name]).norm() < (student - start[name]).norm()
    assert all(parameter.grad is None for parameter in ema.network.parameters())


def test_a_live_teacher_changes_what_is_learned(reference: Callable[..., Path]) -> None:
    assert not torch.equal(weights(reference())[LAST], weights(reference(live=True))[LAST])


def test_a_loss_that_is_no_number_stops_and_names_step_and_queries(inputs: TrainingInputs, tmp_path: Path) -> None:
    with torch.no_grad():
        inputs.student.model[0].auto_model.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(NumericError, match=r"the term kl is not finite at step 1, in the batch of queries \[\d+, "):
        teach(inputs, SETTINGS, tmp_path)
    assert not (tmp_path / "student").exists()


def test_a_gradient_that_is_no_number_stops(inputs: TrainingInputs, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from sdretrieval.encode.pace import Pace
    from sdretrieval.progress import Progress

    loss = ListwiseDistillation(inputs.student.model, student_temperature=0.05)
    callback = MetricsCallback(tmp_path / "metrics.jsonl", loss, Progress("train", 10, "updates"), Pace("", "cpu"))
    state = SimpleNamespace(global_step=7, is_world_process_zero=True)
    with pytest.raises(NumericError, match=r"the gradient's norm is nan at step 7; lower train.learning_rate"):
        callback.on_log(None, state, None, logs={"loss": 1.0, "grad_norm": float("nan")})


@pytest.mark.gpu
def test_training_on_a_gpu_learns_and_is_continued(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> None:
    def gpu() -> TrainingInputs:
        return prepare(tiny_corpus, tiny_student, device="cuda")

    settings = replace(SETTINGS, save_every=2)
    killed_and_resumed(gpu, settings, tmp_path / "killed", after=5, live=True)
    teach(gpu(), settings, tmp_path / "whole", live=True)
    for which in ("student", "average"):
        one, other = weights(tmp_path / "killed", which), weights(tmp_path / "whole", which)
        assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
    losses = [record["loss"] for record in read_metrics(tmp_path / "whole" / "metrics.jsonl")]
    assert losses[-1] < losses[0]


@pytest.mark.gpu
def test_bfloat16_on_a_gpu_learns(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> None:
    inputs = prepare(tiny_corpus, tiny_student, device="cuda")
    before = inputs.reciprocal_rank()
    teach(inputs, replace(SETTINGS, epochs=6, precision="bfloat16"), tmp_path, live=True)
    assert inputs.reciprocal_rank() > before + 0.05


def test_the_metrics_say_what_the_trainer_did(inputs: TrainingInputs, tmp_path: Path) -> None:
    teach(inputs, SETTINGS, tmp_path)
    for record in read_metrics(tmp_path / "metrics.jsonl"):
        assert set(record) == {"step", "loss", "kl", "hard", "learning_rate", "grad_norm"}
        assert record["loss"] == pytest.approx(record["kl"] + record["hard"], abs=1e-3)


@pytest.mark.parametrize("format", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_a_student_stored_in_half_precision_trains_as_in_float32(
    format: torch.dtype, tiny_corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    model = SentenceTransformer(str(tiny_student), device="cpu").to(format)
    model.save_pretrained(str(tmp_path / "half"))
    model.float().save_pretrained(str(tmp_path / "same"))  # the rounded weights
    for name in ("half", "same"):
        teach(prepare(tiny_corpus, tmp_path / name), replace(SETTINGS, epochs=0.4), tmp_path / f"{name}-trained")
    assert_same(tmp_path / "half-trained", tmp_path / "same-trained")
    assert weights(tmp_path / "half-trained")[LAST].dtype == torch.float32
