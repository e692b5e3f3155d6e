"""The text of every problem that a config can have."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sdretrieval.config import Config, load_config, parse_config, read_index_section
from sdretrieval.config.problems import known_paths
from sdretrieval.config.yaml_text import read_yaml, write_yaml
from sdretrieval.errors import ConfigError, RequestError
from tests.helpers.runs.configs import ensemble, minimal, problems

SINGLE: list[tuple[dict[Any, Any], str]] = [
    (minimal(mine={"dept": 5}), "mine.dept: unknown key (found 5); did you mean mine.depth?"),
    (minimal(depth=5), "depth: unknown key (found 5); did you mean mine.depth or evaluate.depth?"),
    (minimal(gate={"zzz": 1}), "gate.zzz: unknown key (found 1); expected one of measure, tolerance, guard"),
    (
        minimal(index={"kind": "exat"}),
        'index.kind: found "exat"; expected exact, auto or a FAISS factory string such as HNSW32, IVF,Flat, SQ8 or '
        "OPQ32,PQ32; did you mean exact?",
    ),
    (
        minimal(index={"kind": 3}),
        "index.kind: found 3; expected exact, auto or a FAISS factory string such as HNSW32, IVF,Flat, SQ8 or "
        "OPQ32,PQ32",
    ),
    (
        minimal(index={"kind": "PQ8", "rescore": 0}),
        "index.rescore: found 0; expected a whole number (at least 1, at most 1000) or null",
    ),
    (minimal(mine={"keep": "16"}), 'mine.keep: found "16"; expected a whole number (at least 2, at most 1000000)'),
    (minimal(mine={"keep": 1}), "mine.keep: found 1; expected a whole number (at least 2, at most 1000000)"),
    (minimal(seeds=[True]), "seeds.0: found true; expected a whole number (at least 0, below 4294967296)"),
    (
        minimal(seeds=13),
        "seeds: found 13; expected a list, each entry a whole number (at least 0, below 4294967296) (not empty)",
    ),
    (
        minimal(seeds=[]),
        "seeds: found []; expected a list, each entry a whole number (at least 0, below 4294967296) (not empty)",
    ),
    (minimal(seed=13), "seed: unknown key (found 13); did you mean seeds?"),
    (minimal(gate={"guard": 3}), "gate.guard: found 3; expected text (not empty) or null"),
    (minimal(generations=11), "generations: found 11; expected a whole number (at least 1, at most 10)"),
    (minimal(mine={"lexical": 1}), "mine.lexical: found 1; expected true or false"),
    (minimal(mine={"top_share": 1.5}), "mine.top_share: found 1.5; expected a number (at least 0, at most 1)"),
    (
        minimal(train={"learning_rate": "fast"}),
        'train.learning_rate: found "fast"; expected a number (above 0, at most 1000)',
    ),
    (
        minimal(train={"epochs": float("inf")}),
        "train.epochs: found Infinity; expected a number (above 0, at most 10000)",
    ),
    (
        minimal(train={"margin_scale": 0}),
        "train.margin_scale: found 0; expected a number from 0.0001 to 10000, or auto",
    ),
    (
        minimal(train={"loss": "margin"}),
        'train.loss: found "margin"; expected one of listwise_kl, margin_mse, embedding; did you mean margin_mse?',
    ),
    (
        minimal(targets={"label_evidence": -1}),
        "targets.label_evidence: found -1; expected a number (at least 0, at most 100)",
    ),
    (
        minimal(targets={"false_negatives": "both"}),
        'targets.false_negatives: found "both"; expected a section with the keys rule, margin, percent',
    ),
    (minimal(corpus={"source": "x", "verdicts": ""}), 'corpus.verdicts: found ""; expected text (not empty) or null'),
    (
        minimal(train={"save_every": 0}),
        "train.save_every: found 0; expected a whole number (at least 1, at most 1000000000) or null",
    ),
    (
        minimal(targets={"temperature": 0}),
        "targets.temperature: found 0; expected a number from 0.0001 to 10000, auto or student",
    ),
    (
        minimal(targets={"target_perplexity": 1}),
        "targets.target_perplexity: found 1; expected a number (above 1, at most 1000000)",
    ),
    (
        minimal(teacher={"kind": "lexical", "weight": -1}),
        "teacher.weight: found -1; expected a number from 0 to 1000, or auto",
    ),
    (
        minimal(teacher={"kind": "lexical", "weight": "none"}),
        'teacher.weight: found "none"; expected a number from 0 to 1000, or auto',
    ),
    (
        minimal(teacher={"kind": "cross-encoder"}),
        'teacher.kind: found "cross-encoder"; expected one of cross_encoder, dense, ema, lexical, multi_vector, '
        "sparse, reranker_api, scores, ensemble; did you mean cross_encoder?",
    ),
    (
        minimal(teacher={}),
        "teacher.kind: missing; expected one of cross_encoder, dense, ema, lexical, multi_vector, sparse, "
        "reranker_api, scores, ensemble",
    ),
    (
        minimal(teacher=3),
        "teacher: found 3; expected a section whose kind is one of cross_encoder, dense, ema, lexical, "
        "multi_vector, sparse, reranker_api, scores, ensemble",
    ),
    (minimal(teacher={"kind": "cross_encoder"}), "teacher.model: missing; expected text (not empty)"),
    (minimal(student={"model": ""}), 'student.model: found ""; expected text (not empty)'),
    (minimal(gate=3), "gate: found 3; expected a section with the keys measure, tolerance, guard"),
    (minimal(train={"freeze": ["a", 3]}), "train.freeze.1: found 3; expected text"),
    (
        minimal(evaluate={"measures": ["ndcg@10"]}),
        'evaluate.measures.0: found "ndcg@10"; expected a measure such as nDCG@10, Recall@100, MAP@10, P@5 or MRR@10',
    ),
    (
        minimal(evaluate={"measures": []}),
        "evaluate.measures: found []; expected a list, each entry a measure such as nDCG@10, Recall@100, MAP@10, P@5 "
        "or MRR@10 (not empty)",
    ),
    (
        minimal(evaluate={"controls": ["hard_label"]}),
        'evaluate.controls.0: found "hard_label"; expected one of hard_labels, shuffled_teacher; did you mean '
        "hard_labels?",
    ),
    (
        minimal(evaluate={"baselines": ["hybrid"]}),
        'evaluate.baselines.0: found "hybrid"; expected one of hybrid_dev, hybrid_rrf, hybrid_log_odds; did '
        "you mean hybrid_rrf?",
    ),
    (
        minimal(evaluate={"hard_label_rates": [0]}),
        "evaluate.hard_label_rates.0: found 0; expected a number above 0, at most 1000",
    ),
    (
        minimal(targets={"calibrate": "absolut"}),
        'targets.calibrate: found "absolut"; expected one of absolute, zscore, minmax, log_odds, none; did you mean '
        "absolute?",
    ),
    (
        minimal(targets={"temperature": "teacher"}),
        'targets.temperature: found "teacher"; expected a number from 0.0001 to 10000, auto or student',
    ),
    (
        minimal(name="a/b"),
        "name: found \"a/b\"; expected letters, digits, '.', '_' or '-' (at most 100, the first a letter or digit; "
        "not 'store')",
    ),
    (
        minimal(name="store"),
        "name: found \"store\"; expected letters, digits, '.', '_' or '-' (at most 100, the first a letter or digit; "
        "not 'store')",
    ),
    (
        ensemble({"kind": "lexical"}),
        'teacher.members: found [{"kind": "lexical"}]; expected a list, each entry a section whose kind is one of '
        "cross_encoder, dense, ema, lexical, multi_vector, sparse, reranker_api, scores (at least 2)",
    ),
    (
        ensemble({"kind": "lexical"}, {"kind": "ensemble", "members": []}),
        'teacher.members.1.kind: found "ensemble"; expected one of cross_encoder, dense, ema, lexical, '
        "multi_vector, sparse, reranker_api, scores",
    ),
    (
        ensemble({"kind": "lexical"}, {"kind": "ema", "veiw": {}}),
        "teacher.members.1.veiw: unknown key (found {}); did you mean teacher.members.1.view?",
    ),
    (minimal(teacher={"kind": "dense"}), "teacher.model: missing; expected text (not empty)"),
    (
        minimal(teacher={"kind": "dense", "model": "m", "promts": {}}),
        "teacher.promts: unknown key (found {}); did you mean teacher.prompts?",
    ),
    (minimal(teacher={"kind": "scores"}), "teacher.file: missing; expected text (not empty)"),
    (
        minimal(teacher={"kind": "scores", "file": "a.tsv", "missing": "skipp"}),
        'teacher.missing: found "skipp"; expected one of error, lowest, skip; did you mean skip?',
    ),
    (
        minimal(teacher={"kind": "scores", "file": ["a.tsv", "b.tsv"]}),
        'teacher.file: found ["a.tsv", "b.tsv"]; expected text (not empty)',
    ),
    (dict([*minimal().items(), (1, 2)]), "1: the key 1 is no text; expected keys that are text"),
]


@pytest.mark.parametrize(("data", "line"), SINGLE)
def test_a_problem_is_one_line_with_path_found_and_expected(data: Any, line: str) -> None:
    assert problems(data) == [line]


def test_a_long_value_is_cut() -> None:
    [line] = problems(minimal(corpus={"source": "x", "sourc": "y" * 200}))
    assert line.endswith("yyy...); did you mean corpus.source?")
    assert len(line) < 200


def test_everything_is_missing() -> None:
    assert [line.split(":")[0] for line in problems({})] == ["name", "corpus", "student", "teacher"]


def test_all_problems_are_reported_at_once_also_those_between_fields() -> None:
    data = minimal(
        sed=1,
        mine={"keep": 300},
        train={"scope": "batch", "candidates_per_query": "x"},
        teacher={
            "kind": "ensemble",
            "members": [{"kind": "cross_encoder", "weight": 0}, {"kind": "lexical", "weight": 0}],
        },
    )
    assert sorted(line.split(":")[0] for line in problems(data)) == sorted(
        [
            "sed",
            "mine.keep",
            "train.scope",
            "train.candidates_per_query",
            "teacher.members.0.model",
            "teacher.members.0.weight",
        ]
    )


def test_a_broken_value_is_not_blamed_twice() -> None:
    assert [line.split(":")[0] for line in problems(minimal(mine={"keep": "many", "depth": 3}))] == ["mine.keep"]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("mien.depth=5", 'mien: unknown key (found {"depth": 5}); did you mean mine? (from --set)'),
        ("mine.dpth=5", "mine.dpth: unknown key (found 5); did you mean mine.depth? (from --set)"),
        (
            "mine.depth=deep",
            'mine.depth: found "deep"; expected a whole number (at least 2, at most 1000000) (from --set)',
        ),
        ("mine.depth", "--set mine.depth: found no dotted key and value; expected a.b=c"),
        ("=3", "--set =3: found no dotted key and value; expected a.b=c"),
        (
            "student.model.x=3",
            '--set student.model.x=3: student.model is "m", which has no part x; expected the path of a setting',
        ),
        (
            "teacher.members.2.weight=1",
            "--set teacher.members.2.weight=1: teacher.members has 2 entries; expected a position counted from 0, "
            "found 2",
        ),
    ],
)
def test_a_set_that_cannot_be_applied(override: str, line: str) -> None:
    data = ensemble({"kind": "lexical"}, {"kind": "ema"})
    assert problems(data, override) == [line]


def test_a_set_whose_value_is_no_yaml() -> None:
    [line] = problems(minimal(), "train.freeze=[a")
    assert line.startswith("--set train.freeze=[a: value, line 1, column ")
    assert line.endswith("expected a value as in YAML")


def test_set_reaches_every_depth() -> None:
    config = parse_config(
        ensemble({"kind": "lexical"}, {"kind": "ema"}),
        ["teacher.members.0.weight=0.3", "train.learning_rate=2e-5", "corpus.generate.within=20",
         "train.freeze=[]", "corpus.labels=false", "name=a-b"],
    )  # fmt: skip
    assert config.teacher.kind == "ensemble"
    assert config.teacher.members[0].weight == 0.3
    assert config.train.learning_rate == 2e-5
    assert config.corpus.generate.within == 20
    assert (config.train.freeze, config.corpus.labels, config.name) == ((), False, "a-b")


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "scifact.yaml").write_text("name: x\ncorpus: {source: a\n")
    (tmp_path / "twice.yaml").write_text("name: x\nseed: 1\nseed: 2\n")
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "binary.yaml").write_bytes(b"name: \xff\xfe")
    (tmp_path / "control.yaml").write_bytes(b"name: \x01")
    assert refused(tmp_path / "scifct.yaml").endswith(f"no such file; did you mean {tmp_path / 'scifact.yaml'}?")
    assert "no such file; expected a YAML file, such as those in configs/" in refused(tmp_path / "other" / "z.yaml")
    assert refused(tmp_path).endswith("is a folder; expected a YAML file")
    assert "scifact.yaml, line 3, column 1: broken YAML: expected ',' or '}'" in refused(tmp_path / "scifact.yaml")
    assert refused(tmp_path / "twice.yaml").endswith("line 3, column 1: broken YAML: the key 'seed' is there twice")
    assert "found a list; expected a mapping with the keys name, seeds, corpus" in refused(tmp_path / "list.yaml")
    assert "found nothing; expected a mapping" in refused(tmp_path / "empty.yaml")
    assert "byte 6 is not UTF-8" in refused(tmp_path / "binary.yaml")
    assert "broken YAML" in refused(tmp_path / "control.yaml")


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: !!python/object/apply:os.getcwd []\n")
    assert "broken YAML: could not determine a constructor" in refused(tmp_path / "bad.yaml")


def yaml_bomb(step: str) -> str:
    """Six aliases within one another, of nine each: a million values."""
    lines = ["a: &a {k: v}"] + [
        f"{c}: &{c} {step.format(','.join([f'*{p}'] * 9))}" for p, c in zip("abcdef", "bcdefg", strict=True)
    ]
    return "\n".join(lines)


HOSTILE = {
    "billion laughs": (yaml_bomb("[{}]"), r"line \d, column \d+: broken YAML: more than 5,000 keys and values, those"),
    "of merged keys": (yaml_bomb("{{<<: [{}]}}"), "broken YAML: more than 5,000 keys and values"),
    "a self-reference": ("a: &a {b: [*a]}", "line 1, column 12: broken YAML: an alias of the value that it is in"),
    "deep nesting": ("a: " + "[" * 30_000, "line 1, column 53: broken YAML: nested more than 50 deep"),
    "deep lists": ("- " * 20_000, "broken YAML: nested more than 50 deep"),
    "unknown keys": ("".join(f"k{n}: 1\n" for n in range(20_000)), "has more than 131,072 characters; expected a"),
    "some unknown keys": (
        "".join(f"k{n}: 1\n" for n in range(2000)), r"has 2,004 problems:\n  .*\n  and 1,984 more$",
    ),
    "a long key": (f"? {'k' * 5000}\n: 1\n", r"\n  k{77}\.\.\.: unknown key \(found 1\)"),
    "a number of 5,000 digits": (f"seed: {'9' * 5000}", "broken YAML: '9999.* is no whole number"),
    "a set": ("train: {freeze: !!set {a, b}}", "could not determine a constructor for the tag 'tag:yaml.org,2002:set'"),
    "binary": ("name: !!binary aGk=", "could not determine a constructor for the tag"),
    "a date by its tag": ("name: !!timestamp x", "could not determine a constructor for the tag"),
    "a number by its tag": ("seed: !!int many", "line 1, column 7: broken YAML: 'many' is no whole number"),
    "two documents": ("name: x\n---\nname: y", "broken YAML: but found another document"),
    "a list for a key": ("? [a, b]\n: c", "broken YAML: found unhashable key"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    text, message = HOSTILE[name]
    (tmp_path / "run.yaml").write_text(text)
    began = time.process_time()
    assert re.search(message, refused(tmp_path / "run.yaml"), re.DOTALL)
    assert time.process_time() - began < 1


def test_an_endless_file_and_paths_that_are_none_are_refused() -> None:
    assert "config /dev/zero has more than 131,072 characters" in refused(Path("/dev/zero"))
    for path, reason in (
        ("~nosuchuser/run.yaml", "'~nosuchuser/run.yaml': there is no user nosuchuser, whose home it names"),
        ("x" * 5000, "xxx...': File name too long; expected the path of a file or folder"),
        ("a\0b", "a NUL or half of a surrogate pair is in it"),
    ):
        for read in (load_config, read_index_section):
            with pytest.raises(RequestError) as caught:
                read(path)
            assert reason in str(caught.value)
            assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 10), ("1:30", "1:30"), ("1_000", "1_000"), ("no", "no"), ("yes", "yes"), ("2020-01-01", "2020-01-01"),
     ("2e-5", 2e-5), ("0x10", "0x10"), ("true", True), ("~", None), ("-.inf", float("-inf")), ("08", 8)],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    assert read_yaml(text, "value") == value


def test_a_truth_value_of_yaml_1_1_is_named() -> None:
    assert problems(minimal(), "mine.lexical=yes") == ['mine.lexical: found "yes"; expected true or false (from --set)']


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
        | st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff"))
        | st.sampled_from(["no", "1e5", "08", "1:30", "2020-01-01", "<<", "=", "~", "0x1"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1~", max_size=3), inner, max_size=3),
        max_leaves=8,
    )
)  # fmt: skip
@hypothesis_settings(max_examples=40, deadline=None)
def test_values_are_written_so_that_they_are_read_back(value: object) -> None:
    assert read_yaml(write_yaml({"a": value}), "text") == {"a": value}


@given(data=st.data())
@hypothesis_settings(max_examples=40, deadline=None)
def test_whatever_a_setting_holds_there_is_one_message_or_a_config(data: st.DataObject) -> None:
    odd = st.sampled_from(
        [10**400, -1, 0, 1.5, "", "x" * 5000, "9" * 5000 + "GB", "nDCG@" + "9" * 5000, "PQ" + "9" * 5000, [], [[]], {},
         {"kind": []}, {"kind": {}}, {1: 2}, None, True, float("nan"), "../../x", "\0", [{"kind": "lexical"}] * 3]
    )  # fmt: skip
    path = data.draw(st.sampled_from(sorted(known_paths())))
    raw = ensemble({"kind": "lexical"}, {"kind": "ema"})
    *sections, last = path.split(".")
    node: Any = raw
    for part in sections:
        inner = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if not isinstance(inner, (dict, list)):
            return
        node = inner
    if isinstance(node, dict):
        node[last] = data.draw(odd)
    try:
        config = parse_config(raw)
    except ConfigError as error:
        said = str(error)
    else:
        said = ""
        assert isinstance(config, Config)
    if said:
        first, *found = said.split("\n")
        assert re.fullmatch(r"config has \d+ problems?:", first) and found
        assert all(line.isprintable() and len(line) < 500 for line in found), found
        assert all(re.match(r"  \S+: \w|  and \d+ more$", line) for line in found), found
        assert any(part in said for part in (*sections, last))


def test_a_set_of_endless_depth_or_odd_digits() -> None:
    assert problems(minimal(), "a." * 9000 + "b=1")[0].endswith(
        "found a path of 9,001 parts; expected the path of a setting"
    )
    assert problems(minimal(), "train.freeze.²=1") == [
        'train.freeze: found {"²": 1}; expected a list, each entry text (from --set)'
    ]


def test_problems_of_a_file_name_it(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("nam: x\n")
    assert refused(tmp_path / "run.yaml").startswith(f"config {tmp_path / 'run.yaml'} has 5 problems:\n")
