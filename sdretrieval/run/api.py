"""The public Python way of using the tool: `run_config`, `plan_config`, `probe_config`; the command line is a shell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sdretrieval.config import (
    Config,
    dump_config,
    load_config,
    members_of,
    teacher_section,
    with_own_teachers,
)
from sdretrieval.config.conflicts import blind_to_order
from sdretrieval.encode.batches import usual_batch_tokens
from sdretrieval.encode.views import View
from sdretrieval.errors import ModelError, RequestError, WorkError
from sdretrieval.files import read_json
from sdretrieval.formatting import quantity
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
from sdretrieval.progress import run_progress
from sdretrieval.run.loop import begin, loop, probe_base
from sdretrieval.run.preflight import check_request, check_settings, check_student, refuse_all, settings_checks
from sdretrieval.run.prices import prices_of, with_prices
from sdretrieval.run.write import RunResult, finish_run, write_config
from sdretrieval.stages.corpus import collect
from sdretrieval.stages.precision import number_format
from sdretrieval.stages.run import Run
from sdretrieval.stages.teachers import member_names
from sdretrieval.store import Ledger, Store
from sdretrieval.store.run_folder import FORECAST, runs_folder
from sdretrieval.store.runner import Artifact, Planned, Runner, Stopped, ledger_by_address
from sdretrieval.units import Address

logger = logging.getLogger("sdretrieval")

__all__ = [
    "RunResult",
    "dry_run",
    "finish_run",
    "forecast_config",
    "open_run",
    "open_stages",
    "plan_config",
    "probe_config",
    "run_config",
]


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
    with open_run(config, runs=runs, until=until, worker=worker) as run, threads_kept():
        try:
            if not worker:
                tune_and_forecast(run, until)
            results = loop(run)
        except Stopped:
            return None
        if until is not None:  # and never as a worker: it does not hold the lock that the run's folder needs
            made = ", ".join(dict.fromkeys(record["stage"] for record in run.runner.records))
            raise WorkError(
                f"--until {until}: the run ended without that stage, since a gate or the probe decided otherwise; "
                f"finished: {made}. Everything is in the store: run again without --until for the report"
            )
        return finish_run(results)


@contextmanager
def open_run(
    config: Config, *, runs: Path | None = None, until: str | None = None, worker: bool = False
) -> Iterator[Run]:
    """A run, checked, with its store locked, for `loop(run)` and `finish_run(results)`, or for single stages.

    What was made by an earlier run is not made again. Raises what `run_config` raises.
    """
    store = Store(runs_folder(runs) / "store")
    planned = check_request(config, store, until, worker, dry_run)
    run_progress.restart()
    run_progress.expect([one.address for one in planned])
    with store.lock(f"run {config.name}", exclusive=not worker):
        folder = runs_folder(runs) / config.name
        folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(folder / ("ledger.jsonl" if not worker else "worker.jsonl"))
        if not worker:
            write_config(folder, dump_config(config), config)
        run = Run(config, Runner(store, ledger, until=until, before=ledger_by_address(ledger)))
        yield run
        run.runner.say_reused()


@contextmanager
def open_stages(
    config: Config, stages: Callable[[Run], object], what: str, *, runs: Path | None = None
) -> Iterator[Run]:
    """A run of which only `stages` are wanted, for `what`; no report is written.

    They are checked before long work, made under the store's lock, and found again by a later run.
    Raises what `run_config` raises.
    """
    store = Store(runs_folder(runs) / "store")
    planned = check_request(config, store, None, False, lambda *args, **how: dry_run(*args, stages=stages, **how))
    run_progress.restart()
    run_progress.expect([one.address for one in planned])
    with store.lock(f"{what} {config.name}"):
        folder = runs_folder(runs) / config.name
        folder.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(folder / "ledger.jsonl")
        run = Run(config, Runner(store, ledger, before=ledger_by_address(ledger)))
        yield run
        run.runner.say_reused()


def dry_run(
    config: Config, store: Store, until: str | None = None, *, assume: bool = False,
    stages: Callable[[Run], object] = loop,
) -> list[Planned]:  # fmt: skip
    """Every stage of every generation, each address once: cached or to run, and why. Makes nothing.

    Gates and probes that have decided are believed, others are taken to say yes; with `assume` all are.
    """
    ledger = Ledger(store.root.parent / config.name / "ledger.jsonl")
    runner = Runner(store, ledger, dry=True, assume=assume, until=until, before=ledger_by_address(ledger))
    with suppress(Stopped):  # at `until`: what comes before it is the plan
        stages(Run(config, runner))
    return list({line.address: line for line in runner.planned}.values())


def tune_and_forecast(run: Run, until: str | None) -> None:
    """Tune this machine to the run, as a step of its own; then say what the rest will take, and keep that for the
    report. A run of seconds goes without both. A forecast changes nothing of the run."""
    config, collection = run.config, collect(run)
    if not worth_measuring(len(collection.corpus.documents)):
        return
    run_progress.begin("forecast")
    for task in ("encode", "train"):  # what auto means here, before the threads change
        number_format(run, task)
    try:
        student, calibration = run.student(run.base.student), open_calibration(config.student.device)
        planned = dry_run(config, run.store, until)
        load = workload_of(config, student, _made(planned, run.store))
        run.batch_tokens = _tuned(config, load, calibration)
        now = forecast(config, planned, load, calibration, run.batch_tokens)
        run_progress.expect([one.address for one in planned], now.seconds_of)
        if now.stages:
            logger.info("%s to make: %s", quantity(len(now.stages), "stages"), now.summary())
        write_forecast(run.folder / FORECAST, now)
        paces = ((Address.of(address).unmarked, one.pace) for address, one in now.stages.items())
        run.expected = {address: pace for address, pace in paces if pace is not None}
    except ModelError:  # of a teacher that was tried: its own stage would fail, hours later
        raise
    except CANNOT_FORECAST as problem:
        logger.warning("no tuning and no forecast of this run (%s: %s); it goes on", type(problem).__name__, problem)


def _tuned(config: Config, load: Workload, calibration: Calibration) -> int | None:
    """Tokens of the student's batches; the threads are set for this process."""
    if not worth_measuring(load.documents):
        return config.student.batch_tokens
    windows = windows_of(load.reader, View(config.student.max_tokens))
    return tune(load.student, windows, calibration, config.student.batch_tokens).batch_tokens


