"""The schema: what is accepted, what comes out, what is part of a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sdretrieval.config import Config, dump_config, identity_fields, load_config, members_of, parse_config
from sdretrieval.config.fields import Section, kind_of
from sdretrieval.config.problems import field_at, known_paths, sections_in
from sdretrieval.store import key_of
from tests.faults.bad_inputs.settings import kinds_of

DESIGN = """
name: scifact-minilm
seeds: [13]
corpus:   {source: beir:scifact}
student:  {model: sentence-transformers/all-MiniLM-L6-v2, max_tokens: 256}
index:    {kind: exact, device: auto}
mine:     {depth: 100, keep: 16, lexical: true}
teacher:
  kind: ensemble
  members:
    - {kind: cross_encoder, model: cross-encoder/ms-marco-MiniLM-L12-v2, weight: 0.5}
    - {kind: ema, mode: frozen, half_life: 0.25, view: {windows: all}, weight: 0.25}
    - {kind: lexical, weight: 0.25}
targets:  {calibrate: zscore, temperature: auto, target_perplexity: 3,
           false_negatives: {rule: margin, margin: 0.05}}
train:    {loss: listwise_kl, hard_label_weight: 0.1, student_temperature: 0.05, epochs: 1, queries_per_batch: 16,
           learning_rate: 3e-5, freeze: [word_embeddings]}
