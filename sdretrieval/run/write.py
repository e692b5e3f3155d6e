"""What a finished run leaves in its folder: report, page, student, TREC runs, and where search finds its parts."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sdretrieval.config import Config, dump_config, load_config
from sdretrieval.encode.common_form import write_common_form
from sdretrieval.encode.student import save_student
from sdretrieval.errors import ConfigError
from sdretrieval.evaluation import encoded_ids, read_trec, write_trec
from sdretrieval.files import read_json, write_json, write_text
from sdretrieval.progress import run_progress
from sdretrieval.report import build_details, build_report, figures_of
from sdretrieval.report.page import render
from sdretrieval.run.prices import prices_of, with_prices
from sdretrieval.stages.precision import resolved
from sdretrieval.stages.results import Final, Results, Smaller
from sdretrieval.store.run_folder import DIGESTS, PROBABILITY, REPORT, read_forecast, replace_folder, write_report

logger = logging.getLogger("sdretrieval")

INIT = "# Made by `sdretrieval init"
"""How a config begins that holds a reason beside each choice."""


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, `report.json`, and what the HTML page shows beyond it."""

    folder: Path
    report: dict[str, Any]
    details: dict[str, Any]


def finish_run(results: Results) -> RunResult:
    """Write the student, runs and report of a run that was measured to its end into its folder."""
    run, final = results.run, results.final
    assert final is not None, "finish_run comes after loop"
    run_progress.begin("report")
    folder = run.folder
    write_config(folder, _config_text(results), run.config)
    figures = figures_of(results)
    report = build_report(results, figures, read_forecast(folder))
    details = build_details(results, figures, report, _probe(results))
    # A run that is interrupted here is not finished, rather than a new student with old figures.
    for name in ("serving.json", REPORT, DIGESTS):
        (folder / name).unlink(missing_ok=True)
    _write_student(results, final, folder / "student")
    _write_smaller(results, folder / "smaller")
    fresh = folder / "runs.made"
    with _emptied(fresh):  # whole: an earlier run under this name may have had other systems
        fresh.mkdir(parents=True)
        for system in (one for systems in results.by_name.values() for one in systems):
            for split, artifact in system.runs.items():
                write_trec(
                    read_trec(artifact.path / "run.trec"),
                    fresh / f"{system.name}{system.mark}.{split}.trec",
                    system.name,
                )
        replace_folder(fresh, folder / "runs")
    corpus = results.base.collection.corpus
    if encoded := encoded_ids(chain(corpus.document_ids, corpus.query_ids)):
        logger.info(
            "%s ids hold blanks, control characters or %%, such as %r: runs/*.trec has them percent-encoded",
            f"{len(encoded):,}", encoded[0],
        )  # fmt: skip
    write_json(folder / PROBABILITY, read_json(final.probability.path / PROBABILITY))
    write_json(folder / "details.json", details)
    write_text(folder / "report.html", render(report, details))
    write_json(folder / "serving.json", _serving(results, final))
    write_report(folder, report)
    return RunResult(folder, report, details)


def _probe(results: Results) -> dict[str, Any] | None:
    if results.probe is None:
        return None
    return with_prices(read_json(results.probe.path / "probe.json"), prices_of(results.run))


def write_config(folder: Path, text: str, config: Config) -> None:
    """Write config.yaml, but over one with reasons, as `init` writes it, only if it is of another config."""
    file = folder / "config.yaml"
    try:
        kept = file.read_text(encoding="utf8").startswith(INIT) and load_config(file) == config
    except (OSError, ValueError, ConfigError):
        kept = False
    if not kept:
        write_text(file, text)


def _config_text(results: Results) -> str:
    """The config with the number formats that auto stands for, and a line that says so."""
    config, written = results.run.config, resolved(results.run)
    if config == written:
        return dump_config(config)
    formats = f"student.encode_precision {written.student.encode_precision}, train.precision {written.train.precision}"
    return f"# What auto meant as a number format is written out: {formats}.\n{dump_config(written)}"


def _write_student(results: Results, final: Final, folder: Path) -> None:
    """The final student with its views and prompts, as a sentence-transformers folder, its lexical half in it."""
    from sdretrieval.indexes.half_module import save_with_half

    run, fresh = results.run, folder.with_name("student.made")
    student = run.student(final.student.student)
    documents = student.document_encoder
    if run.learns_queries_only and final.student.key != run.base.key:
        documents = run.student(run.base.student).document_model
        logger.info("only the query encoder learned: a document index that the base student made stays valid")
    with _emptied(fresh):
        half = results.base.half
        if half is None:
            save_student(student.model, fresh, documents)
        else:
            save_with_half(student.model, half.fitted, fresh)
        write_common_form(fresh)
        replace_folder(fresh, folder)


def _write_smaller(results: Results, folder: Path) -> None:
    """Each smaller student as a folder of its own, or none if the config asks for none."""
    from sdretrieval.indexes.half_module import save_with_half

    run, half, fresh = results.run, results.base.half, folder.with_name("smaller.made")
    shutil.rmtree(folder, ignore_errors=True)
    if not results.smaller:
        return
    with _emptied(fresh):
        fresh.mkdir(parents=True)
        for one in results.smaller:
            model = run.student(one.student.student).model
            documents = run.student(one.documents.student).document_model if one.documents else None
            if half is None:
                save_student(model, fresh / one.name, documents)
            else:
                save_with_half(model, half.fitted, fresh / one.name, documents)
        write_common_form(fresh)
        replace_folder(fresh, folder)


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serving(results: Results, final: Final) -> dict[str, Any]:
    """Where search and export find what they need, by store key."""
    run, base = results.run, results.base
    keys = {
        "corpus": base.collected.made.key,
        "vectors": final.vectors.key,
        "index": final.index.key,
        "base_index": (base.plain_index or base.index).key,
        "lexical": base.lexical.key,
    }
    if base.collection.filtered != base.collected.made:
        keys["queries"] = base.collection.filtered.key
    if base.collection.judgements is not None:
        keys["judgements"] = base.collection.judgements.key
    scores = results.generations[0].scores if results.generations else None
    if scores is not None:
        keys["scores"] = scores.key
    student = run.student(final.student.student)
    return {
        "keys": keys,
        "weights": results.weights.values() if scores else [],
        "base": str(run.untrained.student),
        "base_digest": run.untrained.key,
        "max_tokens": student.view.max_tokens,
        "query_tokens": student.query_view.max_tokens,
        "prompts": {"query": student.prompts.query, "document": student.prompts.document},
        "config": resolved(run).model_dump(mode="json"),
        "smaller": {one.name: _serving_of(one, results) for one in results.smaller},
        "ledger_lines": len(run.runner.ledger.read(skip_damaged=True)),
    }


def _serving_of(one: Smaller, results: Results) -> dict[str, Any]:
    """The same of a smaller student, as far as it is another."""
    student = results.run.student(one.student.student)
    return {
        "keys": {"vectors": one.vectors.key, "index": one.index.key},
        "max_tokens": student.view.max_tokens,
        "query_tokens": student.query_view.max_tokens,
    }
