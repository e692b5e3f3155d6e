"""`score`: the pairs that a teacher must judge, written to be scored elsewhere; and what a teacher said, written to be
used elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.config import Config, load_config, members_of
from sdretrieval.corpus import Corpus, load_corpus
from sdretrieval.errors import RequestError
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.run.api import open_stages, run_config
from sdretrieval.run.commands.lineage import finished_stages
from sdretrieval.run.commands.serving import serving_of
from sdretrieval.run.generations import Pipeline
from sdretrieval.stages.guests import write_texts_of
from sdretrieval.stages.teach import chosen_weights
from sdretrieval.store import Ledger, Store
from sdretrieval.store.run_folder import find_run, read_json, runs_folder
from sdretrieval.store.runner import ledger_by_address
from sdretrieval.teachers.ensemble import TeacherScores
from sdretrieval.teachers.pairs import Pair, check_target, write_scores

Stages = Mapping[str, Mapping[str, Any]]
"""Records of the ledger, by address."""
SCORE = "score"
"""The column that an import reads: the only member's raw score, or the mixture of the calibrated ones."""


@dataclass(frozen=True)
class Asked:
    """A config, and where its runs lie; `finished` where a run was named instead of a config's file."""

    config: Config
    runs: Path
    finished: bool

    @staticmethod
    def of(target: str | Path | Config, overrides: Sequence[str], runs: Path | None) -> Asked:
        """From a config, its file, or a run's name or folder. Raises ConfigError and RequestError where it is none."""
        root = runs_folder(runs)
        if isinstance(target, Config):
            return Asked(target, root, False)
        path = Path(target)
        if path.is_file() or path.suffix in (".yaml", ".yml"):
            return Asked(load_config(path, overrides), root, False)
        folder = find_run(str(target), runs)
        if overrides:
            raise RequestError(f"--set changes a config's file; {target} is a run, which is as it was made")
        return Asked(serving_of(folder).config(), folder.parent, True)

    def stages(self) -> Stages:
        """The run's stages by address: of a finished run those that it was finished with."""
        ledger = Ledger(self.runs / self.config.name / "ledger.jsonl")
        return finished_stages(ledger.read()) if self.finished else ledger_by_address(ledger)


def pairs_to_score(
    target: str | Path | Config,
    file: str | Path,
    *,
    generation: int = 1,
    teacher_row: bool = False,
    overrides: Sequence[str] = (),
    runs: Path | None = None,
) -> dict[str, Any]:
    """Write the pairs that a generation's teacher must judge, with their texts, to a .tsv, .tsv.gz or .parquet file.

    These are the training queries' lists and, where weights are auto, the dev queries' documents that the probe asks
    about. `teacher_row`: also those of the report's row teacher@student_0. What is needed is made first.
    Raises what `run_config` raises, and RequestError for a file that cannot be written.
    """
    file = Path(file)
    check_target(file)
    asked = Asked.of(target, overrides, runs)
    _check_generation(generation, asked.config)
    if teacher_row and generation > 1:
        raise RequestError(
            f"--teacher-row with --generation {generation}: that row is measured once, on the base student's lists; "
            "ask for it with --generation 1"
        )
    if generation > 1:  # its student is made by the generation before
        run_config(asked.config, runs=asked.runs, until=f"{generation}/mine")
    with open_stages(asked.config, _mined_first, "score", runs=asked.runs) as pipeline:
        parts = {"train": _listed(pipeline, generation)}
        if generation == 1:
            parts |= _measured(pipeline, teacher_row)
        pairs = list(dict.fromkeys(pair for part in parts.values() for pair in part))
        write_texts_of(file, pipeline.prepared, pairs)
    return {
        "file": str(file),
        "generation": generation,
        "pairs": len(pairs),
        "queries": len({query for query, _ in pairs}),
        "documents": len({document for _, document in pairs}),
        "parts": {name: len(part) for name, part in parts.items()},
    }


def _mined_first(pipeline: Pipeline) -> None:
    pipeline.mine(1, pipeline.base)


def _listed(pipeline: Pipeline, generation: int) -> list[Pair]:
    """The training lists' pairs."""
    if generation == 1:
        folder = pipeline.mine(1, pipeline.base).path
    else:
        folder = _artifact(pipeline.store, ledger_by_address(pipeline.runner.ledger), f"{generation}/mine")
    candidates = Candidates.load(folder)
    return _pairs(pipeline.prepared.corpus, candidates.query_rows_Q, candidates.rows)


