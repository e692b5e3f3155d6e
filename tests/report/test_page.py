"""The HTML report: self-contained, escaped, complete, and never in the way of a run that lacks a part."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.report.page import (
    COMPARISONS,
    _judged,
    duration,
    excerpts,
    findings,
    p_value,
    render,
    signed,
    size,
    ticks,
)
from sdretrieval.report.words import advice, headline, price

VOID = {"meta", "br", "link", "img", "input", "hr"}
ATTACK = "<script>alert(1)</script> \"quoted\" & 'single'"
SYSTEMS = ["bm25", "student_0", "hybrid_0", "teacher@student_0", "hard_labels", "generation_1", "final", "hybrid_final"]


class Page(HTMLParser):
    """Checks that tags nest, and keeps tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def paired(a: str, b: str, difference: float, p: float) -> dict[str, Any]:
    bounds = [difference - 0.02, difference + 0.02]
    return {"a": a, "b": b, "measure": "nDCG@10", "difference": difference, "interval95": bounds, "p": p}


@pytest.fixture
def report() -> dict[str, Any]:
    return {
        "schema": 1, "corpus": "scifact", "split": "test", "n_queries": 300, "seeds": [13], "systems": SYSTEMS,
        "measures": {name: {"nDCG@10": 0.6 + 0.01 * at, "Recall@100": 0.9} for at, name in enumerate(SYSTEMS)},
        "dev_measures": {name: {"nDCG@10": 0.58 + 0.01 * at} for at, name in enumerate(SYSTEMS)},
        "tests": [paired("final", "student_0", 0.045, 0.0001), paired("final", "hybrid_0", -0.04, 0.002),
                  paired("final", "hard_labels", 0.004, 0.61), paired("hybrid_final", "hybrid_0", 0.009, 0.3)],
        "generations": [{"generation": 1, "seed": 13, "decision": "accepted", "proven": True,
                         "reason": "a proven gain: +0.04", "seconds": 200.0}],
        "seconds": 754.0, "peak_rss_bytes": 2_345_000_000,
    }  # fmt: skip


@pytest.fixture
def details() -> dict[str, Any]:
    query = {"query": ATTACK, "before": 0.2, "after": 0.9, "difference": 0.7, "top_before": "a paper on mice",
             "top_after": ["a paper on men", "another"], "relevant": "a paper on men"}  # fmt: skip
    histogram = {"edges": [-1.0, 0.0, 1.0, 2.0], "counts": [3, 10, 0]}
    row = {"description": "a system", "difference": 0.01, "interval95": [-0.01, 0.03], "p": 0.2, "p_holm": 0.4,
           "dev": {"nDCG@10": 0.61}, "test": {"nDCG@10": 0.62}, "verdict": "no gain within noise"}  # fmt: skip
    return {
        "headline": "Distillation pays on SciFact",
        "table": [{"system": name, **row} for name in SYSTEMS],
        "by_generation": [{"generation": 0, "dev": 0.6, "test": 0.61}, {"generation": 1, "dev": 0.64, "test": None},
                          {"generation": 2, "dev": 0.641, "test": 0.64}],
        "score_histograms": {"cross-encoder": histogram, "lexical": histogram},
        "entropy_histograms": {"targets": histogram},
        "mining": {1: {"kept": 1600, "removed": {"known positive": 91, "same text": 2},
                       "examples": [{"reason": "same text", "query": ATTACK, "document": "a twin"}]}},
        "wins": [query], "losses": [{**query, "difference": -0.7}],
        "stages": [{"generation": 0, "stage": "encode", "cached": True, "seconds": 0.0, "peak_rss_bytes": 10**9,
                    "counts": {"documents": 5183}},
                   {"generation": 1, "stage": "train", "cached": False, "seconds": 312.5, "peak_rss_bytes": None,
                    "counts": {}}],
        "probe": [{"teacher": "ensemble", "weights": {"ema": 0.5, "lexical": 0.5}, "measure": "nDCG@10",
                   "difference": 0.08, "interval95": [0.05, 0.11], "p": 0.0001}],
        "notes": ["dev queries were generated: estimate"],
        "config": "name: scifact\n", "versions": {"torch": "2.13"},
    }  # fmt: skip


def found(*bins: list[float]) -> dict[str, Any]:
    pairs = {"score": 0.3, "probability": 0.01}
    answered = [[1 - n / 10, 0.6 + n / 50] for n in range(10)]
    return {"queries": 300, "hits": 3000, "error": pairs, "first_error": pairs, "brier": pairs, "bins": list(bins),
            "nauc": {"score": 0.42, "gap": None, "probability": 0.736}, "answered": answered}  # fmt: skip


