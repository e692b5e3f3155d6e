"""What an exported run's card tells the hub: a licence, a language and a dataset only if they are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData

from sdretrieval.cli.card import license_of, published
from sdretrieval.config import Config, parse_config
from sdretrieval.corpus import Corpus, open_corpus
from sdretrieval.export.card_metadata import License, Published
from tests.cli.conftest import Call, Finished, settings


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Path) -> Corpus:
    """The tiny one: it is in English."""
    return open_corpus(str(tiny_corpus))


def config_with(corpus: Path, student: Path, source: str = "", **more: object) -> Config:
    """The tiny config with other settings of the student."""
    given = settings(corpus, student)
    given["student"] |= more
    if source:
        given["corpus"]["source"] = source
    return parse_config(given)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model", License("apache-2.0")),
        ("---\nlicense: other\nlicense_name: acme\nlicense_link: LICENSE\n---", License("other", "acme", "LICENSE")),
        ("---\ntags: [x]\n---", None),
        ("# no front matter", None),
        ("---\nlicense: [mit, x]\n---", None),
        ("---\n: [\n---", None),
        ("---\n- a list\n---", None),
    ],
)
def test_a_licence_is_what_the_base_models_card_says(tmp_path: Path, card: str, expected: License | None) -> None:
    (tmp_path / "README.md").write_text(card, encoding="utf8")
    assert license_of(tmp_path) == expected


def test_the_configs_licence_comes_first_and_none_is_invented(
    tiny_corpus: Path, tiny_student: Path, corpus: Corpus, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_student, tmp_path / "base"))
    assert published(config_with(tiny_corpus, base), base, corpus) == Published(None, "en", None)
    (base / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf8")
    assert published(config_with(tiny_corpus, base), base, corpus).license == License("mit")
    named = config_with(tiny_corpus, base, license="cc-by-4.0")
    assert published(named, base, corpus).license == License("cc-by-4.0")
    assert published(config_with(tiny_corpus, base), tmp_path / "gone", corpus).license is None


def test_a_dataset_is_named_only_if_it_is_the_hubs(
    tiny_corpus: Path, tiny_student: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("acme/local").mkdir(parents=True)
    for source, expected in (
        ("hf:acme/manuals", "acme/manuals"),
        ("hf:acme/manuals:default:train", "acme/manuals"),
        ("hf:acme/local", None),
        ("beir:scifact", None),
        ("acme/manuals.csv", None),
    ):
        config = config_with(tiny_corpus, tiny_student, source)
        assert published(config, tiny_student, corpus).dataset == expected


def test_an_exported_run_has_a_card_with_figures_that_the_hubs_reader_takes(
    finished: Finished, tmp_path: Path, call: Call
) -> None:
    done = call("export", "tiny", tmp_path / "bundle", "--runs", finished.runs)
    assert done.code == 0, done.err
    data = ModelCard.load(tmp_path / "bundle" / "README.md").data
    assert isinstance(data, ModelCardData) and data.eval_results
    first = data.eval_results[0]
    assert (data.language, data.license, first.metric_type) == ("en", None, "ndcg_at_10")
    assert first.metric_args["before_training"] < first.metric_value
