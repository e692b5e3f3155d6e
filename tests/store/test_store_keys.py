"""Keys and digests: the same exactly where what went in is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.store import digest_file, digest_files, key_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
identities = st.dictionaries(st.text(max_size=5), json_values, max_size=4)


@given(identities, identities)
def test_key_differs_exactly_where_the_identity_differs(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (key_of("mine", 1, one, []) == key_of("mine", 1, other, [])) == same


@given(identities)
def test_key_does_not_depend_on_the_order_of_settings(identity: dict[str, Any]) -> None:
    turned = dict(reversed(identity.items()))
    assert key_of("mine", 1, identity, []) == key_of("mine", 1, turned, [])


def test_key_depends_on_stage_version_and_inputs_in_their_order() -> None:
    keys = {
        key_of("mine", 1, {}, ["a", "b"]),
        key_of("mine", 1, {}, ["b", "a"]),
        key_of("mine", 2, {}, ["a", "b"]),
        key_of("score", 1, {}, ["a", "b"]),
        key_of("mine", 1, {}, ["ab"]),
    }
    assert len(keys) == 5


def test_key_is_the_same_in_every_process() -> None:
    assert key_of("mine", 1, {"b": 1.5, "a": None}, ["x"]) == "4e501d8c615503210c85f4dd8c83187175149010"


@pytest.mark.parametrize("value", [float("nan"), Path("x"), {1, 2}, np.float32(1)])
def test_what_json_cannot_hold_is_no_identity(value: object) -> None:
    with pytest.raises(TypeError, match="identity of stage mine cannot be made a key: .*; expected JSON values"):
        key_of("mine", 1, {"x": value}, [])


def test_one_text_is_no_list_of_inputs() -> None:
    with pytest.raises(TypeError, match=r"inputs of stage mine: found one text \('abc'\); expected a list of keys"):
        key_of("mine", 1, {}, "abc")


def test_digest_of_files_depends_on_names_and_bytes_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("1")
    digest = digest_files(tmp_path, ["a", "b"])
    assert digest == digest_files(tmp_path, ["b", "a"])
    assert digest_file(tmp_path / "a") == digest_file(tmp_path / "b")
    (tmp_path / "b").write_text("2")
    assert digest != digest_files(tmp_path, ["a", "b"])
