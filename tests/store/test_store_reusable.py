"""Reusable artifacts: finished ones of the same stage and settings over other texts, from which rows may be copied."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.digests import sealed, unsealed
from sdretrieval.store import Store, key_of

SETTINGS: dict[str, Any] = {"view": [64, "all", None], "prompts": [{"query": None}]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def describe(texts: str, model: str = "model", version: int = 1, **settings: Any) -> dict[str, Any]:
    return {"version": version, "identity": SETTINGS | settings, "inputs": [texts, model]}


def put(store: Store, texts: str, stage: str = "encode", **how: Any) -> str:
    described = describe(texts, **how)
    key = key_of(stage, described["version"], described["identity"], described["inputs"])
    with store.make(key, stage, described) as work:
        (work.folder / "vectors").write_text(texts)
    return key


def reusable_of(store: Store, texts: str = "grown") -> list[str]:
    with store.make(key_of("encode", 1, SETTINGS, [texts, "model"]), "encode", describe(texts)) as work:
        return [one.key for one in work.reusable()]


def test_kin_differ_in_their_texts_alone(store: Store) -> None:
    reusable = put(store, "corpus")
    put(store, "corpus", stage="tokens")
    put(store, "corpus", model="another")
    put(store, "corpus", version=2)
    put(store, "corpus", view=[64, "first", None])
    assert reusable_of(store) == [reusable]


def test_the_newest_come_first_and_what_is_made_again_is_not_its_own_kin(store: Store) -> None:
    keys = {texts: put(store, texts) for texts in ("corpus", "grown", "more")}
    for texts, year in (("corpus", 2030), ("grown", 2029), ("more", 2031)):
        path = store.path_of(keys[texts]) / "manifest.json"
        record = unsealed(json.loads(path.read_text())) | {"finished": f"{year}-01-01 00:00:00 UTC"}
        path.write_text(json.dumps(sealed(record)))
    assert reusable_of(store, "grown") == [keys["more"], keys["corpus"]]


def test_a_store_without_artifacts_has_none(store: Store) -> None:
    assert reusable_of(store) == []


def test_a_damaged_artifact_is_named_and_gives_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    key, unreadable = put(store, "corpus"), put(store, "other")
    (store.path_of(key) / "vectors").write_text("CORPUS")
    (store.path_of(unreadable) / "manifest.json").write_text("{")
    with Store(store.root).make("a" * 40, "encode", describe("grown")) as work:
        [reusable] = work.reusable()
        with caplog.at_level(logging.WARNING, "sdretrieval"):
            assert not reusable.sound()
    assert (reusable.key, reusable.path) == (key, store.path_of(key))
    assert f"artifact {key} (encode), file vectors: expected digest" in caplog.text
    assert caplog.text.rstrip().endswith("it must be made again; nothing is copied from it")
    assert store.path_of(key).exists(), "who needs it removes it and makes it again"


def test_a_sound_one_is_said_to_be(store: Store) -> None:
    put(store, "corpus")
    with store.make("a" * 40, "encode", describe("grown")) as work:
        [reusable] = work.reusable()
        assert reusable.sound()
        store.discard(reusable.key)
        assert not reusable.sound(), "gone meanwhile"