def _made(planned: Sequence[Planned], store: Store) -> Mapping[str, Artifact]:
    """What of a plan is in the store, by address."""
    return {stage.address: Artifact(stage.key, store.path_of(stage.key)) for stage in planned if stage.cached}


@contextmanager
def threads_kept() -> Iterator[None]:
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
    check_settings(config)
    return dry_run(config, Store(runs_folder(runs) / "store"))


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
    refuse_all(settings_checks(config))
    with threads_kept():
        load = workload_of(config, check_student(config), _made(dry_run(config, store), store))
        calibration = open_calibration(config.student.device, again=again)
        batch_tokens = _tuned(config, load, calibration)

        def forecast_of(config: Config) -> Forecast:
            return forecast(config, dry_run(config, store), load, calibration, batch_tokens)

        if budget is None:
            return Fitted(config, [], forecast_of(config))
        return fit(config, forecast_of, budget, batch_tokens or usual_batch_tokens(load.student.model.device.type))


OWN_PROBE, OWN_QUERIES = "0/probe:own", 200
"""Where a probe of the student's own teachers is kept, and how many dev queries it asks: pairs take their time."""


def probe_config(
    config: Config | str | Path, *, overrides: Sequence[str] = (), runs: Path | None = None, own_teachers: bool = False
) -> dict[str, Any]:
    """Teacher headroom on the base student's own candidates: each mixture's difference, interval and price, and which
    one to take (`teacher`: as a section of a config).

    `own_teachers`: beside the config's, those that need no other model than the student; its token vectors only if
    somebody judged dev, since nothing else tells what they are worth. Else `not_tried` names them.
    """
    config = config if isinstance(config, Config) else load_config(config, overrides)
    if blind := blind_to_order(config):
        raise RequestError(f"probe: gate.measure: {blind}")
    how: dict[str, Any] = {}
    judged = config.corpus.labels or config.evaluate.judge is not None
    more = with_own_teachers(config.teacher, config.student.model, token_vectors=judged)
    wider = config.model_copy(update={"teacher": more})
    not_tried = member_names(wider)[len(members_of(config.teacher)) :]
    if own_teachers:
        config, not_tried, how = wider, [], {"address": OWN_PROBE, "most": OWN_QUERIES}
    with open_stages(config, lambda run: probe_base(begin(run), **how), "probe", runs=runs) as run:
        record = read_json(probe_base(begin(run), **how).path / "probe.json")
        weighed = zip(members_of(config.teacher), record["weights"], strict=True)
        taken = [one.model_copy(update={"weight": weight}) for one, weight in weighed if weight > 0]
        said = {"teacher": teacher_section(taken), "not_tried": not_tried}
        return {**with_prices(record, prices_of(run)), **said}