def test_probabilities_have_a_table_and_two_charts(report: dict[str, Any], details: dict[str, Any]) -> None:
    without = render(report, details)
    figures = {"dev": found([0.05, 0.04, 900], [0.9, 1.0, 100]), "test": found([0.04, 0.05, 3000])}
    report["probability"] = {"estimate": True, "queries": 162, "measure": "nDCG@10", "figures": figures, "map": {}}
    page = Page(render(report, details))
    assert page.open == [] and 'href="#probability"' not in without
    text = " ".join(page.text.split())
    assert "an estimate made on other collections" in text
    assert "by gap –" in text and "0.736" in text
    assert "probability 0.90, relevant 1.00, 100 hits" in text
    dots = [attrs for tag, attrs in page.tags if tag == "circle" and attrs.get("opacity")]
    assert [dot["class"] for dot in dots] == ["dev", "dev", "test"]
    on_line = [float(str(dot["cx"]).strip("%")) for dot in dots]
    assert 12 < on_line[2] < on_line[0] < on_line[1] < 96
    report["probability"] = {"map": {}, "estimate": True, "figures": {}}
    assert Page(render(report, details)).open == []


def test_the_page_holds_everything_and_loads_nothing(report: dict[str, Any], details: dict[str, Any]) -> None:
    html = render(report, details)
    page = Page(html)
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "img", "object", "embed"}
    addresses = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    assert addresses
    assert all(value is not None and value.startswith("#") for value in addresses)
    anchors = {attrs.get("id") for _, attrs in page.tags}
    assert {str(value)[1:] for value in addresses} <= anchors
    assert "url(" not in html
    assert "@import" not in html
    assert sum(tag == "svg" for tag, _ in page.tags) == 7


def test_texts_are_escaped_and_complete(report: dict[str, Any], details: dict[str, Any]) -> None:
    html = render(report, details)
    page = Page(html)
    assert "<script" not in html
    assert ATTACK in page.text
    for words in (*SYSTEMS, "no gain within noise", "Distillation pays on SciFact", "same text", "a paper on mice",
                  "0/encode", "5 min 12 s", "ema 0.5, lexical 0.5", "1,600", "name: scifact", "estimate", "2.3 GB",
                  "a proven gain: +0.04", "Holm 0.400", "documents 5,183"):  # fmt: skip
        assert words in page.text, words


def test_it_says_plainly_that_untrained_hybrid_search_is_better(report: dict[str, Any]) -> None:
    text = Page(render(report, {"headline": "A headline"})).text
    assert "The final student beats the base student: nDCG@10 0.6600 against 0.6100, +0.0450" in text
    report["measures"]["hybrid_0"]["nDCG@10"] = 0.7
    text = Page(render(report, {"headline": "A headline"})).text
    assert "Untrained hybrid search beats the final student: nDCG@10 0.7000 against 0.6600, +0.0400, 95 %" in text
    assert "interval +0.0200 to +0.0600, p = 0.006 after Holm. If you can run BM25 beside the index" in text
    assert "Hybrid search with the final student shows no gain within noise over untrained hybrid search" in text
    assert "The final student shows no gain within noise over the control hard_labels" in text
    report["tests"] = [{**test, "p": 0.02} for test in report["tests"]]
    assert "The final student shows no gain within noise over the base" in Page(render(report, {})).text  # Holm: 0.08
    report["tests"] = []
    assert "final has nDCG@10 0.660, hybrid_0 has 0.700 (not tested)." in Page(render(report, {})).text


SENTENCE = re.compile(
    r"(?P<a>.+) (?P<relation>beats|shows no gain within noise over) (?P<b>.+): nDCG@10 (?P<of_a>[\d.]+) against "
    r"(?P<of_b>[\d.]+), (?P<difference>[+−]?[\d.]+)(, 95 % interval (?P<low>[+−]?[\d.]+) to (?P<high>[+−]?[\d.]+), "
    r"p [<=] (?P<p>[\d.]+) after Holm)?\.( If you can run BM25 .*)?"
)


