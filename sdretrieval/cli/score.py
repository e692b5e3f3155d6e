"""`score`: the pairs that a teacher must judge, written to be scored elsewhere; and the scores that a teacher gave,
written to be used elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.live import live_table
from sdretrieval.cli.lookup import config_or_run
from sdretrieval.cli.options import ConfigOrRun, Json, Runs, Settings
from sdretrieval.cli.output import print_json, say, stdout_kept_clean
from sdretrieval.cli.show import finished_stages
from sdretrieval.errors import RequestError
from sdretrieval.formatting import quantity
from sdretrieval.store import Ledger, Store

if TYPE_CHECKING:
    from sdretrieval.config import Config
    from sdretrieval.corpus import Corpus
    from sdretrieval.ragged import Array, Ragged
    from sdretrieval.stages.run import Run
    from sdretrieval.teachers.pairs import Pair

Stages = Mapping[str, Mapping[str, Any]]
"""Records of the ledger, by address."""
SCORE = "score"
"""The column that an import reads: the only member's raw score, or the mixture of the calibrated ones."""


def score_command(
    target: ConfigOrRun,
    pairs: Annotated[Path | None,
        typer.Option(metavar="FILE",
            help="write the pairs to score, with their texts (.tsv, .tsv.gz, .parquet)")] = None,
    export: Annotated[Path | None,
        typer.Option(metavar="FILE",
            help="write the teacher's scores: query, document, score (.tsv, .tsv.gz, .parquet)")] = None,
    generation: Annotated[int, typer.Option(min=1, help="the generation whose lists are scored")] = 1,
    teacher_row: Annotated[bool,
        typer.Option("--teacher-row",
            help="with --pairs: also the pairs of the report's row of the teacher, teacher@student_0")] = False,
    settings: Settings = None, runs: Runs = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Score elsewhere: write the pairs that need a score, or the scores that a teacher gave."""
    if (pairs is None) == (export is None):
        raise RequestError("score: give one of --pairs FILE (what is to be scored) and --export FILE (what was scored)")
    if teacher_row and export is not None:
        raise RequestError(
            "--teacher-row goes with --pairs: the scores of that row are of dev and test, not for training"
        )
    with stdout_kept_clean(), live_table():
        if pairs is not None:
            record = pairs_to_score(
                target, pairs, generation=generation, teacher_row=teacher_row, overrides=settings or (), runs=runs
            )
        else:
            assert export is not None
            record = scores_said(target, export, generation=generation, overrides=settings or (), runs=runs)
    if as_json:
        print_json(record)
    elif pairs is not None:
        parts = ", ".join(f"{name} {count:,}" for name, count in record["parts"].items())
        say(
            f"{record['file']}: {quantity(record['pairs'], 'pairs')} of {quantity(record['queries'], 'queries')} and "
            f"{quantity(record['documents'], 'documents')} ({parts})",
            "Score them with any model, write query, document, score to a file, and name it in the config:",
            "  teacher: {kind: scores, file: FILE}",
        )
    else:
        mixed = [f"{weight:g} {name}" for name, weight in record["weights"].items()]
        raw = f"raw, of {next(iter(record['weights']))}"
        meaning = f"the mixture of {' + '.join(mixed)}, calibrated" if len(mixed) > 1 else raw
        say(
            f"{record['file']}: {quantity(record['pairs'], 'pairs')} of {quantity(record['queries'], 'queries')}; "
            f"score: {meaning}",
            f"columns: {', '.join(record['columns'])}",
        )


def pairs_to_score(
    target: str | Path | Config, file: str | Path, *, generation: int = 1, teacher_row: bool = False,
    overrides: Sequence[str] = (), runs: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the pairs that a generation's teacher must judge, with their texts, to a .tsv, .tsv.gz or .parquet file.

    These are the training queries' lists and the dev queries' documents that the probe asks about, if there is one.
    `teacher_row`: also those of the report's row teacher@student_0 or teacher@pretrained. What is needed is made first.
    Raises what `run_config` raises, and RequestError for a file that cannot be written.
    """
    from sdretrieval.config.conflicts import probes
    from sdretrieval.mining.candidates import Candidates
    from sdretrieval.run.api import open_stages, run_config
    from sdretrieval.run.loop import begin, mine_base
    from sdretrieval.stages.imported import write_texts_of
    from sdretrieval.stages.probe import probe_pool, rerank_pool
    from sdretrieval.store.runner import ledger_by_address
    from sdretrieval.teachers.pairs import check_target

    file = Path(file)
    check_target(file)
    config, root, _ = config_or_run(target, overrides, runs)
    _check_generation(generation, config)
    if teacher_row and generation > 1:
        raise RequestError(
            f"--teacher-row with --generation {generation}: that row is measured once, on the base student's lists; "
            "ask for it with --generation 1"
        )
    if generation > 1:  # its student is made by the generation before
        run_config(config, runs=root, until=f"{generation}/mine")

    def mine(run: Run) -> Path:
        return mine_base(begin(run)).path

    with open_stages(config, mine, "score", runs=root) as run:
        base = begin(run)
        stages = {} if generation == 1 else ledger_by_address(run.runner.ledger)
        folder = mine_base(base).path if generation == 1 else _artifact(run.store, stages, f"{generation}/mine")
        candidates = Candidates.load(folder)
        pools: dict[str, tuple[Array, Ragged]] = {"train": (candidates.query_rows_Q, candidates.rows)}
        if generation == 1 and probes(config):
            pools["probe"] = probe_pool(base.run, base.collection, base.lexical, base.vectors, base.index)
        for split in run.splits if teacher_row else ():
            pools[f"teacher_row:{split}"] = rerank_pool(base.run, base.collection, split, base.vectors, base.index)
        parts = {name: _pairs(base.collection.corpus, *pool) for name, pool in pools.items()}
        pairs = list(dict.fromkeys(pair for part in parts.values() for pair in part))
        write_texts_of(file, base.collection, pairs)
    return {
        "file": str(file),
        "generation": generation,
        "pairs": len(pairs),
        "queries": len({query for query, _ in pairs}),
        "documents": len({document for _, document in pairs}),
        "parts": {name: len(part) for name, part in parts.items()},
    }


def _pairs(corpus: Corpus, query_rows: Array, lists: Ragged) -> list[Pair]:
    queries, documents = corpus.query_ids, corpus.document_ids
    return [
        (queries[row], documents[document])
        for row, listed in zip(query_rows.tolist(), lists, strict=True)
        for document in listed.tolist()
    ]


def scores_said(
    target: str | Path | Config, file: str | Path, *, generation: int = 1,
    overrides: Sequence[str] = (), runs: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the scores that the configured teacher gave a generation's lists: query, document, score, one line a pair.

    `score` is the only member's raw score; of several, the mixture of the calibrated ones, beside a column of raw
    scores for each. A config is run up to its stage `score`; a finished run is only read.
    Raises what `run_config` raises, and RequestError for a file that cannot be written, or what left the store.
    """
    import numpy as np

    from sdretrieval.config.conflicts import by_probe
    from sdretrieval.corpus import load_corpus
    from sdretrieval.mining.candidates import Candidates
    from sdretrieval.run.api import run_config
    from sdretrieval.stages.targets import MixtureWeights
    from sdretrieval.store.runner import Artifact, ledger_by_address
    from sdretrieval.teachers.ensemble import TeacherScores
    from sdretrieval.teachers.pairs import check_target, write_scores

    file = Path(file)
    check_target(file)
    config, root, finished = config_or_run(target, overrides, runs)
    _check_generation(generation, config)
    if not finished:
        run_config(config, runs=root, until=f"{generation}/score")
    store, ledger = Store(root / "store"), Ledger(root / config.name / "ledger.jsonl")
    stages = finished_stages(ledger.path.parent) if finished else ledger_by_address(ledger)
    corpus = load_corpus(_artifact(store, stages, "0/corpus") / "corpus")
    _require_one_pass(stages, generation, config.name)
    candidates = Candidates.load(_artifact(store, stages, f"{generation}/mine"))
    scores = TeacherScores.load(_artifact(store, stages, f"{generation}/score"))
    chosen_by = None
    if by_probe(config):
        folder = _artifact(store, stages, "0/probe")
        chosen_by = Artifact(folder.name, folder)
    weights = MixtureWeights(config, chosen_by).values()
    unknown = scores.unknown(weights)
    kept = np.arange(len(candidates.rows.values_T)) if unknown is None else np.flatnonzero(~unknown.values_T)
    pairs = _pairs(corpus, candidates.query_rows_Q, candidates.rows)
    columns: dict[str, Array] = {SCORE: scores.members[0].raw.values_T}
    if len(scores.members) > 1:
        columns = {SCORE: scores.mixed(weights).values_T, **{one.name: one.raw.values_T for one in scores.members}}
    columns = {name: values[kept] for name, values in columns.items()}
    write_scores(file, [pairs[at] for at in kept.tolist()], columns)
    return {
        "file": str(file),
        "generation": generation,
        "pairs": len(kept),
        "queries": len(candidates),
        "columns": ["query", "document", *columns],
        "weights": {member.name: weight for member, weight in zip(scores.members, weights, strict=True)},
    }


def _require_one_pass(stages: Stages, generation: int, name: str) -> None:
    """Raise RequestError if the lists that come last in the ledger are not those that were scored."""
    mined, scored = stages.get(f"{generation}/mine"), stages.get(f"{generation}/score")
    if mined and scored and mined["key"] not in scored["inputs"]:
        raise RequestError(
            f"run {name}: its last lists ({generation}/mine) are not those that were scored, another config was used "
            "under this name since; run the config again"
        )


def _check_generation(generation: int, config: Config) -> None:
    if not 1 <= generation <= config.generations:
        raise RequestError(
            f"--generation {generation}: the config has {quantity(config.generations, 'generations')}; expected 1 to "
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
