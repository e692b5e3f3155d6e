"""What every stage is given: the run's config, its runner, and the student that was loaded last."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from sdretrieval.chat import Chat, ServedModel
from sdretrieval.config import ChatConfig, Config
from sdretrieval.encode.locate import locate_model, model_digest, require_digest
from sdretrieval.encode.prompts import FoundPrompts, Prompts, find_prompts
from sdretrieval.encode.student import Student, load_student
from sdretrieval.indexes.lexical_half import with_half
from sdretrieval.store import Store
from sdretrieval.store.runner import Runner
from sdretrieval.training.tracking import Tracking


@dataclass(frozen=True)
class Weights:
    """A student's weights: what they are in keys, and the folders of the student and of its moving average."""

    key: str
    student: Path
    average: Path

    @property
    def average_key(self) -> str:
        """Stands for the average in keys; the base student is its own average."""
        return self.key if self.average == self.student else f"{self.key}:average"


@dataclass
class Run:
    """A config that is being run. It makes no stage: stages are functions of it and of other stages' artifacts."""

    config: Config
    runner: Runner
    batch_tokens: int | None = None
    """Of the student's batches if the config leaves that open; None takes what suits its kind of device."""
    expected: dict[str, float] = field(default_factory=dict)
    """By stage address, seconds of a token (encode) or of an update (train), as trials of this machine say."""
    repetition: int = 0
    """Which of the config's seeds the trainings have."""
    pretrained: Weights | None = None
    """What generations begin with, if that is not the config's model as it is."""
    _loaded: tuple[Path, Student] | None = None

    @property
    def seed(self) -> int:
        """Of the trainings: the order of the queries, the candidates of each visit, dropout, the shuffled control."""
        return self.config.seeds[self.repetition]

    def repeated(self, repetition: int) -> Run:
        """The same run, whose trainings have another of the config's seeds."""
        self.runner.say_reused()  # from here on the other runner counts
        runner = replace(self.runner, mark=f"@{self.config.seeds[repetition]}")
        return replace(self, runner=runner, repetition=repetition)

    def tracking(self, address: str) -> Tracking | None:
        """Who else gets the figures of the training `address`."""
        to = self.config.train.report_to
        name, folder = f"{address}{self.runner.mark}", self.folder / "tensorboard"
        return Tracking(to, self.config.name, name, folder) if to else None

    @property
    def store(self) -> Store:
        """Where artifacts are kept."""
        return self.runner.store

    @property
    def folder(self) -> Path:
        """The run's: RUNS/<name>."""
        return self.store.root.parent / self.config.name

    @cached_property
    def untrained(self) -> Weights:
        """The config's model. Raises ModelError if it is not there."""
        folder = locate_model(self.config.student.model)
        return Weights(model_digest(folder), folder, folder)

    @property
    def base(self) -> Weights:
        """The student that generations begin with: `untrained`, or what pretraining made of it."""
        return self.pretrained or self.untrained

    def begun_from(self, pretrained: Weights) -> Run:
        """The same run, whose generations begin with another student."""
        return replace(self, pretrained=pretrained)

    def student(self, folder: Path) -> Student:
        """A student; the one used last stays loaded, an earlier one would only cost memory."""
        if self._loaded is None or self._loaded[0] != folder:
            self._loaded = (folder, student_from(folder, self.config))
            if folder == self.untrained.student:  # all keys hold the digest that it had when the run began
                require_digest(folder, self.untrained.key)
        return self._loaded[1]

    def chat(self, cfg: ChatConfig, setting: str, temperature: float | None = None) -> Chat:
        """The language model that the section `cfg` names, at the path `setting` of the config. Its answers are kept in
        the store: another run asks only for what is new."""
        return Chat(chat_model(cfg), setting, self.store.root / "answers", temperature)

    @property
    def learns_queries_only(self) -> bool:
        """Whether the query encoder alone learns, so that documents keep the base student's vectors and index."""
        return self.config.student.train == "query"

    @property
    def learns_adapter_only(self) -> bool:
        """Whether a linear map behind the base student learns alone, so that all vectors follow from the base's."""
        return self.config.student.train == "adapter"

    @property
    def measures(self) -> tuple[str, ...]:
        """The report's measures and the gate's."""
        return tuple(dict.fromkeys((*self.config.evaluate.measures, self.config.gate.measure)))

    @property
    def splits(self) -> tuple[str, ...]:
        """Dev, then the split of the report."""
        return tuple(dict.fromkeys(("dev", self.config.evaluate.split)))


def whole_dims(config: Config, student: Student) -> int:
    """Dims of a vector in an index: the student's, and those of the lexical half that the config adds."""
    half = config.student.lexical_half
    return student.dims + (half.dims if half else 0)


def chat_model(cfg: ChatConfig) -> ServedModel:
    """The model of a section with a url."""
    assert cfg.url is not None
    return ServedModel(cfg.url, cfg.model, cfg.key_variable, cfg.concurrency, cfg.timeout)


def student_from(folder: Path | str, config: Config, prompts: Prompts | None = None) -> Student:
    """A student with the views, prompts and device that the config asks for."""
    cfg = config.student
    student = load_student(
        str(folder),
        max_tokens=cfg.max_tokens,
        query_tokens=cfg.query_tokens,
        device=cfg.device,
        trust_remote_code=cfg.trust_remote_code,
        prompts=prompts or prompts_of(config).prompts,
    )
    return with_half(student, Path(folder))


def prompts_of(config: Config) -> FoundPrompts:
    """The run's prompts: the config's, else those of the base model. Every later student has the same.

    Raises ModelError if the model is not there.
    """
    cfg = config.student
    return find_prompts(locate_model(cfg.model), cfg.model, cfg.prompts.query, cfg.prompts.document)
