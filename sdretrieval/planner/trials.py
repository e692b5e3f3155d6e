"""What a unit of a network's work takes on this machine: short trials of the real code, kept for the next time.

A figure belongs to machine, threads, libraries, model and the shape of the work; for others it is measured again.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sdretrieval.config import Config, CrossEncoderConfig, DenseConfig, MultiVectorConfig, identity_fields
from sdretrieval.corpus import default_cache
from sdretrieval.encode.batches import budget_batches, features_of, usual_batch_tokens
from sdretrieval.encode.encoder import Precision, encode_sequences
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.student import Student, torch_device
from sdretrieval.encode.views import View
from sdretrieval.files import write_json
from sdretrieval.planner.amounts import documents_of_update, member_at, reader_at, training_view, view_at
from sdretrieval.planner.workload import SAMPLE, Reader, Workload, examples
from sdretrieval.ragged import Array
from sdretrieval.stages.encode import ExternalEncoder
from sdretrieval.stages.precision import machine_name
from sdretrieval.stages.run import student_from
from sdretrieval.stages.teachers import PairModel, open_pair_model, view_of
from sdretrieval.store.memory import Peak, give_back_freed, peak_of_work, resident_bytes
from sdretrieval.teachers.pairs import PairCache
from sdretrieval.training.speed import faster_precision
from sdretrieval.training.train import TrainSettings

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("sdretrieval")

CALIBRATION = "calibration.json"
"""In the user's cache: what this machine was measured to do."""
VERSION = "trials 6"
"""To be counted up when a trial's figures come to mean something else."""
ENCODED, TRAINED, READ = 6, 2, 3
"""Usual batches of the device in a trial of encoding, of training (parts of a batch), of reading pairs."""
ROUNDS = 3
FLOAT32 = 4

Figures = Mapping[str, float]
"""What a trial measured, by name: seconds and bytes of a unit."""


@dataclass
class Calibration:
    """Measured figures by what they are of, in `file` (JSON) as well."""

    file: Path
    device: str = "cpu"
    again: bool = False
    """Measure whatever is needed, though the file knows it."""
    base_bytes: int = field(default_factory=resident_bytes)
    """What the process holds before any trial: Python, the libraries, the student."""
    device_bytes: int = field(init=False)
    """The same on the GPU, 0 without one."""
    _known: dict[str, dict[str, float]] = field(default_factory=dict)
    _fresh: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._known = self._read()
        self.device_bytes = 0
        if torch_device(self.device) == "cuda":
            import torch

            self.device_bytes = torch.cuda.memory_allocated()

    def of(self, work: str, trial: Callable[[], Figures], model: str = "") -> Figures:
        """The figures of `work` with the model of digest `model`, by `trial` if this machine's are not known."""
        import torch

        libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
        machine = f"{VERSION}, {machine_name(self.device)}, {torch.get_num_threads()} threads, {libraries}"
        key = f"{machine} | {model} | {work}"
        if key not in self._known or (self.again and key not in self._fresh):
            logger.info("measuring this machine: %s", work)
            self._known[key] = {name: float(value) for name, value in trial().items()}
            self._fresh.add(key)
            self._keep(key)
        return self._known[key]

    def _read(self) -> dict[str, dict[str, float]]:
        """What is there and is what it should be; the rest is measured again."""
        try:
            record = json.loads(self.file.read_text(encoding="utf8"))
        except (OSError, ValueError):
            return {}

        def are_figures(one: object) -> bool:
            return isinstance(one, dict) and bool(one) and all(isinstance(v, int | float) for v in one.values())

        return {key: one for key, one in record.items() if are_figures(one)} if isinstance(record, dict) else {}

    def _keep(self, key: str) -> None:
        """For the next process; another one may have added its own meanwhile. Without a cache it is measured again."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.file.with_name(f"{self.file.name}.{os.getpid()}")
            write_json(fresh, {**self._read(), key: self._known[key]})
            fresh.replace(self.file)
        except OSError as problem:
            logger.warning("what this machine was measured to do cannot be kept: %s", problem)


def open_calibration(device: str, *, again: bool = False) -> Calibration:
    """This user's. `again`: measure this machine again, whatever is known of it."""
    return Calibration(default_cache() / CALIBRATION, device, again)


