"""The model card says what a stranger must know, and nothing of the machine it was made on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from sdretrieval.encode.prompts import Prompts
from sdretrieval.export.card import Served, model_card
from sdretrieval.export.card_metadata import License, Published
from sdretrieval.export.layout import Agreement
from tests.export.conftest import FACTS
from tests.export.reports import REPORT

SERVED = Served(Prompts("query: ", ""), 256, 64, 384, {"onnx-int8": Agreement(0.9876, 0.9)})


def front(card: str) -> dict[str, Any]:
    return dict(yaml.safe_load(card.split("---\n")[1]))


def test_front_matter_names_library_and_base() -> None:
    head = front(model_card(FACTS, SERVED))
    assert head["library_name"] == "sentence-transformers"
    assert head["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert "self-distillation" in head["tags"]


def test_a_local_base_is_named_without_its_path() -> None:
    card = model_card(replace(FACTS, base_model="/home/someone/models/mini"), SERVED)
    assert "base_model" not in front(card)
    assert "/home/someone" not in card and "Base model: `mini`" in card


def test_before_and_after_with_interval_and_p() -> None:
    card = model_card(FACTS, SERVED)
    assert "tiny, split `test`, 24 queries, seed 13" in card
    assert "| student_0 | 0.2100 | 0.9000 |" in card and "| final | 0.5300 | 0.9500 |" in card
    assert "| final - student_0 | nDCG@10 | +0.3200 | +0.2000 to +0.4400 | 0.0001 |  | gain |" in card
    assert (
        "| hybrid_final - hybrid_0 | nDCG@10 | +0.0100 | -0.1000 to +0.1000 | 0.8 |  | no gain within noise |" in card
    )


def test_of_several_seeds_the_card_is_about_the_first_ones_model() -> None:
    other = {"generation": 1, "seed": 14, "decision": "rejected", "proven": False, "reason": "rejected: a loss: -0.3"}
    guard = {"text": "guard fiqa: -0.0100 (-0.0200 to +0.0010), p = 0.08"}
    report = REPORT | {"seeds": [13, 14], "generations": [*REPORT["generations"], other], "guard": guard}
    card = model_card(replace(FACTS, report=report), SERVED)
    assert "seeds 13, 14. " in card and "`final` is this model (seed 13), measured as the seeds' average." in card
    assert "-0.3" not in card.partition("## Lineage")[2]
    assert "* On another collection: guard fiqa: -0.0100 (-0.0200 to +0.0010), p = 0.08.\n" in card


def test_the_reports_own_verdict_after_holm_is_kept() -> None:
    test = REPORT["tests"][0] | {"p_holm": 0.06, "verdict": "no gain within noise"}
    card = model_card(replace(FACTS, report=REPORT | {"tests": [test]}), SERVED)
    assert "| 0.0001 | 0.06 | no gain within noise |" in card


def test_probabilities_have_their_calibration_error_and_are_called_estimates_where_they_are() -> None:
    figures = {"queries": 24, "error": {"score": 0.41, "probability": 0.019}}
    figures["first_error"] = {"score": 0.115, "probability": 0.086}
    fitted = {"estimate": False, "queries": 162, "figures": {"test": figures}}
    card = model_card(replace(FACTS, report=REPORT | {"probability": fitted}), SERVED)
    section = card.partition("## Probability of relevance")[2].partition("##")[0]
    assert "the map was fitted on 162 judged dev queries." in section and "estimate" not in section
    assert (
        "On split `test`, 24 queries, its expected calibration error is 0.019 over the best hits and 0.086 over first "
        "hits alone (the score's, cut to 0..1: 0.410 and 0.115)." in section
    )
    taught = fitted | {"estimate": True, "figures": {}}
    card = model_card(replace(FACTS, report=REPORT | {"probability": taught}), SERVED)
    section = card.partition("## Probability of relevance")[2].partition("##")[0]
    assert "every probability is an **estimate**" in section and "Nobody has measured how true it comes" in section


def test_lineage_teachers_generations_and_command() -> None:
    card = model_card(FACTS, SERVED)
    for words in (
        f"digest `{'b' * 32}`",
        f"Corpus: tiny, digest `{'c' * 32}`",
        "Teacher `ema`, weight 0.5: reads every window of a document",
        "* Generation 1: accepted, a proven gain: +0.3\n",
        "* Generation 2: rejected: a loss: -0.1\n",
        "sdretrieval run configs/tiny.yaml",
    ):
        assert words in card


def test_limits_are_plain() -> None:
    card = model_card(FACTS, SERVED)
    assert "Measured on tiny (split `test`) only" in card
    assert "The base mixed with BM25, untrained, reaches nDCG@10 0.8400, this model alone 0.5300." in card
    assert "A text is cut at 256 tokens." in card
    assert "this package, cut a query at 64: other software gives longer ones another vector" in card
    assert "cut a query" not in model_card(FACTS, replace(SERVED, query_tokens=None))
    assert "Format `onnx-int8`: on the canary texts its lowest cosine with torch is 0.9876, and 90% of" in card
    assert "estimate" not in card


def test_estimates_rejections_and_the_unmeasured_are_marked() -> None:
    assert "**estimate**: no labels were used" in model_card(replace(FACTS, report=REPORT | {"estimate": True}), SERVED)
    rejected = REPORT | {"generations": REPORT["generations"][1:]}
    assert "No generation passed the gate" in model_card(replace(FACTS, report=rejected), SERVED)
    assert "Nothing was trained" in model_card(replace(FACTS, report=REPORT | {"generations": []}), SERVED)
    bare = model_card(replace(FACTS, report=None), SERVED)
    assert "Nothing was measured" in bare and "## Results" not in bare


def test_a_split_whose_queries_were_made_is_marked_wherever_it_is_named() -> None:
    card = model_card(replace(FACTS, report=REPORT | {"split_is_synthetic": True, "n_queries": 1}), SERVED)
    assert card.count("split `test` (**estimate**: its queries were made from documents)") == card.count("split `test`")
    assert ", 1 query, seed 13" in card


def test_a_name_with_bars_and_line_breaks_keeps_the_table_whole() -> None:
    report = REPORT | {"systems": ["a|b\nc"], "measures": {"a|b\nc": {"nDCG@10": 0.5}}, "tests": []}
    assert "| a\\|b c | 0.5000 |" in model_card(replace(FACTS, report=report), SERVED)


def test_mteb_is_told_a_name_and_a_revision_since_it_would_ask_the_hub() -> None:
    card = model_card(FACTS, replace(SERVED, digest="e" * 32))
    assert (
        f"""
