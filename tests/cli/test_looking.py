"""`search`, `show`, `report`, `export`, `verify`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Call, Finished

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


def test_show_tells_the_lineage_and_the_gate(finished: Finished, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    found = call("show", "tiny", "--runs", finished.runs, "--json").json()
    monkeypatch.setenv("SDRETRIEVAL_RUNS", str(finished.runs))
    assert call("show", "tiny", "--json").json() == found
    by_address = {stage["stage"]: stage for stage in found["stages"]}
    assert by_address["1/mine"]["key"] in by_address["1/score"]["inputs"]
    assert [one["decision"] for one in found["generations"]] == ["accepted"]
    table = call("show", "tiny", "--runs", finished.runs).out
    assert "\ngeneration 1: accepted, " in table
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
    assert call("search", bundle, QUERY, "--base").code == 2


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