@dataclass(frozen=True)
class Trials:
    """The trials that a config's work needs; each runs when its figures are first needed."""

    config: Config
    load: Workload
    calibration: Calibration
    batch_tokens: int | None = None
    """Of the student's batches, if the config leaves that open; None takes what suits its kind of device."""

    def precision(self, task: Literal["encode", "train"]) -> Precision:
        """The number format of `task`: if the config says auto, the faster one by the trial that a run makes too."""
        cfg = self.config.student.encode_precision if task == "encode" else self.config.train.precision
        if cfg != "auto":
            return "bfloat16" if cfg == "bfloat16" else "float32"
        student = self.load.student

        def trial() -> Figures:
            chosen, _ = faster_precision(student.model, training=task == "train")
            return {"bfloat16": float(chosen == "bfloat16")}

        figures = self.calibration.of(f"number format to {task} in", trial, student.digest)
        return "bfloat16" if figures["bfloat16"] else "float32"

    @property
    def on_gpu(self) -> bool:
        """Whether the student works on a GPU."""
        return bool(self.load.student.model.device.type == "cuda")

    def _tokens(self, batches: int) -> int:
        """Of so many usual batches: what keeps a CPU busy for a second is nothing to a GPU."""
        return batches * usual_batch_tokens(self.load.student.model.device.type)

    def encoding(self, address: str) -> Figures:
        """Seconds of a token, and bytes, of encoding as the stage at `address` does. A dense teacher's weights
        are counted: the process does not hold them yet."""
        config, student, reader = self.config, self.load.student, reader_at(address, self.load)
        member, view, precision = member_at(address, config), view_at(address, config), self.precision("encode")
        external = ExternalEncoder(member, view, config.student.device) if isinstance(member, DenseConfig) else None
        batch = external.member.batch_tokens if external else config.student.batch_tokens or self.batch_tokens
        mean = shape(_mean_window(reader, view))
        work = f"encode windows of about {mean} tokens, batches of {batch or 'the usual'} tokens, {precision}"

        def trial() -> Figures:
            encoder = external.model() if external else student
            figures = encode_trial(encoder, windows_of(reader, view), batch, precision)
            weights = FLOAT32 * sum(parameter.numel() for parameter in encoder.model.parameters()) if external else 0
            place = "device_bytes" if encoder.model.device.type == "cuda" else "bytes"
            return {**figures, place: figures[place] + weights}

        return self.calibration.of(work, trial, external.digest if external else student.digest)

    def training(self) -> Figures:
        """Of training as the config says, `train_trial`'s figures."""
        config, load, cfg = self.config, self.load, self.config.train
        view, student = training_view(config), load.student
        settings = TrainSettings(
            freeze=cfg.freeze, dropout=cfg.dropout, precision=self.precision("train"), lora_rank=cfg.lora_rank
        )
        work = (
            f"train on documents of about {shape(_mean_window(load.reader, view))} tokens, frozen "
            f"{', '.join(cfg.freeze) or 'nothing'}, dropout {cfg.dropout:g}, {settings.precision}, LoRA {cfg.lora_rank}"
        )

        def trial() -> Figures:
            queries, documents = documents_of_update(config, load)
            windows = windows_of(load.reader, view)
            mean = sum(map(len, windows)) / max(len(windows), 1)
            shown = examples(windows, max(4, round(self._tokens(TRAINED) / max(mean, 1))))
            # As many queries a document as an update has.
            sides = examples(load.reader.queries.sample, max(2, round(queries * len(shown) / max(documents, 1))))
            query_ids = [student.query_view.cut(ids, student.query_specials)[0] for ids in sides]
            own = student_from(locate_model(config.student.model), config)  # training changes it
            return train_trial(own, query_ids, shown, settings)

        return self.calibration.of(work, trial, student.digest)

    def reading(self, member: CrossEncoderConfig | MultiVectorConfig) -> Figures:
        """Seconds of a pair, and bytes, of a model that reads whole documents as `member` says."""
        load, view = self.load, identity_fields(member.view)
        most = getattr(member, "max_tokens", None) or view_of(member.view, self.config).max_tokens
        mean = shape(load.reader.documents.total() / max(load.documents, 1))
        precision = self.precision("encode") if isinstance(member, MultiVectorConfig) else "float32"
        work = f"read pairs with documents of about {mean} tokens, at most {most} at once, {view}, {precision}"

        def trial() -> Figures:
            texts = examples(load.document_texts, max(6, self._tokens(READ) // max(min(mean, most), 1)))
            queries = [load.query_texts[i % len(load.query_texts)] for i in range(len(texts))]
            return pair_trial(
                open_pair_model(member, self.config, load.document_texts, precision),
                list(zip(queries, texts, strict=True)),
            )

        return self.calibration.of(work, trial, model_digest(locate_model(member.model)))


def encode_trial(
    student: Student,
    sequences: Sequence[Array],
    batch_tokens: int | None,
    precision: Precision,
    batches_tried: int = ENCODED,
    rounds: int = ROUNDS,
) -> Figures:
    """Seconds a token, from batches evenly spread over all lengths, as a chunk of many texts forms them; bytes held
    beside what was there, in memory and on the GPU."""
    specials, usual = student.document_specials, usual_batch_tokens(student.model.device.type)
    budget = batch_tokens or usual
    tokens = max(batches_tried * usual, budget)
    batches = [[sequences[i] for i in batch] for batch in budget_batches([len(ids) for ids in sequences], budget)]
    step = min(len(batches), max(1, len(batches) * budget // tokens))
    some = batches[step // 2 :: step]
    content = sum(max(len(ids) - specials.count, 0) for batch in some for ids in batch)

    def encode(of: Sequence[Sequence[Array]]) -> None:
        for batch in of:
            encode_sequences(student.model, batch, specials, budget, precision=precision)

    give_back_freed()
    before = resident_bytes()
    with peak_of_work() as peak, peak_on_device(student.model.device.type) as on_device:
        encode(some[:1])  # what is only done once is done
        seconds = statistics.median(_seconds_of(lambda: encode(some)) for _ in range(rounds))
    return {
        "seconds_per_token": seconds / max(content, 1),
        "bytes": max(peak.rss_bytes - before, 0),
        "device_bytes": on_device.rss_bytes,
    }


def train_trial(
    student: Student, queries: Sequence[Array], documents: Sequence[Array], settings: TrainSettings
) -> Figures:
    """Seconds a token of a pass there and back, and seconds of an update's own work; bytes of tensors: what autograd
    keeps of a token until the way back, what training holds all the time, and of it the model's weights.

    Tensors are counted, not the process's memory: that is freed and taken again in ways that no short trial shows.
    `student` is changed: a copy of its own is needed.
    """
    import torch

    from sdretrieval.teachers.ema import WeightAverage
    from sdretrieval.training.batches import PART_TOKENS
    from sdretrieval.training.lora import add_lora
    from sdretrieval.training.speed import dropout_at, freeze, quick_attention

    model, specials = student.model, student.document_specials
    if settings.lora_rank is not None:
        add_lora(model, settings.lora_rank, settings.seed)
    freeze(model, settings.freeze)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser, average = torch.optim.AdamW(learning, lr=0.0), WeightAverage(model, 0.5)
    parts = [[documents[i] for i in part] for part in budget_batches([len(ids) for ids in documents], PART_TOKENS)]
    tokens = sum(max(len(ids) - specials.count, 0) for ids in (*queries, *documents))
    reduced = torch.autocast(model.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16")

    def embed(ids: Sequence[Array], around: Any) -> Any:
        features = features_of(model, ids, around)
        on_device = {n: value.to(model.device) if hasattr(value, "to") else value for n, value in features.items()}
        return model(on_device)["sentence_embedding"].float()

    def forward() -> Any:
        with reduced:
            queries_QD = embed(queries, student.query_specials)
            documents_ND = torch.cat([embed(part, specials) for part in parts])
            return torch.logsumexp(queries_QD @ documents_ND.T / 0.05, dim=1).mean()

    def there_and_back() -> None:
        loss = forward()
        loss.backward()
        loss.item()  # a GPU works behind the caller's back until then

    def update() -> None:
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update(model)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)

    model.train()
    with dropout_at(model, settings.dropout), quick_attention(model):
        with kept_by_autograd(model) as kept:  # the first pass: what is only done once is done
            loss = forward()
        loss.backward()
        update()
        # In turn: an update without gradients would be no update.
        turns = [(_seconds_of(there_and_back), _seconds_of(update)) for _ in range(ROUNDS)]
    passes, updates = (statistics.median(seconds) for seconds in zip(*turns, strict=True))
    weights = sum(tensor.nbytes for tensor in average.state.values())
    return {
        "seconds_per_token": passes / max(tokens, 1),
        "seconds_per_update": updates,
        "bytes_per_token": sum(kept.values()) / max(tokens, 1),
        # The model, its average; gradients and two moments of what learns.
        "bytes_fixed": 2 * weights + 3 * FLOAT32 * sum(parameter.numel() for parameter in learning),
        "bytes_weights": weights,
    }


@contextmanager
def kept_by_autograd(model: torch.nn.Module) -> Iterator[dict[int, int]]:
    """Bytes of what a forward pass inside keeps for the way back, by where it is in memory; the weights, which are
    there anyway, are left out."""
    import torch

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield kept


def pair_trial(model: PairModel, pairs: Sequence[tuple[str, str]]) -> Figures:
    """Seconds a pair of a query and a whole document, windows and tokenizing included."""
    before, parameters = resident_bytes(), list(model.network.parameters())
    weights, kind = FLOAT32 * sum(parameter.numel() for parameter in parameters), parameters[0].device.type
    with (
        tempfile.TemporaryDirectory(prefix="sdretrieval-trial-") as folder,
        peak_of_work() as peak,
        peak_on_device(kind) as on_device,
    ):
        teacher = model.teacher(name="trial", query_text=str, document_text=str, cache=PairCache(Path(folder)))
        teacher.score_texts(pairs[:2])
        seconds = _seconds_of(lambda: teacher.score_texts(pairs[2:]))
    return {
        "seconds_per_pair": seconds / max(len(pairs) - 2, 1),
        "bytes": max(peak.rss_bytes - before, 0) + (weights if kind == "cpu" else 0),
        "device_bytes": on_device.rss_bytes + (weights if kind == "cuda" else 0),
    }


@contextmanager
def peak_on_device(device: str) -> Iterator[Peak]:
    """The most that work inside reserves on the GPU, beside what tensors held before; 0 on a CPU."""
    peak = Peak(own=True)
    if device != "cuda":
        yield peak
        return
    import torch

    torch.cuda.empty_cache()  # an earlier trial's blocks
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield peak
    peak.rss_bytes = max(torch.cuda.max_memory_reserved() - before, 0)


def _seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def shape(number: float) -> int:
    """A size rounded to a power of two's half steps: speeds depend on it, but not on each token."""
    return round(2 ** (round(2 * log2(max(number, 1))) / 2))


def windows_of(reader: Reader, view: View) -> list[Array]:
    """Windows of some documents, special tokens included."""
    return [piece for ids in examples(reader.documents.sample, SAMPLE) for piece in view.cut(ids, reader.specials)]


def _mean_window(reader: Reader, view: View) -> float:
    """Tokens of a document's window, on average."""
    documents, specials = reader.documents, reader.specials
    return documents.seen(view, specials) / max(documents.windows(view, specials), 1) + specials.count
