"""`push`: what would be sent is listed, what may not be sent is refused, and what is sent arrives whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData

from tests.cli.conftest import Call, Finished
from tests.helpers.hub_server import TOKEN, Hub, hub_server


@pytest.fixture(scope="module")
def bundle(finished: Finished, tmp_path_factory: pytest.TempPathFactory, call: Call) -> Path:
    """The tiny run's, without texts. Read only."""
    folder = tmp_path_factory.mktemp("push") / "bundle"
    done = call("export", "tiny", folder, "--runs", finished.runs, "--no-texts")
    assert done.code == 0, done.err
    return folder


def push(hub: Hub, *arguments: object, token: str = TOKEN, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which reads where the hub is when it starts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    where = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    command = [sys.executable, "-m", "sdretrieval", "push", *map(str, arguments)]
    mine = {"HF_TOKEN": token} if token else {}
    environment = kept | where | mine | variables
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


def test_a_dry_run_lists_every_file_and_sends_nothing(bundle: Path, call: Call) -> None:
    done = call("push", bundle, "me/tiny", "--dry-run", "--json")
    assert done.code == 0, done.err
    record = done.json()
    sizes = {path.relative_to(bundle).as_posix(): path.stat().st_size for path in bundle.rglob("*") if path.is_file()}
    assert {one["path"]: one["bytes"] for one in record["files"]} == sizes
    assert record["url"] is None and record["private"] is False
    shown = call("push", bundle, "me/tiny", "--dry-run", "--private").out
    assert "would be sent to me/tiny, private; nothing was" in shown
    assert "card: 2 figures, language en; no licence: say one with --set student.license=... and run again" in shown
    assert "with all documents' ids; bundle.json holds 8 queries and 8 documents to check vectors by" in shown
    assert f"{len(sizes)} files, " in shown


def test_a_run_is_exported_without_texts_unless_they_are_asked_for(finished: Finished, call: Call) -> None:
    without = call("push", "tiny", "me/tiny", "--dry-run", "--json", "--runs", finished.runs).json()
    texts = call("push", "tiny", "me/tiny", "--dry-run", "--json", "--texts", "--runs", finished.runs).json()
    more = {one["path"] for one in texts["files"]} - {one["path"] for one in without["files"]}
    assert more and all(name.startswith(("documents.", "lexical/")) for name in more)
    assert texts["notes"][-1].startswith("with the texts of 120 documents and all documents' ids; ")


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["{with_texts}", "me/x", "--dry-run"], 2, "holds the texts of 120 documents (documents."),
        (["{bundle}", "me//x", "--dry-run"], 2, "HUB_ID me//x: "),
        (["{bundle}", "me/x"], 2, "HF_HUB_OFFLINE is set, so nothing can be sent; unset it, or say --dry-run"),
        (["{flipped}", "me/x", "--dry-run"], 1, "is not as it was exported: changed since the export: ids.json"),
        (["nothing", "me/x", "--dry-run", "--runs", "{bundle}"], 2, "no run 'nothing'; runs in"),
    ],
)
def test_what_may_not_be_sent_is_refused(
    finished: Finished, bundle: Path, tmp_path: Path, call: Call, arguments: list[str], code: int, error: str
) -> None:
    call("export", "tiny", tmp_path / "with_texts", "--runs", finished.runs)
    flipped = Path(shutil.copytree(bundle, tmp_path / "flipped"))
    (flipped / "ids.json").write_text("[]")
    places = {"with_texts": tmp_path / "with_texts", "bundle": bundle, "flipped": flipped}
    done = call("push", *(argument.format(**places) for argument in arguments))
    assert done.code == code and error in done.err, done.err


def test_everything_arrives_in_a_private_repository_after_the_hub_has_read_the_card(bundle: Path) -> None:
    with hub_server() as hub:
        done = push(hub, bundle, "me/tiny", "--private", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["url"] == f"{hub.url}/me/tiny"
    assert hub.private == {"me/tiny"} and hub.messages == ["sdretrieval export of tiny"]
    assert hub.files == {
        path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()
    }
    data = ModelCard(hub.cards[0]).data
    assert isinstance(data, ModelCardData) and data.eval_results


def test_the_hubs_refusals_are_told_with_the_next_step(bundle: Path) -> None:
    with hub_server(public={"me/tiny"}) as hub:
        public = push(hub, bundle, "me/tiny", "--private")
        hub.refuses_cards = True
        card = push(hub, bundle, "me/new")
        hub.refuses_cards = False
        token = push(hub, bundle, "me/new", token="hf_wrong")
        nobody = push(hub, bundle, "me/new", token="", HF_HOME=str(bundle.parent / "nobody"))
    gone = push(hub, bundle, "me/new")
    assert not hub.files and not hub.private
    for done, code, error in (
        (public, 2, "me/tiny is there and public, expected a private one (--private): make it private on the hub, or "),
        (card, 1, 'the hub refuses the model card: "license" must be one of ...'),
        (token, 2, "the hub refuses the token for me/new (401): "),
        (nobody, 2, "no token of the model hub: found none in HF_TOKEN, and nobody is logged in; expected one that "),
        (gone, 1, "the hub cannot be reached (ConnectError: "),
    ):
        assert done.returncode == code and error in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