model.model_card_data.model_name = "local/tiny run"
model.model_card_data.base_model_revision = "{"e" * 32}"
results = mteb.evaluate(model, """
        in card
    )


def test_the_card_lies_beside_the_model(bundle: Path) -> None:
    assert 'SentenceTransformer(".")' in (bundle / "README.md").read_text()


def parsed(card: str) -> ModelCardData:
    """As huggingface_hub reads it; it raises for a model index that is none."""
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_hubs_own_reader_finds_the_figures_and_those_before_training() -> None:
    known = Published(License("apache-2.0"), "en", "acme/manuals")
    data = parsed(model_card(replace(FACTS, published=known), SERVED))
    assert (data.language, data.license, data.datasets) == ("en", "apache-2.0", ["acme/manuals"])
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert data.model_name == "tiny run" and data.eval_results is not None
    first, second = data.eval_results
    assert (first.task_type, first.dataset_type, first.dataset_name, first.dataset_split) == (
        "retrieval", "acme/manuals", "tiny", "test",
    )  # fmt: skip
    assert (first.metric_type, first.metric_name, first.metric_value) == ("ndcg_at_10", "nDCG@10", 0.53)
    assert first.metric_args == {"before_training": 0.21, "queries": 24}
    assert (second.metric_type, second.metric_value) == ("recall_at_100", 0.95)


def test_what_is_not_known_is_not_in_the_metadata() -> None:
    for facts in (FACTS, replace(FACTS, report=None)):
        head = front(model_card(facts, SERVED))
        assert not {"license", "license_name", "license_link", "language", "datasets"} & set(head)
    assert "model-index" not in head and "model_name" not in head
    named = Published(License("other", "acme", "https://acme.example/licence"))
    assert parsed(model_card(replace(FACTS, published=named), SERVED)).license_name == "acme"


def test_an_estimate_of_several_seeds_is_one_in_the_metadata_too() -> None:
    report = REPORT | {"split_is_synthetic": True, "seeds": [13, 14], "corpus": 'a: "b"\n- c #'}
    results = parsed(model_card(replace(FACTS, report=report), SERVED)).eval_results
    assert results is not None
    assert results[0].dataset_name == 'a: "b" - c # (estimate: its queries were made from documents)'
    assert results[0].dataset_type == "unknown"
    assert results[0].metric_args == {"before_training": 0.21, "queries": 24, "average_over_seeds": [13, 14]}
