"""A run that is killed at every stage in turn, and continued, ends as one that was left alone."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from sdretrieval.config import Config
from tests.helpers.runs.nursery import Nursery
from tests.helpers.runs.tiny_runs import artifact, figures, ledger_of, made_in

KILLED_AT = (
    "0/corpus",
    "0/tokens",
    "1/encode",
    "1/index",
    "1/mine",
    "1/score",
    "1/targets",
    "1/train",
    "2/evaluate:dev",
    "1/gate",
)
CHECKPOINT = "store/partial/*/trainer/checkpoint-*/complete.json"


def test_a_run_killed_at_every_stage_ends_as_an_uninterrupted_one(
    nursery: Nursery, full_config: Config, finished: Any, tmp_path: Path
) -> None:
    for stage in KILLED_AT:
        when = CHECKPOINT if stage == "1/train" else ""
        ended = nursery.run(full_config, tmp_path, kill_at=stage, kill_when=when)
        assert ended.code == -signal.SIGKILL, (stage, ended.said)
        assert not (tmp_path / "tiny" / "report.json").exists()
    last = nursery.run(full_config, tmp_path)
    assert last.code == 0, last.said

    folder = tmp_path / "tiny"
    made = Counter(record["key"] for record in ledger_of(folder) if not record["cached"])
    assert max(made.values()) == 1, "a finished stage was made again"
    assert set(made_in(folder)) <= set(made_in(finished.folder))
    report = json.loads((folder / "report.json").read_text())
    assert figures(report) == figures(finished.report)
    assert list((tmp_path / "store" / "partial").iterdir()) == []


def test_a_run_killed_at_random_moments_ends_as_an_uninterrupted_one(
    nursery: Nursery, full_config: Config, finished: Any, tmp_path: Path
) -> None:
    chance, longest, kills = random.Random(13), float(finished.report["seconds"]) / 4, 0
    while kills < 8:
        ended = nursery.run(full_config, tmp_path, kill_after=chance.uniform(0.05, longest))
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGALRM, ended.said
        kills += 1
    last = nursery.run(full_config, tmp_path)
    assert last.code == 0, last.said
    report = json.loads((tmp_path / "tiny" / "report.json").read_text())
    assert kills and figures(report) == figures(finished.report)
    made = Counter(record["key"] for record in ledger_of(tmp_path / "tiny") if not record["cached"])
    assert max(made.values()) == 1, "a finished stage was made again"


def test_a_killed_training_continues_from_its_checkpoint(nursery: Nursery, make_config: Any, tmp_path: Path) -> None:
    config = make_config("train.save_every=2", "train.epochs=2")
    killed = nursery.run(config, tmp_path, until="1/train", kill_at="1/train", kill_when=CHECKPOINT)
    assert killed.code == -signal.SIGKILL, killed.said
    ended = nursery.run(config, tmp_path, until="1/train")
    assert ended.code == 0, ended.said
    assert any(line.startswith("1/train ") and "(was not finished; continues)" in line for line in ended.said)
    assert any("training continues from checkpoint-" in line for line in ended.said)


def test_a_killed_tokenizing_continues_after_its_last_chunk(
    nursery: Nursery, full_config: Config, finished: Any, tmp_path: Path
) -> None:
    chunk = "store/partial/*/documents/made.json"
    killed = nursery.run(full_config, tmp_path, until="0/tokens", kill_at="0/tokens", kill_when=chunk)
    assert killed.code == -signal.SIGKILL, killed.said
    ended = nursery.run(full_config, tmp_path, until="0/tokens")
    assert ended.code == 0, ended.said
    assert any(line.startswith("0/tokens ") and "(was not finished; continues)" in line for line in ended.said)
    made, expected = (artifact(folder, "0/tokens") for folder in (tmp_path / "tiny", finished.folder))
    files = sorted(path.relative_to(expected) for path in expected.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    for name in (name for name in files if name.name != "manifest.json"):
        assert (made / name).read_bytes() == (expected / name).read_bytes(), name


def test_a_run_beside_another_is_refused_and_a_killed_one_leaves_no_lock(
    nursery: Nursery, make_config: Any, tmp_path: Path
) -> None:
    from sdretrieval.store import Store

    config = make_config()
    with Store(tmp_path / "store").lock("run other"):
        refused = nursery.run(config, tmp_path, until="0/corpus")
    assert refused.code == 1
    assert any("is locked by process" in line and "run other" in line for line in refused.said)
    assert nursery.run(config, tmp_path, kill_at="0/corpus").code == -signal.SIGKILL
    assert nursery.run(config, tmp_path, until="0/corpus").code == 0
