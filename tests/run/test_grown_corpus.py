"""A corpus that has grown: only what is new is tokenized, encoded and scored; the result is that of a new store."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.cli.evaluate import evaluate_models
from sdretrieval.config import Config
from sdretrieval.corpus import load_corpus
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.student import load_student
from sdretrieval.encode.tokens import load_tokens, tokenize
from sdretrieval.encode.views import View
from sdretrieval.mining.candidates import Candidates
from sdretrieval.run.api import run_config
from sdretrieval.store import Store, keys_in_ledgers
from tests.helpers import tiny
from tests.helpers.runs.nursery import Nursery
from tests.helpers.runs.tiny_runs import EMA, MakeConfig, artifact, ledger_of, made_in

CHANGED = 5
ADDED = 20
REMOVED = 3
QUERIES_ADDED = 4
TEACHER = "1/encode:teacher0"
SIDES = ("documents", "queries")


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf8")


@pytest.fixture(scope="module")
def corpora(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`old`: without the last ADDED of the documents that no query asks for, and without some training queries.
    `grown`: with these, REMOVED others gone, CHANGED documents with another last word; all in another order."""
    root = tmp_path_factory.mktemp("grown")
    documents = [{name: one[name] for name in ("_id", "title", "text")} for one in tiny.documents()]
    asked = [json.loads(line) for line in (tiny_corpus / "queries.jsonl").read_text().splitlines()]
    judged = [line for path in (tiny_corpus / "qrels").glob("*.tsv") for line in path.read_text().splitlines()]
    needed = {line.split("\t")[1] for line in judged}
    spare = [one["_id"] for one in documents if one["_id"] not in needed]
    added, removed = set(spare[-ADDED:]), set(spare[:REMOVED])
    old = [one for one in documents if one["_id"] not in added]
    grown = [one for one in documents if one["_id"] not in removed]
    changed = [one["_id"] for one in old if one["_id"] not in removed][:: len(old) // CHANGED][:CHANGED]
    grown = [one | {"text": one["text"] + " flour"} if one["_id"] in changed else one for one in grown]
    for name, texts, queries in (("old", old, asked[QUERIES_ADDED:]), ("grown", grown[::-1], asked[::-1])):
        folder = Path(shutil.copytree(tiny_corpus, root / name))
        write_lines(folder / "corpus.jsonl", texts)
        write_lines(folder / "queries.jsonl", queries)
        present = {one["_id"] for one in queries}
        for path in (folder / "qrels").glob("*.tsv"):
            head, *lines = path.read_text().splitlines()
            path.write_text("\n".join([head, *(line for line in lines if line.split("\t")[0] in present)]) + "\n")
    return {name: root / name for name in ("old", "grown")}


@pytest.fixture(scope="module")
def configs(make_config: MakeConfig, corpora: dict[str, Path], tiny_cross_encoder: Path) -> dict[str, Config]:
    members = [EMA, {"kind": "cross_encoder", "model": str(tiny_cross_encoder), "max_tokens": 64}]
    return {
        name: make_config(
            f"name={name}", corpus={"source": str(folder)}, teacher={"kind": "ensemble", "members": members}
        )
        for name, folder in corpora.items()
    }


@pytest.fixture(scope="module")
def runs(configs: dict[str, Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUNS in which the old corpus was run, then the grown one, up to the teachers' scores."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("old", "grown"):
        run_config(configs[name], runs=root, until="1/score")
    return root


@pytest.fixture(scope="module")
def fresh(configs: dict[str, Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grown corpus run in a store of its own."""
    root = tmp_path_factory.mktemp("fresh")
    run_config(configs["grown"], runs=root, until="1/score")
    return root / "grown"


def counts_of(folder: Path, address: str) -> dict[str, Any]:
    return next(dict(record["counts"]) for record in ledger_of(folder) if record["stage"] == address)


def texts_of(folder: Path) -> dict[str, list[str]]:
    corpus = load_corpus(artifact(folder, "0/corpus") / "corpus")
    return {"documents": corpus.document_texts(), "queries": corpus.query_texts()}


def new_windows(folder: Path, old: Path, side: str, view: View, model: Path) -> int:
    """Windows of the texts in `folder` that none of the texts in `old` has."""
    student = load_student(str(model), max_tokens=64, device="cpu")

    def cut(texts: list[str]) -> list[bytes]:
        ids = tokenize(texts, student.model.tokenizer)
        return [piece.tobytes() for one in ids for piece in view.cut(one, student.document_specials)]

    had = set(cut(texts_of(old)[side]))
    return sum(window not in had for window in cut(texts_of(folder)[side]))


def test_only_new_texts_are_tokenized(runs: Path) -> None:
    texts, counts = texts_of(runs / "grown"), counts_of(runs / "grown", "0/tokens")
    assert len(texts["documents"]) - counts["documents_reused"] == ADDED + CHANGED
    assert len(texts["queries"]) - counts["queries_reused"] == QUERIES_ADDED
    before = counts_of(runs / "old", "0/tokens")
    assert (before["documents_reused"], before["queries_reused"]) == (0, 0)


@pytest.mark.parametrize(("address", "windows"), [("1/encode", "first"), (TEACHER, "all")])
def test_only_new_windows_are_encoded(runs: Path, tiny_student: Path, address: str, windows: Any) -> None:
    counts = counts_of(runs / "grown", address)
    new = counts["document_windows"] - counts["document_windows_reused"]
    expected = new_windows(runs / "grown", runs / "old", "documents", View(64, windows), tiny_student)
    if windows == "all":  # the base is its own average: what the student sees first was encoded in 1/encode
        expected -= new_windows(runs / "grown", runs / "old", "documents", View(64), tiny_student)
    assert new == expected
    if windows == "first":
        assert ADDED < new <= ADDED + CHANGED, "what was written at the end of a long document is not in its view"
    else:
        assert new < counts["document_windows"] // 2
    queries = counts["query_windows"] - counts["query_windows_reused"]
    assert queries == (QUERIES_ADDED if windows == "first" else 0)


def test_only_new_pairs_are_scored(runs: Path, fresh: Path) -> None:
    def pairs(folder: Path) -> set[tuple[str, str]]:
        texts, mined = texts_of(folder), Candidates.load(artifact(folder, "1/mine"))
        return {
            (texts["queries"][query], texts["documents"][row])
            for query, rows in zip(mined.query_rows_Q, mined.rows, strict=True)
            for row in rows
        }

    new = len(pairs(runs / "grown") - pairs(runs / "old"))
    assert 0 < new < len(pairs(runs / "grown"))
    assert counts_of(runs / "grown", "1/score")["newly_scored_pairs"] == new
    assert counts_of(fresh, "1/score")["newly_scored_pairs"] == len(pairs(fresh))


def assert_same(folder: Path, fresh: Path) -> None:
    """Under the same keys the same tokens, and vectors that are equal up to rounding."""
    for address in ("0/tokens", "1/encode", TEACHER):
        mine, theirs = artifact(folder, address), artifact(fresh, address)
        assert mine.name == theirs.name, "a key does not say how an artifact was come by"
        for side in SIDES:
            if address == "0/tokens":
                found, expected = load_tokens(mine / side), load_tokens(theirs / side)
                np.testing.assert_array_equal(found.values_T, expected.values_T)
                np.testing.assert_array_equal(found.offsets, expected.offsets)
            else:
                made, wanted = Embeddings.load(mine / side), Embeddings.load(theirs / side)
                np.testing.assert_array_equal(made.windows, wanted.windows)
                np.testing.assert_allclose(made.vectors_WD, wanted.vectors_WD, atol=1e-6)


def test_the_result_is_that_of_a_new_store(runs: Path, fresh: Path) -> None:
    assert_same(runs / "grown", fresh)


def test_a_killed_run_takes_over_as_much(
    nursery: Nursery, runs: Path, fresh: Path, configs: dict[str, Config], tmp_path: Path
) -> None:
    shutil.copytree(runs / "old", tmp_path / "old")
    shutil.copytree(runs / "store", tmp_path / "store")
    Store(tmp_path / "store").gc(lambda: keys_in_ledgers(tmp_path))
    for address, when in (("1/encode", ""), (TEACHER, "store/partial/*/documents/chunks.json")):
        ended = nursery.run(configs["grown"], tmp_path, until="1/score", kill_at=address, kill_when=when)
        assert ended.code == -signal.SIGKILL, (address, ended.said)
    ended = nursery.run(configs["grown"], tmp_path, until=TEACHER)
    assert ended.code == 0, ended.said
    for address in ("0/tokens", "1/encode", TEACHER):
        assert counts_of(tmp_path / "grown", address) == counts_of(runs / "grown", address), address
    assert_same(tmp_path / "grown", fresh)


def test_what_was_copied_outlives_what_it_was_copied_from(
    runs: Path, configs: dict[str, Config], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(runs, tmp_path / "runs"))
    shutil.rmtree(folder / "old")
    store = Store(folder / "store")
    assert store.gc(lambda: keys_in_ledgers(folder))
    lines = len(ledger_of(folder / "grown"))
    run_config(configs["grown"], runs=folder, until="1/score")
    assert made_in(folder / "grown", after=lines) == []


def test_another_split_of_the_same_texts_is_known_whole(runs: Path, configs: dict[str, Config], tmp_path: Path) -> None:
    """The seed decides splits: it is in the corpus's key, not in what a text gives."""
    folder = Path(shutil.copytree(runs, tmp_path / "runs"))
    config = configs["grown"].model_copy(update={"seeds": (14,), "name": "again"})
    run_config(config, runs=folder, until=TEACHER)
    tokens, texts = counts_of(folder / "again", "0/tokens"), texts_of(folder / "again")
    assert [tokens[f"{side}_reused"] for side in SIDES] == [len(texts[side]) for side in SIDES]
    for address in ("1/encode", TEACHER):
        counts = counts_of(folder / "again", address)
        for kind in ("document", "query"):
            assert counts[f"{kind}_windows_reused"] == counts[f"{kind}_windows"] > 0


def test_evaluate_encodes_only_what_is_new(
    corpora: dict[str, Path], tiny_student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate_models(str(tiny_student), str(corpora["old"]), max_tokens=64, runs=tmp_path / "runs")
    with caplog.at_level("INFO", "sdretrieval"):
        grown = evaluate_models(str(tiny_student), str(corpora["grown"]), max_tokens=64, runs=tmp_path / "runs")
    found = re.search(r"encode documents: (\d+) of (\d+) windows reused", caplog.text)
    assert found
    known, windows = map(int, found.groups())
    assert ADDED < windows - known <= ADDED + CHANGED
    fresh = evaluate_models(str(tiny_student), str(corpora["grown"]), max_tokens=64, runs=tmp_path / "fresh")
    assert grown["measures"] == fresh["measures"]
