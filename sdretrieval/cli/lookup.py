"""From what a user types to what it means: CONFIG_OR_RUN to a config, RUN to what it left, MODEL to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sdretrieval.errors import ModelError, RequestError
from sdretrieval.files import read_json
from sdretrieval.store import Store
from sdretrieval.store.run_folder import PROBABILITY, checked, find_run, runs_folder

if TYPE_CHECKING:
    from sdretrieval.config import Config
    from sdretrieval.corpus import Corpus
    from sdretrieval.encode.encoder import Precision
    from sdretrieval.encode.student import Student
    from sdretrieval.indexes import LexicalIndex
    from sdretrieval.indexes.probability import Probabilities


DEV_POOL = 200
"""Dev queries that a search or a bundle takes some numbers from: a test query has no place there."""


class Target(NamedTuple):
    """A config and its folder of runs; `finished` if a run was named instead of a config's file."""

    config: Config
    runs: Path
    finished: bool


def config_or_run(target: str | Path | Config, overrides: Sequence[str] = (), runs: Path | None = None) -> Target:
    """From a config, its file, or a run's name or folder. Raises ConfigError and RequestError if it is none of them."""
    from sdretrieval.config import Config, load_config

    if isinstance(target, Config):
        return Target(target, runs_folder(runs), False)
    if Path(target).is_file() or Path(target).suffix in (".yaml", ".yml"):
        return Target(load_config(target, overrides), runs_folder(runs), False)
    folder = find_run(target, runs)
    if overrides:
        raise RequestError(
            f"--set changes a config; {target} is a run, whose settings are fixed; name its YAML instead"
        )
    return Target(Serving.of(folder).config, folder.parent, True)


@dataclass(frozen=True)
class Serving:
    """What `serving.json` of a finished run says, and the store beside it: the run's corpus, index and student."""

    run: Path
    record: dict[str, Any]
    store: Store

    @staticmethod
    def of(run: Path) -> Serving:
        """What the run in the folder `run` left for serving. Raises RequestError if it left nothing, DamagedArtifact
        if that was changed."""
        if not (run / "serving.json").is_file():
            raise RequestError(f"run {run.name}: no serving.json in {run}; run its config again, it writes it")
        return Serving(run, read_json(checked(run, "serving.json")), Store(run.resolve().parent / "store"))

    def artifact(self, part: str) -> Path:
        """Folder of a part (corpus, vectors, index, base_index). Raises RequestError if the store lost it."""
        folder = self.store.get_or_discard(str(self.record["keys"][part]))
        if folder is None:
            raise RequestError(
                f"run {self.run.name}: its {part} is no longer in the store {self.store.root}; run its config again "
                f"(sdretrieval run {self.run / 'config.yaml'}), only what is missing is made"
            )
        return folder

    def smaller(self, name: str) -> Serving:
        """The same with the vectors, index and lengths of a smaller student. Raises RequestError if the run has none of
        this name."""
        found = self.record.get("smaller", {})
        if name not in found:
            known = f"it has: {', '.join(found)}" if found else "it made none (smaller or train.also in its config)"
            raise RequestError(f"run {self.run.name}: no smaller student {name!r}; {known}")
        one = found[name]
        record = {**self.record, **one, "keys": {**self.record["keys"], **one["keys"]}}
        return Serving(self.run, record, self.store)

    def corpus_folder(self) -> Path:
        """The corpus as `load_corpus` reads it."""
        return self.artifact("corpus") / "corpus"

    def corpus(self) -> Corpus:
        """The corpus as the run was measured on it: with those synthetic queries alone that were kept, and dev
        as a language model judged it, if one did."""
        from sdretrieval.corpus import load_corpus
        from sdretrieval.stages.collection import JUDGED, KEPT, with_grades, with_kept

        corpus = load_corpus(self.corpus_folder())
        if "queries" in self.record["keys"]:
            corpus = with_kept(corpus, read_json(self.artifact("queries") / KEPT)["kept"])
        if "judgements" in self.record["keys"]:
            corpus = with_grades(corpus, read_json(self.artifact("judgements") / JUDGED))
        return corpus

    def probabilities(self, *, words: bool = True) -> Probabilities:
        """What turns the final student's hits into probabilities; `words`: with BM25, which holds the documents',
        if the map asks for them."""
        from sdretrieval.indexes.probability import Probabilities, ProbabilityMap

        record = read_json(checked(self.run, PROBABILITY))
        found = ProbabilityMap.from_json(record["map" if words else "without_words"])
        return Probabilities(found, self.lexical() if found.reads_words else None, record["estimate"])

    def lexical(self) -> LexicalIndex:
        """The run's BM25."""
        from sdretrieval.indexes import LexicalIndex

        return LexicalIndex.load(self.artifact("lexical"))

    @cached_property
    def config(self) -> Config:
        """The resolved config that the run was made with. Not config.yaml: a later run that did not finish wrote it."""
        from sdretrieval.config import parse_config

        return parse_config(self.record["config"])

    def precision(self) -> Precision:
        """What the run encoded its texts in."""
        return "bfloat16" if self.config.student.encode_precision == "bfloat16" else "float32"

    def student(self, base: bool = False) -> Student:
        """The final student or, with `base`, the one that the run began with, as the run used them."""
        from sdretrieval.encode.locate import locate_model, model_digest
        from sdretrieval.encode.prompts import Prompts
        from sdretrieval.stages.run import student_from

        if not base:
            folder = checked(self.run, "student")
        else:
            recorded = Path(str(self.record["base"]))
            folder = recorded if recorded.is_dir() else locate_model(self.config.student.model)
            digest = model_digest(folder)
            if digest != self.record["base_digest"]:
                raise ModelError(
                    f"run {self.run.name}: the base student in {folder} has digest {digest}, the run began with "
                    f"{self.record['base_digest']}: the model was changed in between; run the config again"
                )
        # The recorded prompts: the model that they were found in need not be on this machine any more.
        return student_from(folder, self.config, Prompts(**self.record["prompts"]))


