"""Every request that is wrong: one clear message, exit code 2, and nothing computed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sdretrieval.store import Store
from tests.cli.conftest import Call, Finished


class Place(NamedTuple):
    """What a bad input may need to know."""

    folder: Path
    corpus: Path
    student: Path
    cross_encoder: Path


def copied(place: Place) -> Path:
    return Path(shutil.copytree(place.corpus, place.folder / "copy"))


def no_beir_folder(place: Place) -> str:
    folder = place.folder / "papers"
    folder.mkdir()
    (folder / "one.odt").write_text("a text")
    return f"corpus.source={folder}"


def broken_line(place: Place) -> str:
    folder = copied(place)
    lines = (folder / "corpus.jsonl").read_text().splitlines()
    (folder / "corpus.jsonl").write_text("\n".join([*lines[:4], '{"_id": "d4", "text": "unfinish', *lines[5:]]) + "\n")
    return f"corpus.source={folder}"


def broken_query(place: Place) -> str:
    folder = copied(place)
    lines = (folder / "queries.jsonl").read_text().splitlines()
    (folder / "queries.jsonl").write_text("\n".join([*lines[:2], '{"_id": "q2"', *lines[3:]]) + "\n")
    return f"corpus.source={folder}"


def no_judgements(place: Place) -> str:
    folder = copied(place)
    shutil.rmtree(folder / "qrels")
    return f"corpus.source={folder}"


def broken_judgement(place: Place) -> str:
    folder = copied(place)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\tyes\n")
    return f"corpus.source={folder}"


def train_without_positives(place: Place) -> str:
    folder = copied(place)
    train = folder / "qrels" / "train.tsv"
    train.write_text(train.read_text().replace("\t1\n", "\t0\n"))
    return f"corpus.source={folder}"


def measures_without_positives(place: Place) -> str:
    folder = copied(place)
    qrels = folder / "qrels" / "test.tsv"
    qrels.write_text(qrels.read_text().replace("\t1\n", "\t-1\n"))
    return f"corpus.source={folder}"


def no_train_split(place: Place) -> str:
    folder = copied(place)
    (folder / "qrels" / "train.tsv").unlink()
    return f"corpus.source={folder}"


def train_again_in_test(place: Place) -> str:
    folder = copied(place)
    (folder / "qrels" / "train.tsv").write_text((folder / "qrels" / "test.tsv").read_text())
    return f"corpus.source={folder}"


def empty_model_folder(place: Place) -> str:
    (place.folder / "model").mkdir()
    return f"student.model={place.folder / 'model'}"


def long_teacher(place: Place) -> str:
    return f"teacher={{kind: cross_encoder, model: {place.cross_encoder}, max_tokens: 300}}"


BAD_RUNS: dict[str, tuple[str | Callable[[Place], str], str]] = {
    "unknown key": ("mine.dept=5", "mine.dept: unknown key (found 5); did you mean mine.depth? (from --set)"),
    "wrong type": ("mine.keep=many", 'mine.keep: found "many"; expected a whole number (at least 2, '),
    "wrong range": ("mine.keep=1", "mine.keep: found 1; expected a whole number (at least 2, at most 1000000)"),
    "a training without an end": (
        "train.epochs=1e300", 'train.epochs: found 1e+300; expected a number (above 0, at most 10000)',
    ),
    "no value": ("mine.keep", "--set mine.keep: found no dotted key and value; expected a.b=c"),
    "missing model": ("student.model=nobody/nothing", "model 'nobody/nothing' is not there; looked in: local folder"),
    "folder without a model": (empty_model_folder, "no modules.json or config.json in it (found nothing)"),
    "missing corpus": ("corpus.source=/nowhere/at-all", "There is no corpus at /nowhere/at-all"),
    "misspelt corpus": ("corpus.source=scifcat", "there is no such folder or file. Did you mean beir:scifact?"),
    "no BEIR folder": (no_beir_folder, "papers is no BEIR folder: corpus.jsonl missing; it holds 'one.odt'"),
    "broken line": (broken_line, "corpus.jsonl:5: broken line (Unterminated string"),
    "broken query": (broken_query, "queries.jsonl:3: broken line (Expecting ',' delimiter"),
    "broken judgement": (broken_judgement, "test.tsv:2: the score is 'yes', expected a whole number"),
    "absent split": ("evaluate.split=final", "Splits with judgements: dev (20 queries), test (24"),
    "no qrels": (
        no_judgements,
        "has no split 'test'. Splits with judgements: none. Add queries.jsonl and qrels/test.tsv; or run without "
        "judgements, on queries made of its documents: sdretrieval run CONFIG --set corpus.labels=false",
    ),
    "no relevant document in test": (
        measures_without_positives, "judged queries, none with a positive (a score above 0 of a document in the co",
    ),
    "a name of 5,000 characters": ("corpus.source=" + "x" * 5000, "xxx...': File name too long; expected"),
    "an unknown home": ("corpus.source=~nosuchuser/docs", "'~nosuchuser/docs': there is no user nosuchuser"),
    "a writer that is not there": (
        "corpus={source: python-stdlib, generated_queries: 5, generate: {writer: {model: nobody/writer}, written: 1}}",
        "model 'nobody/writer' is not there; looked in: local folder",
    ),
    "train without positives": (
        train_without_positives,
        "has 40 judged queries, none with a positive (a score above 0 of a document in the corpus). Add positives, or "
        "learn without labels: --set corpus.labels=false",
    ),
    "no train split": (
        no_train_split,
        "has no split 'train'. Splits with judgements: dev (20 queries), test (24 queries). Add qrels/train.tsv, or "
        "learn from queries made of documents: --set corpus.labels=false --set corpus.generated_queries=1000",
    ),
    "train in test": (
        train_again_in_test,
        "all 24 queries of its train split are in another split too, so there are no queries to train on",
    ),
    "missing cross-encoder": (
        "teacher={kind: cross_encoder, model: nobody/reranker}",
        "model 'nobody/reranker' is not there; looked in: local folder",
    ),
    "student longer than its positions": ("student.max_tokens=512", "has 128 positions, max_tokens asks for 512"),
    "teacher longer than its positions": (long_teacher, "has 128 positions, max_tokens asks for 300"),
    "average longer than its positions": (
        "teacher={kind: ema, view: {windows: all, max_tokens: 200}}", "has 128 positions, max_tokens asks for 200",
    ),
    "report on what is trained on": ("evaluate.split=train", 'evaluate.split: found "train", the queries that are'),
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, tiny_corpus: Path, tiny_student: Path, tiny_cross_encoder: Path) -> Place:
    return Place(tmp_path, tiny_corpus, tiny_student, tiny_cross_encoder)


@pytest.mark.parametrize("name", BAD_RUNS)
def test_a_bad_run_is_refused_before_any_work(name: str, place: Place, config: Path, call: Call) -> None:
    change, message = BAD_RUNS[name]
    done = call("run", config, "--runs", place.folder, "--set", change if isinstance(change, str) else change(place))
    assert message in done.err
    assert done.err.splitlines()[-1].strip() == done.err.splitlines()[-1] or "problem" in done.err
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert not list(place.folder.glob("store/artifacts/*/*"))


def test_all_that_is_wrong_with_a_first_run_is_said_at_once(
    place: Place, config: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDRETRIEVAL_MODELS", f"{place.student.parent}:/nowhere")
    changes = [no_judgements(place), "student.model=nobody/basis", "teacher={kind: dense, model: nobody/teacher}",
               "corpus.verdicts=/nowhere/marks.csv"]  # fmt: skip
    done = call("run", config, "--runs", place.folder, *(part for change in changes for part in ("--set", change)))
    assert done.code == 2
    assert done.err.startswith("error: 4 problems:\n  Corpus "), done.err
    for expected in (
        "has no split 'test'",
        "marks.csv: no such file",
        "model 'nobody/basis'",
        "model 'nobody/teacher'",
    ):
        assert expected in done.err
    held = ", ".join(sorted(path.name for path in place.student.parent.iterdir() if path.is_dir()))
    assert f"(it is set: {place.student.parent} holds {held}; /nowhere is no folder)" in done.err


def test_too_little_disk(config: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    done = call("run", config, "--runs", tmp_path)
    assert done.code == 2
    expected = r"1\.0 MB free, 10\d\.\d MB needed; make room \(`sdretrieval gc` removes what no run uses\)"
    assert re.search(expected, done.err), done.err
    assert "100.0 MB for lists, runs and the report; fewer documents (corpus.max_documents), generations" in done.err
    assert not list(tmp_path.glob("store/artifacts/*/*"))


def test_a_store_that_another_run_holds(config: Path, tmp_path: Path, call: Call) -> None:
    with Store(tmp_path / "store").lock("run other"):
        done = call("run", config, "--runs", tmp_path)
    assert done.code == 2
    assert "is locked by process " in done.err
    assert "(run other, since " in done.err
    assert "--runs" in done.err


def test_a_teacher_without_asymmetry_is_a_warning(config: Path, tmp_path: Path, call: Call) -> None:
    same = "teacher={kind: ema, view: {windows: first}}"
    done = call("run", config, "--runs", tmp_path, "--until", "0/corpus", "--set", same)
    assert done.code == 0
    assert (
        "warning: teacher: the teacher sees just what the student sees (the first 64 tokens of a document)" in done.err
    )


def test_a_damaged_artifact_is_named_and_made_again(finished: Finished, tmp_path: Path, call: Call) -> None:
    runs = Path(shutil.copytree(finished.runs, tmp_path / "runs"))
    expected = json.loads((runs / "tiny" / "report.json").read_text())
    stages = call("show", "tiny", "--runs", runs, "--json").json()["stages"]
    key = next(stage["key"] for stage in stages if stage["stage"] == "1/mine")
    victim = next(path for path in sorted(Store(runs / "store").path_of(key).iterdir()) if path.suffix == ".json")
    victim.write_bytes(victim.read_bytes()[:-2] + b" \n")
    done = call("run", finished.config, "--runs", runs, "--json")
    assert done.code == 0, done.err
    assert f"warning: artifact {key} (mine), file {victim.name}: expected digest " in done.err
    assert "it must be made again" in done.err
    assert done.json()["measures"] == expected["measures"]
    plan = call("plan", finished.config, "--runs", runs, "--json").json()
    assert all(stage["cached"] for stage in plan)


BAD_REQUESTS: dict[str, tuple[list[str], str]] = {
    "no such command": (["rum", "x.yaml"], "No such command 'rum'"),
    "no such option": (["plan", "x.yaml", "--fast"], "No such option: --fast"),
    "missing argument": (["run"], "Missing argument 'CONFIG_OR_CORPUS'. (see sdretrieval run --help)"),
    "a config of 5,000 characters": (["run", "x" * 5000 + ".yaml"], "xxx...': File name too long"),
    "runs of an unknown user": (["show", "tiny", "--runs", "~nosuchuser/runs"], "there is no user nosuchuser"),
    "runs of 5,000 characters": (["run", "{config}", "--runs", "x" * 5000], "xxx...': File name too long"),
    "evaluate on no relevant document": (
        ["evaluate", "bm25", "--corpus", "{graded}", "--runs", "{empty}"], "Every measure would be 0",
    ),
    "topics of 5,000 characters": (
        ["corpus", "convert", "{corpus}", "{empty}/c", "--topics", "x" * 5000], "xxx...': File name too long",
    ),
    "missing config": (["run", "nope.yaml"], "config nope.yaml: no such file"),
    "no such stage": (["run", "{config}", "--until", "1/mien"], "--until 1/mien: expected GENERATION/STAGE"),
    "a shared stage": (["run", "{config}", "--until", "1/probe"], "--until 1/probe: probe is shared by all"),
    "a generation's stage": (["run", "{config}", "--until", "0/mine"], "mine belongs to a generation; expected 1/mine"),
    "a late stage": (["run", "{config}", "--until", "2/train"], "1 generation; expected at most 1/train"),
    "a later stage": (["run", "{config}", "--until", "3/encode"], "1 generation; expected at most 2/encode"),
    "no generation": (["run", "{config}", "--until", "/mine"], "expected a generation's number before the /, or one"),
    "JSON into no folder": (
        ["evaluate", "bm25", "--corpus", "{corpus}", "--json", "{empty}/no/x.json", "--runs", "{empty}"],
        "x.json: there is no folder {empty}/no; make it first",
    ),
    "runs in a file": (["run", "{config}", "--runs", "{config}"], "expected a path that can be read, or written to"),
    "a worker without a goal": (["run", "{config}", "--worker"], "--worker needs --until"),
    "no such run": (["show", "nobody", "--runs", "{runs}"], "no run 'nobody'; runs in {runs}: tiny"),
    "search without a question": (["search", "tiny", " ", "--runs", "{runs}"], "the query is empty"),
    "search for nothing": (["search", "tiny", "x", "-k", "0", "--runs", "{runs}"], "-k 0: expected at least 1"),
    "no model and no run": (
        ["evaluate", "nobody/x", "--corpus", "{corpus}", "--runs", "{runs}"],
        "model 'nobody/x' is not there",
    ),
    "unknown measure": (
        ["evaluate", "bm25", "--corpus", "{corpus}", "--measures", "ndcg@10", "--runs", "{empty}"],
        "unknown measure 'ndcg@10': did you mean nDCG@10?",
    ),
    "absent split": (
        ["evaluate", "bm25", "--corpus", "{corpus}", "--split", "dve", "--runs", "{empty}"],
        "has no split 'dve'",
    ),
    "too long a context": (
        ["evaluate", "{student}", "--corpus", "{corpus}", "--max-tokens", "999", "--runs", "{empty}"],
        "has 128 positions, max_tokens asks for 999",
    ),
    "no bundle": (["verify", "{corpus}"], "{corpus} is no bundle: it has no bundle.json"),
    "export into a full folder": (
        ["export", "tiny", "{corpus}", "--runs", "{runs}"],
        "export target {corpus} is not empty and no bundle",
    ),
    "export to where nothing can be": (
        ["export", "tiny", "/proc/x", "--runs", "{runs}"],
        "export target /proc/x: nothing can be written there",
    ),
    "JSON to where nothing can be": (
        ["evaluate", "bm25", "--corpus", "{corpus}", "--json", "/proc/x.json", "--runs", "{empty}"],
        "--json /proc/x.json: nothing can be written there",
    ),
    "pairs to where nothing can be": (
        ["score", "{config}", "--pairs", "/proc/x.tsv", "--runs", "{empty}"],
        "/proc/x.tsv: nothing can be written there",
    ),
    "unknown format": (
        ["export", "tiny", "{empty}/b", "--format", "tflite", "--runs", "{runs}"],
        "export format 'tflite' is unknown; expected one of torch, onnx, onnx-int8, openvino",
    ),
    "gc of no folder": (["gc", "--runs", "{empty}/no"], "--runs {empty}/no: there is no such folder; name the"),
    "gc of no runs": (["gc", "--runs", "{corpus}"], "--runs {corpus}: there is no store in it ({corpus}/store)"),
    "hybrid search with BM25 alone": (
        ["evaluate", "hybrid:bm25", "--corpus", "{corpus}", "--runs", "{empty}"],
        "hybrid:bm25: BM25 is mixed with a model; expected hybrid:MODEL",
    ),
    "a corpus without a name": (["corpus", "convert", " ", "{empty}/c"], "No corpus is named: found ' '"),
    "tokens without a model": (["corpus", "check", "{corpus}", "--max-tokens", "9"], "--max-tokens 9 needs --model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused(
    name: str, finished: Finished, tiny_corpus: Path, tiny_student: Path, tmp_path: Path, call: Call
) -> None:
    arguments, message = BAD_REQUESTS[name]
    names = {"runs": finished.runs, "config": finished.config, "corpus": tiny_corpus, "student": tiny_student}
    known = {**names, "empty": tmp_path}
    if "{graded}" in arguments:
        known["graded"] = Path(shutil.copytree(tiny_corpus, tmp_path / "graded"))
        (known["graded"] / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t0\nq2\td2\t-1\n")
    done = call(*(argument.format(**known) for argument in arguments))
    assert done.err.startswith("error: ") or "\nerror: " in done.err
    assert message.format(**known) in done.err
    assert (done.code, done.out) == (2, "")