@given(
    means=st.lists(st.sampled_from([0.0, 0.2, 0.2001, 0.7, 1.0]), min_size=6, max_size=6),
    p=st.sampled_from([1e-6, 0.01, 0.9, 1.0]),
    decisions=st.sampled_from([[], ["rejected"], ["accepted"], ["rejected", "merged"]]),
    queries=st.sampled_from([1, 300]),
)
def test_whoever_is_ahead_comes_first_in_words_and_figures(
    means: list[float], p: float, decisions: list[str], queries: int
) -> None:
    names = ("student_0", "hybrid_0", "hard_labels", "shuffled_teacher", "final", "hybrid_final")
    of = dict(zip(names, means, strict=True))
    trained = any(decision != "rejected" for decision in decisions)
    if not trained:  # the final student is the base
        of |= {"final": of["student_0"], "hybrid_final": of["hybrid_0"]}
    report = {
        "corpus": "tiny", "split": "test", "estimate": False, "split_is_synthetic": False, "n_queries": queries,
        "n_dev_queries": 50,
        "trained": bool(decisions), "seeds": [13], "pretrained": None,
        "generations": [{"decision": decision} for decision in decisions],
        "measures": {name: {"nDCG@10": mean} for name, mean in of.items()},
        "tests": [paired(a, b, of[a] - of[b], p if of[a] != of[b] and queries > 1 else 1.0) for a, b in COMPARISONS],
    }  # fmt: skip
    said = findings(report)
    assert len(set(said)) == len(said) == (5 if trained else 3)
    for sentence in said:
        match = SENTENCE.fullmatch(sentence)
        assert match is not None, sentence
        of_a, of_b = float(match["of_a"]), float(match["of_b"])
        difference = float(match["difference"].replace("−", "-"))
        assert difference == pytest.approx(of_a - of_b)
        assert match["relation"] != "beats" or (of_a > of_b and float(match["p"]) < 0.05)
        assert ("the final student" in sentence.lower()) == trained
        if queries > 1:
            low, high = (float(match[name].replace("−", "-")) for name in ("low", "high"))
            assert low <= difference <= high
        else:
            assert match["p"] is None
        if "compare with hybrid search first" in sentence:
            assert of["hybrid_0"] > of["final"]
    report["tests"] = _judged(report["tests"])
    first = headline(report)
    assert ("the final student is the base" in first) == (not trained)
    assert ("Nothing was trained" in first) == (not decisions)


def test_a_base_that_serves_with_its_lexical_half_is_called_so() -> None:
    means = {"student_0": 0.4, "half_0": 0.6, "final": 0.6, "hybrid_0": 0.5}
    report: dict[str, Any] = {
        "corpus": "tiny", "split": "test", "estimate": False, "split_is_synthetic": False, "n_queries": 300,
        "n_dev_queries": 50, "trained": False, "seeds": [13], "pretrained": None, "generations": [],
        "measures": {name: {"nDCG@10": mean} for name, mean in means.items()},
        "tests": _judged([paired("final", b, means["final"] - means[b], 1e-6) for b in ("student_0", "hybrid_0")]),
    }  # fmt: skip
    assert headline(report).endswith("so the final student is the base with its lexical half (nDCG@10 0.6000).")
    assert findings(report)[0].startswith("The base student with its lexical half beats untrained hybrid search")


def test_the_page_says_nothing_twice(report: dict[str, Any], details: dict[str, Any]) -> None:
    details["notes"] = findings(report)
    text = Page(render(report, details)).text
    for sentence in details["notes"]:
        assert text.count(sentence) == 1


def test_the_report_alone_makes_a_page(report: dict[str, Any]) -> None:
    text = Page(render(report, {})).text
    for name in SYSTEMS:
        assert name in text
    assert "0.600" in text
    assert "no gain within noise" in text
    assert "Wins and losses" not in text


def test_an_empty_report_and_every_single_part_make_a_page(report: dict[str, Any], details: dict[str, Any]) -> None:
    assert Page(render({}, {})).open == []
    for part, value in details.items():
        assert Page(render(report, {part: value})).open == []
        assert Page(render({}, {part: value})).open == []
        assert Page(render(report, {**details, part: None})).open == []


def test_every_dev_figure_of_a_run_without_labels_is_called_an_estimate(
    report: dict[str, Any], details: dict[str, Any]
) -> None:
    plain = Page(render(report, details)).text
    assert "estimate)" not in plain
    text = Page(render({**report, "estimate": True}, details)).text
    assert text.count("dev (estimate)") == plain.count("dev") - details["notes"][0].count("dev")
    on_dev = Page(render({**report, "estimate": True, "split": "dev"}, details)).text
    assert "split dev (estimate)" in on_dev
    assert "on the dev (estimate) queries" in on_dev
    made = Page(render({**report, "estimate": True, "split_is_synthetic": True}, details)).text
    assert "split test (estimate)" in made and "on the test (estimate) queries" in made


