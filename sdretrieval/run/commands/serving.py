"""A finished run's parts in the store: corpus, index and student, for search, comparison and export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdretrieval.corpus import Corpus, load_corpus
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.prompts import Prompts
from sdretrieval.errors import ModelError, RequestError
from sdretrieval.stages.inputs import KEPT, with_kept
from sdretrieval.store import Store
from sdretrieval.store.run_folder import read_json

if TYPE_CHECKING:
    from sdretrieval.config import Config
    from sdretrieval.encode.encoder import Precision
    from sdretrieval.encode.student import Student


@dataclass(frozen=True)
class Serving:
    """What `serving.json` of a run says, and the store beside it."""

    run: Path
    record: dict[str, Any]
    store: Store

    def artifact(self, part: str) -> Path:
        """Folder of a part (corpus, vectors, index, base_index). Raises RequestError where the store lost it."""
        key = str(self.record["keys"][part])
        folder = self.store.get_or_discard(key)
        if folder is None:
            raise RequestError(
                f"run {self.run.name}: its {part} is no longer in the store {self.store.root}; run its config again "
                f"(sdretrieval run {self.run / 'config.yaml'}), only what is missing is made"
            )
        return folder

    def corpus_folder(self) -> Path:
        """The corpus as `load_corpus` reads it."""
        return self.artifact("corpus") / "corpus"

    def corpus(self) -> Corpus:
        """The corpus as the run was measured on it: of queries made from documents, those that were kept."""
        corpus = load_corpus(self.corpus_folder())
        if "queries" not in self.record["keys"]:
            return corpus
        return with_kept(corpus, read_json(self.artifact("queries") / KEPT)["kept"])

    def config(self) -> Config:
        """The resolved config that the run was made with. Not config.yaml: a later run that did not finish wrote it."""
        from sdretrieval.config import parse_config

        return parse_config(self.record["config"])

    def precision(self) -> Precision:
        """What the run encoded its texts in; where its config says auto, what was measured for its final vectors.

        float32 where that measurement left the store.
        """
        asked = self.config().student.encode_precision
        measured = self._measured_precision() if asked == "auto" else None
        return "bfloat16" if asked == "bfloat16" or measured == "bfloat16" else "float32"

    def _measured_precision(self) -> str | None:
        made_of = self.store.manifest(self.artifact("vectors").name).inputs
        for key in made_of:
            folder = self.store.path_of(key)
            if (folder / "precision.json").is_file():
                return str(read_json(folder / "precision.json").get("encode"))  # absent in earlier versions
        return None

    def student(self, base: bool = False) -> Student:
        """The final student or, with `base`, the one that the run began with, seen as the run saw them."""
        from sdretrieval.stages.inputs import student_from

        # The recorded prompts: the model that they were found in need not be on this machine any more.
        prompts = Prompts(**self.record["prompts"])
        return student_from(self._base() if base else self.run / "student", self.config(), prompts)

    def _base(self) -> Path:
        recorded = Path(str(self.record["base"]))
        folder = recorded if recorded.is_dir() else locate_model(self.config().student.model)
        found = model_digest(folder)
        if found != self.record["base_digest"]:
            raise ModelError(
                f"run {self.run.name}: the base student in {folder} has digest {found}, the run began with "
                f"{self.record['base_digest']}: the model was changed in between; run the config again"
            )
        return folder


def serving_of(run: Path) -> Serving:
    """What a finished run left for serving. Raises RequestError where it left nothing."""
    return Serving(run, serving_record(run), Store(run.resolve().parent / "store"))


def serving_record(run: Path) -> dict[str, Any]:
    """`serving.json`. Raises RequestError where there is none, or one of an earlier version."""
    path = run / "serving.json"
    record = read_json(path) if path.is_file() else {}
    if "config" not in record:
        found = "no serving.json" if not record else "a serving.json of an earlier version"
        raise RequestError(f"run {run.name}: {found} in {run}; run its config again, it writes it")
    return record
