"""`search`, `show`, `report`, `export`, `verify`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from sdretrieval.files import read_json, write_json
from tests.cli.conftest import Call, Finished
from tests.helpers.runs.tiny_runs import artifact, sealed_again

QUERY = "dough oven crust near oslo"


def ids(found: dict[str, list[dict[str, str]]]) -> list[str]:
    return [hit["id"] for hit in found["hits"]]


def test_search_before_and_after(finished: Finished, call: Call) -> None:
    where = ["search", "tiny", QUERY, "-k", 5, "--runs", finished.runs, "--json"]
    after, before = call(*where).json(), call(*where, "--base").json()
    assert (after["student"], before["student"]) == ("final", "base")
    assert len(ids(after)) == len(ids(before)) == 5
    assert ids(after) != ids(before)
    scores = [hit["score"] for hit in after["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert [hit["rank"] for hit in after["hits"]] == [1, 2, 3, 4, 5]
    table = call("search", "tiny", QUERY, "-k", 2, "--runs", finished.runs).out
    assert f"final student: {QUERY}" in table
    assert after["hits"][0]["title"] in table


def test_search_by_words_and_by_both(finished: Finished, call: Call) -> None:
    runs = ("--runs", finished.runs)
    dense, words, both = (
        call("search", "tiny", QUERY, "--mode", mode, "-k", 5, *runs, "--json").json()
        for mode in ("dense", "lexical", "hybrid")
    )
    assert [one["mode"] for one in (dense, words, both)] == ["dense", "lexical", "hybrid"]
    assert {hit["id"] for hit in both["hits"]} & {hit["id"] for hit in words["hits"]}
    assert words["hits"][0]["probability"] is None and words["best_probability"] is None
    shown = call("search", "tiny", QUERY, "--hybrid", "-k", 5, *runs)
    assert f"final student + BM25: {QUERY}" in shown.out
    assert shown.out.splitlines()[2].split()[3] == both["hits"][0]["id"]
    assert f"BM25: {QUERY}" in call("search", "tiny", QUERY, "--mode", "lexical", *runs).out
    assert f"base student + BM25: {QUERY}" in call("search", "tiny", QUERY, "--hybrid", "--base", *runs).out


def test_search_says_how_probable_a_hit_is_and_when_no_answer_is_good(finished: Finished, call: Call) -> None:
    where = ["search", "tiny", QUERY, "-k", 3, "--runs", finished.runs]
    every = call(*where, "--json").json()
    found = [hit["probability"] for hit in every["hits"]]
    assert all(0 < one < 1 for one in found) and every["best_probability"] == max(found)
    some = call(*where, "--min-probability", max(found), "--json").json()["hits"]
    assert [hit["probability"] for hit in some] == [one for one in found if one == max(found)]
    assert f" {found[0]:.2f} " in call(*where).out
    alone = call("search", "tiny", QUERY, "-k", 1, "--runs", finished.runs, "--json").json()["hits"]
    assert alone == every["hits"][:1], "the gap to the next hit is known though only one is shown"
    none = call(*where, "--min-probability", 1)
    assert (none.code, none.out) == (
        0, f"no good answer: the best of 3 hits has probability {max(found):.2f}, below 1\n",
    )  # fmt: skip
    assert call(*where, "--min-probability", 1, "--json").json()["hits"] == []


def test_bm25_is_only_read_where_the_map_to_probabilities_asks_for_it(
    finished: Finished, tmp_path: Path, call: Call
) -> None:
    runs = Path(shutil.copytree(finished.runs, tmp_path / "runs"))
    folder = runs / "tiny"
    shutil.rmtree(artifact(folder, "0/lexical"))
    where = ["search", "tiny", QUERY, "--runs", runs, "--json"]
    assert "its lexical is no longer in the store" in call(*where).err
    record = read_json(folder / "probability.json")
    write_json(folder / "probability.json", record | {"map": record["without_words"]})
    sealed_again(folder)
    assert all(0 < hit["probability"] < 1 for hit in call(*where).json()["hits"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-probability", "1.5"], "--min-probability 1.5: expected 0 to 1"),
        (["--min-probability", "nan"], "--min-probability nan: expected 0 to 1"),
        (["--min-probability", "0.5", "--base"], "probabilities are of the final student's hits; leave out --base"),
        (["--min-probability", "0.5", "--mode", "lexical"], "final student's hits; leave out --mode lexical"),
        (["--mode", "sparse"], "--mode sparse: expected dense, lexical, hybrid"),
        (["--format", "onnx"], "--format onnx: tiny is a run, which holds torch alone; export it, and search that"),
        (["-k", "0"], "-k 0: expected at least 1"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(options: list[str], message: str, finished: Finished, call: Call) -> None:
    done = call("search", "tiny", QUERY, *options, "--runs", finished.runs)
    assert done.code == 2 and message in done.err and done.out == ""


def test_show_tells_the_lineage_and_the_gate(finished: Finished, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    found = call("show", "tiny", "--runs", finished.runs, "--json").json()
    monkeypatch.setenv("SDRETRIEVAL_RUNS", str(finished.runs))
    assert call("show", "tiny", "--json").json() == found
    by_address = {stage["stage"]: stage for stage in found["stages"]}
    assert by_address["1/mine"]["key"] in by_address["1/score"]["inputs"]
    assert [one["decision"] for one in found["generations"]] == ["accepted"]
    table = call("show", "tiny", "--runs", finished.runs).out
    for file in ("corpus.jsonl", "queries.jsonl", "train.tsv"):
        assert re.search(rf"\b{file}=[0-9a-f]{{12}}\s", table), "a source is known by names with uncut digests"
    train = by_address["1/train"]
    assert f" {train['key'][:12]} " in table and train["key"][:13] not in table
    assert "\ngeneration 1: accepted" in table
    assert "tiny: finished" in table


def test_report_is_rendered_again(finished: Finished, call: Call) -> None:
    page = finished.runs / "tiny" / "report.html"
    text = page.read_text()
    page.unlink()
    done = call("report", "tiny", "--runs", finished.runs)
    assert Path(done.out.strip()) == page.resolve()
    assert page.read_text() == text


@pytest.fixture(scope="module")
def bundle(finished: Finished, tmp_path_factory: pytest.TempPathFactory, call: Call) -> Path:
    folder = tmp_path_factory.mktemp("export") / "bundle"
    done = call("export", "tiny", folder, "--runs", finished.runs)
    assert done.code == 0, done.err
    return folder


def test_a_bundle_finds_what_the_run_finds(finished: Finished, bundle: Path, call: Call) -> None:
    of_run = call("search", "tiny", QUERY, "--runs", finished.runs, "--json").json()
    of_bundle = call("search", bundle, QUERY, "--json").json()
    assert ids(of_bundle) == ids(of_run)
    assert [hit["probability"] for hit in of_bundle["hits"]] == pytest.approx(
        [hit["probability"] for hit in of_run["hits"]], abs=1e-4
    )
    assert call("search", bundle, QUERY, "--base").code == 2


def test_a_broken_bundle_is_a_wrong_request_and_not_taken_for_a_run(bundle: Path, tmp_path: Path, call: Call) -> None:
    broken = Path(shutil.copytree(bundle, tmp_path / "broken"))
    (broken / "index" / "index.faiss").write_bytes(b"")
    done = call("search", broken, QUERY)
    assert (done.code, done.out) == (2, "")
    found = "changed since the export: index/index.faiss"
    assert done.err == f"error: {broken} is not as it was exported: {found}; export the run again\n"
    for text in ("[" * 100_000, '{"kind": 1}', "\udcff", "{"):
        (broken / "bundle.json").write_bytes(text.encode("utf8", "surrogateescape"))
        for command, codes in ((["search", broken, QUERY], {2}), (["verify", broken], {1, 2})):
            done = call(*command)
            assert done.code in codes and done.out == ""
            assert done.err.startswith(f"error: {broken}/bundle.json") and len(done.err.splitlines()) == 1


def test_a_query_that_is_not_utf8_is_searched_with_replaced_characters(
    finished: Finished, bundle: Path, call: Call
) -> None:
    for where in (["tiny", "--runs", finished.runs], [bundle]):
        odd = call("search", where[0], "dough \udcff oven", "--json", *where[1:]).json()
        assert odd["query"] == "dough \ufffd oven"
        assert odd["hits"] == call("search", where[0], "dough \ufffd oven", "--json", *where[1:]).json()["hits"]


def test_the_card_tells_lineage_and_gain(bundle: Path) -> None:
    card = (bundle / "README.md").read_text()
    assert "Teacher `lexical`, weight 0.75" in card
    assert "Generation 1: accepted" in card
    assert "generation_1" in card or "final" in card
    assert str(Path.home()) not in card


def test_verify_passes_as_exported_and_names_what_changed(bundle: Path, call: Call) -> None:
    sound = call("verify", bundle, "--json")
    assert (sound.code, sound.json()["ok"]) == (0, True)
    names = json.loads((bundle / "ids.json").read_text())
    (bundle / "ids.json").write_text(json.dumps(names[::-1]) + "\n")
    damaged = call("verify", bundle)
    assert damaged.code == 1
    assert "FAILED" in damaged.out
    assert "changed since the export: ids.json" in damaged.out
    last = damaged.err.splitlines()[-1]
    assert last.startswith(f"error: {bundle} is not as it was exported: files")


def test_a_run_that_left_nothing_to_serve_is_named_and_what_to_do(
    finished: Finished, tmp_path: Path, call: Call
) -> None:
    runs = Path(shutil.copytree(finished.runs, tmp_path / "runs"))
    (runs / "tiny" / "serving.json").unlink()
    for command in (["search", "tiny", QUERY], ["evaluate", "tiny", "--corpus", "nowhere"]):
        done = call(*command, "--runs", runs)
        assert done.code == 2
        assert "run tiny: no serving.json in " in done.err
        assert "run its config again, it writes it" in done.err