def test_a_peak_that_is_not_the_stages_own_says_so(report: dict[str, Any], details: dict[str, Any]) -> None:
    assert Page(render(report, details)).text.count("up to this stage") == 1
    details["stages"] = [{**row, "peak_is_own": True} for row in details["stages"]]
    assert "up to this stage" not in Page(render(report, details)).text


def test_the_probes_table_shows_p_after_holm(report: dict[str, Any], details: dict[str, Any]) -> None:
    details["probe"] = [{**details["probe"][0], "p_holm": 0.0123}]
    text = Page(render(report, details)).text
    assert "Holm 0.012" in text
    assert "p corrected by Holm over the rows" in text


def test_the_probes_table_names_the_teacher_to_take_and_each_ones_price(
    report: dict[str, Any], details: dict[str, Any]
) -> None:
    assert "To score the lists" not in Page(render(report, details)).text, "nothing is known of a price"
    members = [{"name": "ema", "seconds": 70.0}, {"name": "lexical", "seconds": 0.0}]
    row = {**details["probe"][0], "weights": [0.5, 0.5], "seconds": 70.0}
    probe = {"members": members, "rows": [row], "weights": [0.5, 0.5], "train": True, "chosen": True,
             "predicted": None, "estimate": False, "judge": None, "measure": "nDCG@10"}  # fmt: skip
    text = Page(render(report, {**details, "probe": [row], "advice": advice(probe)})).text
    assert "Advice: take ensemble: +0.080 (+0.050 to +0.110) in nDCG@10 on dev; to score the training lists:" in text
    assert text.count("1 min 10 s") == 2


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([{"seconds": 12.34}, {"seconds": 0.0}], "12.3 s"),
        ([{"seconds": 0.0}], "nothing"),
        ([{"seconds": None}, {"seconds": 3.0}], ""),
        ([{}], ""),
        (
            [{"seconds": 2.0}, {"seconds": None, "asked": {"model": "big", "calls": 1200, "prompt_tokens": 3000000}}],
            "2.0 s and 1,200 calls with 3,000,000 tokens of big",
        ),
    ],
)
def test_a_price_is_time_here_and_calls_elsewhere(members: list[dict[str, Any]], expected: str) -> None:
    assert price(members) == expected


def test_what_was_left_out_of_the_lists_is_counted(report: dict[str, Any], details: dict[str, Any]) -> None:
    example = {"query": ATTACK, "document": "a lost answer", "score": 0.9, "threshold": 0.7}
    suspects = {"rule": "margin", "negatives": 1200, "removed": 34, "lists_touched": 20, "lists_emptied": 1,
                "lists_without_positive": 2, "examples": [example]}  # fmt: skip
    details["mining"][1] |= {"lists": 1600, "lists_left_out": 3, "false_negatives": suspects}
    html = render(report, details)
    text = Page(html).text
    assert "<script" not in html
    for words in ("Left out: 3 of 1,600 lists, with fewer than 2 documents",
                  "34 of 1,200 negatives left the hard-label term",
                  "a lost answer", "score 0.900, above 0.700"):  # fmt: skip
        assert words in text, words


def test_gaps_in_the_numbers_are_dashes(report: dict[str, Any]) -> None:
    row = {"system": "bm25", "dev": None, "test": {"nDCG@10": math.nan}, "difference": None, "interval95": None}
    assert Page(render(report, {"table": [row]})).text.count("–") >= 3


def test_numbers_are_written_for_readers() -> None:
    assert [signed(0.0449), signed(-0.012), signed(-0.0001), signed(None)] == ["+0.045", "−0.012", "0.000", "–"]
    assert [p_value(0.0001), p_value(0.04), p_value(0.04, sign=True)] == ["< 0.001", "0.040", "= 0.040"]
    assert [duration(8.42), duration(200), duration(7505)] == ["8.4 s", "3 min 20 s", "2 h 05 min"]
    assert [size(2.345e9), size(5e6)] == ["2.3 GB", "5.0 MB"]
    assert excerpts("word " * 200)[0].endswith("word…")


@given(low=st.floats(-5, 5), width=st.floats(0.001, 10))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    assert 1 <= len(marks) <= 6
    assert all(low - 1e-6 <= mark <= low + width + 1e-6 for mark in marks)