def _measured(pipeline: Pipeline, teacher_row: bool) -> dict[str, list[Pair]]:
    """The pairs of what is measured: the probe's, where it chooses the weights, and the report's row of the teacher."""
    pools: dict[str, tuple[Array, Ragged]] = {}
    if pipeline.auto_weights():
        pools["probe"] = pipeline.probe_pool()
    if teacher_row:
        pools |= {f"teacher_row:{split}": pipeline.rerank_pool(split) for split in pipeline.splits}
    return {name: _pairs(pipeline.prepared.corpus, *pool) for name, pool in pools.items()}


def _pairs(corpus: Corpus, query_rows: Array, lists: Ragged) -> list[Pair]:
    queries, documents = corpus.query_ids, corpus.document_ids
    return [
        (queries[row], documents[document])
        for row, listed in zip(query_rows.tolist(), lists, strict=True)
        for document in listed.tolist()
    ]


def scores_said(
    target: str | Path | Config,
    file: str | Path,
    *,
    generation: int = 1,
    overrides: Sequence[str] = (),
    runs: Path | None = None,
) -> dict[str, Any]:
    """Write what the configured teacher said of a generation's lists: query, document, score, one line a pair.

    `score` is the only member's raw score; of several, the mixture of the calibrated ones, beside a column of raw
    scores for each. A config is run up to its stage `score`; a finished run is only read.
    Raises what `run_config` raises, and RequestError for a file that cannot be written, or what left the store.
    """
    file = Path(file)
    check_target(file)
    asked = Asked.of(target, overrides, runs)
    _check_generation(generation, asked.config)
    if not asked.finished:
        late = generation == 1 and _by_agreement(asked.config)  # the mixture's weights come after the scores then
        run_config(asked.config, runs=asked.runs, until="0/agreement" if late else f"{generation}/score")
    store, stages = Store(asked.runs / "store"), asked.stages()
    corpus = load_corpus(_artifact(store, stages, "0/corpus") / "corpus")
    _require_one_pass(stages, generation, asked.config.name)
    candidates = Candidates.load(_artifact(store, stages, f"{generation}/mine"))
    scores = TeacherScores.load(_artifact(store, stages, f"{generation}/score"))
    weights = _weights(asked.config, store, stages)
    unknown = scores.unknown(weights)
    kept = np.arange(len(candidates.rows.values_T)) if unknown is None else np.flatnonzero(~unknown.values_T)
    pairs = _pairs(corpus, candidates.query_rows_Q, candidates.rows)
    columns = {name: values[kept] for name, values in _columns(scores, weights).items()}
    write_scores(file, [pairs[at] for at in kept.tolist()], columns)
    return {
        "file": str(file),
        "generation": generation,
        "pairs": len(kept),
        "queries": len(candidates),
        "columns": ["query", "document", *columns],
        "weights": {member.name: weight for member, weight in zip(scores.members, weights, strict=True)},
    }


def _columns(scores: TeacherScores, weights: Sequence[float]) -> dict[str, Array]:
    if len(scores.members) == 1:
        return {SCORE: scores.members[0].raw.values_T}
    return {SCORE: scores.mixed(weights).values_T, **{one.name: one.raw.values_T for one in scores.members}}


def _weights(config: Config, store: Store, stages: Stages) -> list[float]:
    if not any(member.weight == "auto" for member in members_of(config.teacher)):
        return chosen_weights(config, None)
    name = "agreement" if _by_agreement(config) else "probe"
    return chosen_weights(config, read_json(_artifact(store, stages, f"0/{name}") / f"{name}.json"))


def _by_agreement(config: Config) -> bool:
    auto = any(member.weight == "auto" for member in members_of(config.teacher))
    return auto and getattr(config.teacher, "weights_by", "dev") == "agreement"


def _require_one_pass(stages: Stages, generation: int, name: str) -> None:
    """Raise RequestError where the lists that stand last in the ledger are not those that were scored."""
    mined, scored = stages.get(f"{generation}/mine"), stages.get(f"{generation}/score")
    if mined and scored and mined["key"] not in scored["inputs"]:
        raise RequestError(
            f"run {name}: its last lists ({generation}/mine) are not those that were scored, another config was used "
            "under this name since; run the config again"
        )


def _check_generation(generation: int, config: Config) -> None:
    if not 1 <= generation <= config.generations:
        raise RequestError(
            f"--generation {generation}: the config has {config.generations} generation(s); expected 1 to "
            f"{config.generations}"
        )


def _artifact(store: Store, stages: Stages, address: str) -> Path:
    record = stages.get(address)
    folder = store.get_or_discard(record["key"]) if record is not None else None
    if folder is None:
        raise RequestError(
            f"the stage {address} is not in the store {store.root}: it was not made, or gc removed it; run the config "
            "again, it makes what is missing"
        )
    return folder