@dataclass(frozen=True)
class FoundModel:
    """A model as it is to be used: its folder, and how many tokens it sees of a document and of a query."""

    name: str
    folder: Path
    max_tokens: int
    query_tokens: int
    split_identifiers: bool = False
    """Whether BM25 beside it splits identifiers (a run on code says so)."""
    language: str = "auto"
    """What BM25 beside it stems as: a run's own choice, else what is recognised."""
    trust_remote_code: bool = False
    """Whether the model may run code of its own: only a run's config says so, never a name that was typed."""
    precision: Precision = "float32"
    """What it encodes in: the run's own, so that its vectors are those that the run measured."""


def find_model(
    name: str, runs: Path | None = None, max_tokens: int | None = None, query_tokens: int | None = None
) -> FoundModel:
    """The model that `name` means: a folder, a run (its final student, used as the run used it), or a hub id.

    `max_tokens` and `query_tokens` replace the run's, or those of `lengths_of`, so that a base is measured as a run
    measures it. Raises ModelError if it is none of these, RequestError if it is a run that is not finished.
    """
    from sdretrieval.encode.locate import locate_model
    from sdretrieval.encode.model_files import check_is_bi_encoder

    files = ("ledger.jsonl", "report.json")
    try:
        folders = [Path(name).expanduser(), runs_folder(runs) / name]
        is_run = any((folder / file).is_file() for folder in folders for file in files)
    except (OSError, ValueError, RuntimeError):  # no path: `locate_model` says why
        is_run = False
    if not is_run:
        try:
            folder = locate_model(name)
        except ModelError as problem:
            raise ModelError(f"{problem}. No run has this name either (runs in {runs_folder(runs)})") from None
        check_is_bi_encoder(name, folder)
        return FoundModel(name, folder, *lengths_of(folder, max_tokens, query_tokens))
    run = find_run(name, runs)  # raises if it is not finished
    serving = Serving.of(run)
    config, tokens = serving.config, max_tokens or int(serving.record["max_tokens"])
    folder = checked(run, "student")
    return FoundModel(
        name, folder, tokens, min(query_tokens or int(serving.record["query_tokens"]), tokens),
        config.mine.split_identifiers, config.mine.language, config.student.trust_remote_code, serving.precision(),
    )  # fmt: skip


def load_found(model: FoundModel, device: str = "auto") -> Student:
    """The model with its own prompts. Raises ModelError if it has fewer positions than were asked for."""
    from sdretrieval.encode.student import load_student
    from sdretrieval.indexes.lexical_half import with_half

    student = load_student(
        str(model.folder), max_tokens=model.max_tokens, query_tokens=model.query_tokens, device=device,
        trust_remote_code=model.trust_remote_code,
    )  # fmt: skip
    return with_half(student, model.folder)


def lengths_of(folder: Path, max_tokens: int | None = None, query_tokens: int | None = None) -> tuple[int, int]:
    """Tokens that are read of a document and of a query: what is asked for, else what a student that a run saved was
    measured with, else what a run takes that does not say. Never more than the model's positions."""
    from sdretrieval.config import StudentConfig
    from sdretrieval.encode.common_form import LENGTHS, QUERY_LENGTH
    from sdretrieval.encode.model_files import CARD, CONFIG, plain_folder, read_settings, words_folder
    from sdretrieval.encode.student import positions_in

    words, usual = words_folder(folder), StudentConfig(model=str(folder))
    queries = read_settings(plain_folder(folder) / CARD).get(QUERY_LENGTH)
    # The longest text that a model reads is a run's choice only if the run wrote the other length beside it.
    documents = read_settings(words / LENGTHS).get("max_seq_length") if queries else usual.max_tokens
    if not (words / CONFIG).is_file():  # a static model, whose tokenizer cuts
        cut = read_settings(words / "tokenizer.json").get("truncation") or {}
        documents = queries = cut.get("max_length")
    documents = documents if isinstance(documents, int) and documents > 0 else usual.max_tokens
    documents = max_tokens or min(documents, positions_in(read_settings(words / CONFIG)) or documents)
    queries = queries if isinstance(queries, int) and queries > 0 else usual.query_tokens or documents
    return documents, min(query_tokens or queries, documents)
