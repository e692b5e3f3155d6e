"""The public Python way of using the tool: `run_config`, `plan_config`, `probe_config`; the command line is a shell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdretrieval.config import Config, dump_config, load_config, warnings
from sdretrieval.config.conflicts import blind_to_order
from sdretrieval.encode.batches import usual_batch_tokens
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import save_student
from sdretrieval.encode.views import View
from sdretrieval.errors import RequestError, WorkError
from sdretrieval.evaluation import read_trec, write_trec
from sdretrieval.planner import (
    CANNOT_FORECAST,
    Budget,
    Calibration,
    Fitted,
    Forecast,
    Workload,
    fit,
    forecast,
    open_calibration,
    tune,
    windows_of,
    workload_of,
    worth_measuring,
    write_forecast,
)
from sdretrieval.report import build_details, build_report, figures_of
from sdretrieval.run.disk_needs import check_room
from sdretrieval.run.generations import Pipeline
from sdretrieval.run.outline import outline
from sdretrieval.run.preflight import (
    check_machine,
    check_models,
    check_stage_exists,
    check_student,
    check_until,
    check_verdicts,
)
from sdretrieval.stages.inputs import Prepared, prompts_of
from sdretrieval.store import Ledger, Store
from sdretrieval.store.run_folder import FORECAST, read_json, replace_folder, runs_folder, write_json, write_text
from sdretrieval.store.runner import Artifact, Planned, Runner, Stopped, ledger_by_address

logger = logging.getLogger("sdretrieval")


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, `report.json`, and what the HTML page shows beyond it."""

    folder: Path
    report: dict[str, Any]
    details: dict[str, Any]


def run_config(
    config: Config | str | Path,
    *,
    overrides: Sequence[str] = (),
    runs: Path | None = None,
    until: str | None = None,
    worker: bool = False,
) -> RunResult | None:
    """Run a config to its report, or up to the stage `until` (then None); finished stages come from the store.

    `worker`: make stages up to `until` in a store that another process uses as well (the teacher tier); it writes no
    run folder. Raises what errors.py draws; whatever was finished stays in the store.
    """
    config = config if isinstance(config, Config) else load_config(config, overrides)
    with open_run(config, runs=runs, until=until, worker=worker) as run, _threads_kept():
        try:
            if not worker:
                _measure_machine(run, runs_folder(runs) / config.name / FORECAST, until)
            run.run()
        except Stopped as reached:
            logger.info("stopped after %s, as asked", reached)
            return None
        if until is not None:  # and never as a worker: it does not hold the lock that the run's folder needs
            raise WorkError(
                f"--until {until}: the run ended without that stage, since a gate or the probe decided otherwise; "
                f"finished: {_stages(run)}. Everything is in the store: run again without --until for the report"
            )
        return finish_run(run, runs=runs)


@contextmanager
def open_run(
    config: Config, *, runs: Path | None = None, until: str | None = None, worker: bool = False
) -> Iterator[Pipeline]:
    """A run whose stages the caller asks for one by one (`pipelines/stdlib.py`); the store is locked meanwhile.

    What is asked for twice, or was made by an earlier run, is not made again. `finish_run` writes the report.
    Raises what `run_config` raises.
    """
    folder = runs_folder(runs) / config.name
    store = Store(runs_folder(runs) / "store")
    _check_request(config, store, until, worker)
    with store.lock(f"run {config.name}", exclusive=not worker):
        folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(folder / ("ledger.jsonl" if not worker else "worker.jsonl"))
        if not worker:
            write_text(folder / "config.yaml", dump_config(config))
        yield Pipeline(config, store, Runner(store, ledger, until=until, before=ledger_by_address(ledger)))


def _measure_machine(run: Pipeline, path: Path, until: str | None) -> None:
    """Tune this machine to the run; then say what the rest will take, and keep it in `path` for the report. A run of
    seconds goes without both."""
    if not worth_measuring(len(Prepared(run.corpus).corpus.documents)):
        return
    config, student = run.config, run.student(run.base.student)
    calibration = open_calibration(config.student.device)
    run.batch_tokens = _tuned(config, workload_of(config, student, {"0/corpus": run.corpus}), calibration)
    try:
        planned = planned_stages(config, run.store, until)
        load = workload_of(config, student, _made(planned, run.store))
        now = forecast(config, planned, load, calibration, run.batch_tokens)
    except CANNOT_FORECAST as problem:
        logger.warning("no forecast of this run (%s: %s); it goes on", type(problem).__name__, problem)
        return
    if now.stages:
        logger.info("%d stages to make: %s", len(now.stages), now.summary())
    write_forecast(path, now)