gate:     {measure: nDCG@10, tolerance: 0.01}
evaluate: {split: test, measures: [nDCG@10, Recall@100]}
generations: 2
"""


def minimal(**changes: Any) -> dict[str, Any]:
    base = {"name": "x", "corpus": {"source": "beir:x"}, "student": {"model": "m"}, "teacher": {"kind": "lexical"}}
    return {**base, **changes}


def sections(section: type[Section] = Config) -> Iterator[type[Section]]:
    yield section
    for field in section.model_fields.values():
        for inner in sections_in(field.annotation):
            yield from sections(inner)


def test_the_design_example_loads(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(DESIGN)
    config = load_config(tmp_path / "run.yaml")
    assert config.train.learning_rate == 3e-5
    assert config.targets.target_perplexity == 3.0
    assert [member.kind for member in members_of(config.teacher)] == ["cross_encoder", "ema", "lexical"]
    assert [member.weight for member in members_of(config.teacher)] == [0.5, 0.25, 0.25]
    assert config.mine.top_share == 0.5


def test_dump_is_read_back_to_an_equal_config(tmp_path: Path) -> None:
    config = parse_config(yaml.safe_load(DESIGN))
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config


def test_dump_names_every_default() -> None:
    assert yaml.safe_load(dump_config(parse_config(minimal())))["mine"] == {
        "depth": 100,
        "keep": 16,
        "lexical": True,
        "top_share": 0.5,
        "split_identifiers": False,
        "language": "english",
    }


def test_ema_sees_all_windows_and_a_cross_encoder_the_first_by_default() -> None:
    members = [{"kind": "ema"}, {"kind": "cross_encoder", "model": "c"}]
    config = parse_config(minimal(teacher={"kind": "ensemble", "members": members}))
    assert [member.view.windows for member in members_of(config.teacher) if member.kind != "lexical"] == [
        "all",
        "first",
    ]


@pytest.mark.parametrize("text", ["2e-5", "2E-05", "0.00002", ".00002"])
def test_a_number_that_yaml_reads_as_text_is_accepted(text: str) -> None:
    assert parse_config(minimal(train={"learning_rate": text})).train.learning_rate == 2e-5


@pytest.mark.parametrize(("value", "read"), [("5e-1", 0.5), (2, 2.0), ("auto", "auto")])
def test_temperature_is_auto_or_a_number(value: object, read: object) -> None:
    assert parse_config(minimal(targets={"temperature": value})).targets.temperature == read


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_config(minimal()).seeds = (14,)


def test_parsing_leaves_the_data_as_it_was() -> None:
    data = minimal()
    before = json.dumps(data)
    parse_config(data, ["mine.depth=50", "corpus.labels=false"])
    assert json.dumps(data) == before


@pytest.mark.parametrize("section", dict.fromkeys(sections()), ids=lambda section: section.__name__)
def test_every_field_is_identity_or_cost_and_is_described_in_one_line(section: type[Section]) -> None:
    for name, field in section.model_fields.items():
        assert kind_of(field) in ("identity", "cost"), f"{section.__name__}.{name}"
        assert field.description, f"{section.__name__}.{name}"
        assert "\n" not in field.description
    assert section.__doc__


def test_identity_fields_hold_no_cost_at_any_depth() -> None:
    text = json.dumps(identity_fields(parse_config(yaml.safe_load(DESIGN))))
    assert not any(name in text for name in ("device", "batch_tokens", "save_every"))
    assert '"half_life": 0.25' in text


def test_identity_for_scoring_leaves_out_the_weights() -> None:
    teacher = parse_config(yaml.safe_load(DESIGN)).teacher
    assert '"weight"' not in json.dumps(identity_fields(teacher, without={"weight"}))


def key(overrides: list[str]) -> str:
    config = parse_config(yaml.safe_load(DESIGN), overrides)
    return key_of("train", 1, identity_fields(config), [])


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from(["auto", "cpu", "cuda"]))
def test_costs_never_change_the_key(student: int, teacher: int, device: str) -> None:
    changed = [
        f"student.batch_tokens={student}",
        f"teacher.members.0.batch_tokens={teacher}",
        f"student.device={device}",
        f"index.device={device}",
        f"train.save_every={student}",
    ]
    assert key(changed) == key([])


@given(
    st.sampled_from(
        ["seeds=[{}]", "mine.depth={}", "student.max_tokens={}", "teacher.members.0.max_tokens={}", "train.epochs={}"]
    ),
    st.integers(101, 10_000),
)
def test_any_identity_change_changes_the_key(setting: str, value: int) -> None:
    changed = setting.format(value)
    already = ("student.max_tokens=256", "teacher.members.0.max_tokens=512")  # what the config says, and the default
    assert (key([changed]) == key([])) == (changed in already)


def leaves(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    for name, field in section.model_fields.items():
        if not sections_in(field.annotation):
            yield f"{prefix}{name}", str(kind_of(field)), field
        elif len(sections_in(field.annotation)) == 1 and field.default is not None:
            yield from leaves(sections_in(field.annotation)[0], f"{prefix}{name}.")


OTHER = {"name": "y", "corpus.source": "other", "student.model": "other", "gate.measure": "MAP@10"}
CHANGES = {
    "corpus.generate.writer": "{model: some/writer}",
    "evaluate.judge": "{url: 'http://localhost/v1', model: judge}",
    "seeds": "[14, 15]", "gate.guard": "beir:fiqa",
    "evaluate.measures": "[MAP@10]", "evaluate.controls": "[hard_labels]", "evaluate.baselines": "[hybrid_rrf]",
    "evaluate.hard_label_rates": "[1e-4]", "train.freeze": "[]",
    "evaluate.split": "dev", "targets.temperature": "0.5", "student.prompts.query": "q",
    "student.prompts.document": "d", "corpus.verdicts": "marks.tsv",
    "corpus.example_queries": "queries.txt", "corpus.generate.overlap": "0.5", "train.margin_scale": "0.1",
    "smaller.0.model": "another", "student.license": "mit", "train.report_to": "[wandb]", **OTHER,
}  # fmt: skip


def another_value(path: str, field: Any, now: Any) -> str:
    if path in CHANGES:
        return CHANGES[path]
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str) and choice != now]
    if choices:
        return choices[0]
    if isinstance(now, bool):
        return str(not now).lower()
    return str(0.3) if isinstance(now, float) and now < 1 else str((now or 1) + 1)


KIND_WITH = {
    "nprobe": "{kind: 'IVF,Flat'}", "ef_construction": "{kind: HNSW32}", "ef_search": "{kind: HNSW32}",
    "rescore": "{kind: PQ8}", "rescore_storage": "{kind: PQ8, rescore: 2}", "max_memory": "{kind: auto}",
}  # fmt: skip
"""An index setting is refused where the kind does not have it: sections that do."""
OTHER_TEXT = {"index.kind": "PQ16", "index.max_memory": "2GB"}


@pytest.mark.parametrize(("path", "kind", "field"), list(leaves()))
def test_each_single_field_changes_the_key_exactly_if_it_is_identity(path: str, kind: str, field: Any) -> None:
    section = KIND_WITH.get(path.removeprefix("index."), "{}") if path.startswith("index.") else "{}"
    first = [f"index={section}"]
    if path.startswith("smaller."):  # a list of sections
        first, path = [*first, "smaller=[{model: other, layers: 2, dims: 16}]"], path.replace(".", ".0.")
    now: Any = parse_config(minimal(), first)
    for part in path.split("."):
        now = now[int(part)] if part.isdigit() else getattr(now, part)
    needed = ["corpus.generate.writer.model=writer"] if path == "corpus.generate.written" else []
    other = OTHER_TEXT.get(path) or another_value(path, field, now)
    keys = [
        key_of("all", 1, identity_fields(parse_config(minimal(), [*needed, *overrides])), [])
        for overrides in (first, [*first, f"{path}={other}"])
    ]
    assert (keys[0] != keys[1]) == (kind == "identity")


def test_every_number_has_bounds_on_both_sides() -> None:
    """`train.epochs=1e300` would never end, and 1e300 of anything else is infinite once it is multiplied."""
    kinds = ("cross_encoder", "dense", "ema", "lexical", "multi_vector", "reranker_api", "scores")
    mixture = {"teacher": {"kind": "ensemble", "members": [{"kind": kind} for kind in kinds]}}
    paths = [path.replace("members.0.", f"members.{at}.") for path in known_paths() for at in range(len(kinds))]
    checked = set()
    for path in dict.fromkeys(paths):
        field = field_at(tuple(int(part) if part.isdigit() else part for part in path.split(".")), mixture)
        if field is None or not {int, float} & kinds_of(field.annotation) or "auto" in str(field.annotation):
            continue  # a number or auto has a validator of its own
        limits = {type(one) for one in field.metadata}
        assert limits & {Ge, Gt} and limits & {Le, Lt}, path
        checked.add(path.rpartition(".")[2])
    assert {"epochs", "later_epochs", "generations", "max_tokens", "half_life", "batch_tokens"} <= checked