def _tuned(config: Config, load: Workload, calibration: Calibration) -> int | None:
    """Tokens of the student's batches; the threads are set for this process."""
    if not worth_measuring(load.documents):
        return config.student.batch_tokens
    windows = windows_of(load.reader, View(config.student.max_tokens))
    return tune(load.student, windows, calibration, config.student.batch_tokens).batch_tokens


def planned_stages(config: Config, store: Store, until: str | None = None) -> list[Planned]:
    """A dry run: every stage of every generation, cached or to run; generations that no gate has judged are accepted.

    What gates and probe decided is not said again.
    """
    ledger = Ledger(store.root.parent / config.name / "ledger.jsonl")
    runner = Runner(store, ledger, planning=True, until=until, before=ledger_by_address(ledger))
    logger.disabled = True
    try:
        Pipeline(config, store, runner).run()
    except Stopped:
        pass  # at `until`: what comes before it is the plan
    finally:
        logger.disabled = False
    return list({line.address: line for line in runner.plan}.values())


def _made(planned: Sequence[Planned], store: Store) -> dict[str, Artifact]:
    """What of a plan is in the store, by address."""
    return {stage.address: Artifact(stage.key, store.path_of(stage.key)) for stage in planned if stage.cached}


@contextmanager
def _threads_kept() -> Iterator[None]:
    """A run may choose its threads; the process that called it has its own again afterwards."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def plan_config(
    config: Config | str | Path, *, overrides: Sequence[str] = (), runs: Path | None = None
) -> list[Planned]:
    """Every stage of every generation, cached or to run, and why; runs nothing, takes generations as accepted."""
    config = config if isinstance(config, Config) else load_config(config, overrides)
    _say_settings(config)
    _check_settings(config)
    return planned_stages(config, Store(runs_folder(runs) / "store"))


def forecast_config(
    config: Config | str | Path,
    *,
    overrides: Sequence[str] = (),
    runs: Path | None = None,
    budget: Budget | None = None,
    again: bool = False,
) -> Fitted:
    """What a run would take: work, seconds and memory of the stages that the store lacks. Runs nothing.

    The texts are sampled and this machine is measured for a few seconds; what is measured is kept in the user's
    cache (SDRETRIEVAL_CACHE), and measured again with `again`. With a `budget`, settings are changed until it is met.
    Raises RequestError if no change makes it fit, and what `run_config` refuses.
    """
    config = config if isinstance(config, Config) else load_config(config, overrides)
    store = Store(runs_folder(runs) / "store")
    _check_settings(config)
    with _threads_kept():
        load = workload_of(config, check_student(config), _made(planned_stages(config, store), store))
        calibration = open_calibration(config.student.device, again=again)
        batch_tokens = _tuned(config, load, calibration)

        def forecast_of(config: Config) -> Forecast:
            return forecast(config, planned_stages(config, store), load, calibration, batch_tokens)

        if budget is None:
            return Fitted(config, [], forecast_of(config))
        return fit(config, forecast_of, budget, batch_tokens or usual_batch_tokens(load.student.model.device.type))


def probe_config(
    config: Config | str | Path, *, overrides: Sequence[str] = (), runs: Path | None = None
) -> dict[str, Any]:
    """Teacher headroom on the base student's own candidates: each mixture's difference, interval, and the advice."""
    config = config if isinstance(config, Config) else load_config(config, overrides)
    if blind := blind_to_order(config):
        raise RequestError(f"probe: gate.measure: {blind}")
    with open_stages(config, lambda pipeline: pipeline.probe, "probe", runs=runs) as pipeline:
        return pipeline.probe_record()


@contextmanager
def open_stages(
    config: Config, walk: Callable[[Pipeline], object], what: str, *, runs: Path | None = None
) -> Iterator[Pipeline]:
    """A pipeline of which only the stages that `walk` asks for are wanted, for `what`; no report is written.

    They are checked before long work, made under the store's lock, and found again by a later run.

    Raises what `run_config` raises.
    """
    store = Store(runs_folder(runs) / "store")
    _check_request(config, store, None, False, walk)
    with store.lock(f"{what} {config.name}"):
        folder = runs_folder(runs) / config.name
        folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(folder / "ledger.jsonl")
        yield Pipeline(config, store, Runner(store, ledger, before=ledger_by_address(ledger)))


def _check_request(
    config: Config, store: Store, until: str | None, worker: bool, walk: Callable[[Pipeline], object] = Pipeline.run
) -> None:
    """Everything that can be refused before long work, what needs least time first."""
    _say_settings(config)
    _check_settings(config)
    if until is not None:
        check_until(until, config.generations)
    if worker and until is None:
        raise RequestError("--worker needs --until: the stage up to which this process works, such as 1/score")
    stages, met = outline(config, store, until, walk)
    if until is not None and not met:
        check_stage_exists(until, stages, config.generations)
    store.root.mkdir(parents=True, exist_ok=True)
    check_room(config, store, stages, check_student(config))


def _check_settings(config: Config) -> None:
    """What a plan refuses as well: it loads no model."""
    check_verdicts(config)
    check_models(config)
    check_machine(config)


def _say_settings(config: Config) -> None:
    """What a user should know of the config before anything begins."""
    for warning in warnings(config):
        logger.warning("%s", warning)
    found = prompts_of(config)
    if found.prompts != Prompts():
        logger.info("%s", found.line(config.student.model))
    doubt = found.doubt(config.student.model)
    if doubt:
        logger.warning("%s", doubt)


def _stages(pipeline: Pipeline) -> str:
    return ", ".join(dict.fromkeys(record["stage"] for record in pipeline.runner.records))


def _config_text(pipeline: Pipeline) -> str:
    """The resolved config; where it says auto of a number format, the one that was measured stands above it."""
    config = pipeline.config
    asked = {"student.encode_precision": config.student.encode_precision, "train.precision": config.train.precision}
    if "auto" not in asked.values():
        return dump_config(config)
    measured = pipeline.measured_precision("auto")
    assert measured is not None
    found = read_json(measured.path / "precision.json")
    formats = dict(zip(asked, (found["encode"], found["train"]), strict=True))
    told = ", ".join(f"{name} {formats[name]}" for name, value in asked.items() if value == "auto")
    return (
        f"# auto was measured where this ran: {told}. The store keeps to that; for the same on another machine, "
        f"write it below.\n{dump_config(config)}"
    )


def finish_run(pipeline: Pipeline, *, runs: Path | None = None) -> RunResult:
    """Write the student, runs and report of a run that was measured to its end into its folder."""
    folder = runs_folder(runs) / pipeline.config.name
    write_text(folder / "config.yaml", _config_text(pipeline))
    figures = figures_of(pipeline)
    forecast = read_json(folder / FORECAST) if (folder / FORECAST).exists() else {}
    report = build_report(pipeline, figures, forecast)
    details = build_details(pipeline, figures, report)
    for name in (
        "serving.json",
        "report.json",
    ):  # whoever is interrupted here has no finished run, rather than a new student with old figures
        (folder / name).unlink(missing_ok=True)
    _write_student(pipeline, folder / "student")
    _write_runs(pipeline, folder)
    write_json(folder / "details.json", details)
    from sdretrieval.report.page import render

    write_text(folder / "report.html", render(report, details))
    write_json(folder / "serving.json", _serving(pipeline))
    write_json(folder / "report.json", report)
    return RunResult(folder, report, details)


def _write_student(pipeline: Pipeline, folder: Path) -> None:
    """The final student with its views and prompts, as a plain sentence-transformers folder."""
    fresh = folder.with_name("student.made")
    student = pipeline.student(pipeline.final.student)
    documents = student.document_encoder
    if pipeline.query_side and pipeline.final.key != pipeline.base.key:
        documents = pipeline.student(pipeline.base.student).document_model
        logger.info("only the query encoder learned: a document index that the base student made stays valid")
    with _emptied(fresh):
        save_student(student.model, fresh, documents)
        replace_folder(fresh, folder)


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_runs(pipeline: Pipeline, folder: Path) -> None:
    """`runs/`, whole: an earlier run under this name may have had other systems."""
    fresh = folder / "runs.made"
    with _emptied(fresh):
        fresh.mkdir(parents=True)
        for system in pipeline.systems:
            for split, artifact in system.runs.items():
                write_trec(read_trec(artifact.path / "run.trec"), fresh / f"{system.name}.{split}.trec", system.name)
        replace_folder(fresh, folder / "runs")


def _serving(pipeline: Pipeline) -> dict[str, Any]:
    """Where search and export find what they need, by store key."""
    keys = {
        "corpus": pipeline.corpus.key,
        "vectors": pipeline.final_vectors.key,
        "index": pipeline.final_index.key,
        "base_index": pipeline.index("1/index", pipeline.student_vectors("1/encode", pipeline.base)).key,
    }
    if pipeline.judged is not pipeline.corpus:
        keys["queries"] = pipeline.judged.key
    if pipeline.generations:
        keys["scores"] = pipeline.generations[0].scores.key
    student = pipeline.student(pipeline.final.student)
    return {
        "keys": keys,
        "weights": pipeline.weights() if pipeline.generations else [],
        "base": str(pipeline.base.student),
        "base_digest": pipeline.base.key,
        "max_tokens": student.view.max_tokens,
        "query_tokens": student.query_view.max_tokens,
        "prompts": {"query": student.prompts.query, "document": student.prompts.document},
        "config": pipeline.config.model_dump(mode="json"),
    }
