"""BM25: the matrix equals bm25s, search equals the matrix, no shared term is no hit, identifiers can be found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.indexes import LexicalIndex
from sdretrieval.indexes.terms import identifier_words

TEXTS = [
    "Dough rises when the yeast is warm.",
    "A warm oven bakes the loaf; yeast, yeast and more yeast.",
    "The sail and the mast of a vessel.",
    "",
    "Vessels sail on warm seas.",
    "Dough rises when the yeast is warm.",
]
WORDS = st.lists(st.sampled_from("warm yeast oven sail mast unknown the running runs".split()), max_size=8).map(
    " ".join
)


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(WORDS, min_size=1, max_size=12),
    queries=st.lists(WORDS, min_size=1, max_size=4),
    k=st.integers(1, 15),
)
def test_search_orders_exactly_the_documents_with_a_score(texts: list[str], queries: list[str], k: int) -> None:
    index = LexicalIndex.build([*texts, "anchor"])
    scores = index.scores(queries, range(index.count))
    hits = index.search(queries, k)
    for row_of_scores, rows, found in zip(scores, hits.rows_Qk, hits.scores_Qk, strict=True):
        expected = sorted(np.flatnonzero(row_of_scores), key=lambda row: (-row_of_scores[row], row))[:k]
        assert rows[: len(expected)].tolist() == expected
        np.testing.assert_allclose(found[: len(expected)], row_of_scores[expected], rtol=1e-5)
        assert (rows[len(expected) :] == -1).all() and np.isneginf(found[len(expected) :]).all()


def test_scores_agree_with_bm25s() -> None:
    index = LexicalIndex.build(TEXTS)
    model = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    terms = {number: term for term, number in index.vocabulary.numbers.items()}
    model.index([[terms[i] for i in index.vocabulary.ids(text)] for text in TEXTS], show_progress=False)
    for query in ("warm yeast yeast", "sails of vessels", "warm"):
        theirs = model.get_scores([terms[number] for number in index.vocabulary.ids(query)])
        np.testing.assert_allclose(index.scores([query], range(len(TEXTS)))[0], theirs, rtol=1e-5)


def test_scores_follow_the_formula() -> None:
    index = LexicalIndex.build(["warm yeast yeast", "warm oven", "cold"])
    length, mean, idf = 3, 2.0, np.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 2 / (2 + 0.9 * (1 - 0.4 + 0.4 * length / mean))
    assert index.scores(["yeast"], [0])[0, 0] == pytest.approx(expected, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(WORDS, min_size=1, max_size=12), query=WORDS)
def test_no_document_exceeds_what_a_query_can_reach(texts: list[str], query: str) -> None:
    index = LexicalIndex.build([*texts, "anchor"])
    covered = index.coverage([query], range(index.count))
    assert (covered >= 0).all() and (covered <= 1 + 1e-6).all()
    np.testing.assert_array_equal(covered > 0, index.scores([query], range(index.count)) > 0)


def test_coverage_says_how_much_of_a_query_a_document_holds() -> None:
    index = LexicalIndex.build(["yeast " * 500, "warm oven", *["yeast warm"] * 2])
    assert index.coverage(["yeast"], [0])[0, 0] == pytest.approx(1.0, abs=0.01)
    known, unknown, stopped = index.reach(["yeast", "yeast zeppelin zeppelin", "the yeast"])
    rarest = np.log(1 + (4 - 1 + 0.5) / (1 + 0.5))  # of oven, in one of four documents
    assert unknown - known == pytest.approx(2 * rarest, rel=1e-5), "what no document holds counts as the rarest word"
    assert stopped == known
    one, both, three = index.norm(["yeast", "yeast oven", "yeast oven zeppelin"])
    assert one == pytest.approx(known)
    assert (both, three) == pytest.approx((np.hypot(known, rarest), np.sqrt(known**2 + 2 * rarest**2)), rel=1e-5)
    assert index.reach(["the of"]).tolist() == [0.0]
    assert index.coverage(["the of"], [0, 1]).tolist() == [[0.0, 0.0]]


def test_the_coverage_of_each_querys_own_hits_and_the_best_there_is() -> None:
    index = LexicalIndex.build(TEXTS)
    queries = ["warm yeast", "sail", "nothing known"]
    every = index.coverage(queries, range(len(TEXTS)))
    rows = np.array([[2, 0, -1], [1, 1, 0], [0, -1, -1]])
    found = index.coverage_of(queries, rows)
    np.testing.assert_allclose(found[:, 0], every[[0, 1, 2], rows[:, 0]], rtol=1e-6)
    np.testing.assert_allclose(found[:2, 1], every[[0, 1], rows[:2, 1]], rtol=1e-6)
    assert (found[rows < 0] == 0).all()
    np.testing.assert_allclose(index.best_coverage(queries), every.max(axis=1), rtol=1e-6)


def test_prepared_queries_score_any_rows_in_any_order() -> None:
    index = LexicalIndex.build(TEXTS)
    queries = ["warm yeast", "sail", "nothing known"]
    whole = index.scores(queries, range(len(TEXTS)))
    part = index.prepare(queries).scores([2, 0], [4, 1, 1, 3])
    assert part.dtype == np.float32 and part.flags.c_contiguous
    np.testing.assert_allclose(part, whole[[2, 0]][:, [4, 1, 1, 3]], rtol=1e-6)


def test_a_document_without_a_shared_term_is_no_hit() -> None:
    hits = LexicalIndex.build(TEXTS).search(["dough", "the of", "zeppelin"], 6)
    assert hits.rows_Qk[0].tolist() == [0, 5, -1, -1, -1, -1]
    assert hits.counts_Q.tolist() == [2, 0, 0]


def test_words_are_stemmed_and_case_is_ignored() -> None:
    assert LexicalIndex.build(TEXTS).search(["RISING"], 1).rows_Qk[0, 0] == 0


def test_identifiers_are_found_by_their_words_only_when_split() -> None:
    texts = ["def parse_config(path): ...", "class JSONDecoder: ...", "os.path.join(a, b)", "print nothing"]
    split = LexicalIndex.build(texts, split_identifiers=True)
    assert split.search(["parse config", "decoder", "join paths", "os.path.join"], 1).rows_Qk[:, 0].tolist() == [
        0,
        1,
        2,
        2,
    ]
    assert LexicalIndex.build(texts).search(["parse config"], 1).rows_Qk[0, 0] == -1
    whole, parts = split.scores(["parse_config"], [0])[0, 0], split.scores(["parse config"], [0])[0, 0]
    assert whole > parts, "the whole identifier must stay a term of its own"


def test_how_an_identifier_is_split() -> None:
    words = list(identifier_words("json.JSONDecoder.raw_decode(x, base64Encode)"))
    assert words[0] == "json.JSONDecoder.raw_decode"
    assert words[1:] == [
        "json",
        "JSONDecoder",
        "JSON",
        "Decoder",
        "raw_decode",
        "raw",
        "decode",
        "base64Encode",
        "base64",
        "Encode",
    ]


@pytest.mark.parametrize("split_identifiers", [False, True])
def test_saved_and_loaded_gives_the_same_hits(split_identifiers: bool, tmp_path: Path) -> None:
    built = LexicalIndex.build([*TEXTS, "parse_config für Öfen"], split_identifiers=split_identifiers)
    built.save(tmp_path)
    loaded = LexicalIndex.load(tmp_path)
    queries = ["warm yeast", "parse config", "öfen", ""]
    for before, after in zip(built.search(queries, 5), loaded.search(queries, 5), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (loaded.k1, loaded.b, loaded.count) == (0.9, 0.4, 7)


SENTENCES = {
    "chinese": ("北京是中华人民共和国的首都。", "上海有很多高楼大厦，黄浦江穿城而过。", "中国首都"),
    "one character": ("龙井是一种绿茶，产于杭州。", "咖啡原产于埃塞俄比亚。", "茶"),
    "japanese": ("東京都の人口は約1400万人です。", "京都には古い寺がたくさんあります。", "人口の多い東京"),
    "katakana": ("コンピューターの歴史について。", "桜の花が咲きました。", "ｺﾝﾋﾟｭｰﾀｰ"),
    "thai": ("กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", "ภูเขาและทะเลสวยงามมาก", "เมืองหลวง"),
    "lao": ("ວຽງຈັນເປັນນະຄອນຫຼວງຂອງລາວ", "ແມ່ນ້ຳຂອງຍາວຫຼາຍ", "ນະຄອນຫຼວງ"),
    "khmer": ("ភ្នំពេញជារាជធានីរបស់កម្ពុជា", "ទន្លេមេគង្គវែងណាស់", "រាជធានី"),
    "burmese": ("နေပြည်တော်သည် မြန်မာနိုင်ငံ၏ မြို့တော်ဖြစ်သည်", "ဧရာဝတီ မြစ်", "မြို့တော်"),
    "korean": ("서울은 대한민국의 수도입니다.", "부산에는 바다가 있습니다.", "수도"),
    "arabic": ("القاهرة عاصمة مصر وأكبر مدنها.", "النيل نهر طويل في إفريقيا.", "عَاصِمَة"),
    "russian": ("Москва является столицей России.", "Волга впадает в Каспийское море.", "столицей"),
    "greek": ("Η Αθήνα είναι η πρωτεύουσα της Ελλάδας.", "Ο Όλυμπος είναι ψηλό βουνό.", "ΠΡΩΤΕΥΟΥΣΑ αθήνα"),
    "hindi": ("दिल्ली भारत की राजधानी है।", "गंगा एक लंबी नदी है।", "राजधानी"),
    "german": ("Die Hauptstadt von Österreich ist Wien.", "Der Rhein ist ein langer Fluss.", "O\u0308sterreich"),
    "marks": ("Le cafe\u0301 est ferme\u0301.", "Le pain est bon.", "café"),
    "mixed": ("请在 config.yaml 里设置 batch_size 参数。", "安装 Python 之后重启电脑。", "batch_size 怎么设置"),
    "persian": ("او می\u200cخواهد کتاب\u200cها را بخواند.", "هوا سرد است.", "میخواهد"),
    "a part of a persian word": ("او می\u200cخواهد کتاب\u200cها را بخواند.", "هوا سرد است.", "کتاب"),
    "soft hyphens": (
        "Die Donau\u00addampf\u00adschiff\u00adfahrt endet.",
        "Der Rhein fließt.",
        "Donaudampfschifffahrt",
    ),
    "soft hyphens asked for": (
        "Die Donaudampfschifffahrt endet.",
        "Der Rhein fließt.",
        "Donau\u00addampf\u00adschifffahrt",
    ),
    "ligatures": ("The o\ufb03ce needs an e\ufb03cient \ufb01lter.", "A boiler.", "efficient"),
    "zero-width spaces": ("The micro\u200bcontroller resets.", "A micro wave, a controller.", "microcontroller"),
    "a byte order mark inside": ("\ufeffzebra crossing", "A street.", "zebra"),
    "full width": ("ＡＢＣ１２３ manual", "ABC 124 manual", "abc123"),
    "sharp s": ("Straße groß", "Gasse klein", "STRASSE"),
    "subscripts": ("CO₂ emissions", "CO emissions", "CO2"),
    "emoji": ("I ❤️ hiking 👩‍💻", "I like the sea 🌊", "❤️ hiking"),
}


@pytest.mark.parametrize("name", SENTENCES)
@pytest.mark.parametrize("split_identifiers", [False, True])
def test_a_text_in_any_script_is_found_by_a_part_of_it(name: str, split_identifiers: bool, tmp_path: Path) -> None:
    right, wrong, query = SENTENCES[name]
    built = LexicalIndex.build([wrong, right], split_identifiers=split_identifiers)
    built.save(tmp_path)
    for index in (built, LexicalIndex.load(tmp_path)):
        assert index.search([query], 1).rows_Qk[0, 0] == 1
        assert index.scores([query], [1])[0, 0] > index.scores([query], [0])[0, 0]


def test_identifiers_beside_chinese_are_split_as_ever() -> None:
    index = LexicalIndex.build(["调用parse_config函数", "安装软件"], split_identifiers=True)
    assert index.search(["parse config"], 1).rows_Qk[0, 0] == 0
    assert {"parse_config", "函数"} <= set(index.vocabulary.numbers)


def test_a_language_stems_and_drops_its_own_words(tmp_path: Path) -> None:
    texts = ["Die Katzen schlafen auf den Dächern", "Der Hund bellt in der Nacht"]
    german = LexicalIndex.build(texts, language="german")
    assert german.search(["Katze", "Dach", "die der"], 1).rows_Qk[:, 0].tolist() == [0, 0, -1]
    german.save(tmp_path)
    assert LexicalIndex.load(tmp_path).search(["Katze"], 1).rows_Qk[0, 0] == 0
    assert LexicalIndex.build(texts).search(["Katze"], 1).rows_Qk[0, 0] == -1
    assert LexicalIndex.build(texts, language="none").search(["die", "Katze"], 1).rows_Qk[:, 0].tolist() == [0, -1]


def test_a_book_in_one_document_takes_time_by_its_length_alone() -> None:
    """100,000 words and as many characters without spaces: terms by the thousand, no term of the whole text."""
    index = LexicalIndex.build(["word " * 100_000 + "needle", "北京上海广州" * 20_000 + "针", "short"])
    assert index.search(["needle", "针"], 1).rows_Qk[:, 0].tolist() == [0, 1]
    assert max(map(len, index.vocabulary.numbers)) <= 6


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    LexicalIndex.build(TEXTS).save(tmp_path)
    record = json.loads((tmp_path / "lexical.json").read_text())
    for damage in ({"count": 3}, {"terms": record["terms"][:2]}):
        (tmp_path / "lexical.json").write_text(json.dumps(record | damage))
        with pytest.raises(DamagedArtifact, match="holds no readable BM25 index"):
            LexicalIndex.load(tmp_path)


def test_wrong_requests_are_refused_in_words() -> None:
    with pytest.raises(RequestError, match="none of 2 texts holds a word"):
        LexicalIndex.build(["", "?"])
    with pytest.raises(RequestError, match="BM25 k1 is -1 and b is 0.4; expected k1 >= 0"):
        LexicalIndex.build(TEXTS, k1=-1)
    with pytest.raises(RequestError, match="k is 0; expected at least 1"):
        LexicalIndex.build(TEXTS).search(["warm"], 0)


@pytest.mark.real
def test_scifact_reaches_the_known_ndcg(real_data: Callable[[str], Path]) -> None:
    import pytrec_eval

    folder = real_data("scifact")
    documents = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf8").splitlines()]
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf8").splitlines()]
    texts = {entry["_id"]: entry["text"] for entry in queries}
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    index = LexicalIndex.build([f"{entry['title']} {entry['text']}".strip() for entry in documents])
    hits = index.search([texts[query] for query in qrels], 100)
    run = {
        query: {documents[row]["_id"]: float(score) for row, score in zip(rows, scores, strict=True) if row >= 0}
        for query, rows, scores in zip(qrels, *hits, strict=True)
    }
    measured = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
    assert 0.66 <= np.mean([values["ndcg_cut_10"] for values in measured.values()]) <= 0.69


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("abc ", min_size=4, max_size=30), min_size=3, max_size=8), st.integers(0, 7))
def test_a_text_outside_scores_as_the_document_it_is(texts: list[str], row: int) -> None:
    texts = [*texts, "aa bb cc"]
    row %= len(texts)
    index, queries = LexicalIndex.build(texts), ["aa bb", "ab cc cc ca"]
    inside = index.scores(queries, [row])[:, 0]
    np.testing.assert_allclose(index.score_outside(queries, [texts[row]] * 2), inside, rtol=1e-5, atol=1e-6)


def test_a_text_outside_scores_the_same_after_saving(tmp_path: Path) -> None:
    index = LexicalIndex.build(["aa bb", "bb cc", "cc dd ee"])
    index.save(tmp_path)
    scores = LexicalIndex.load(tmp_path).score_outside(["bb"], ["bb and bb"])
    assert scores == index.score_outside(["bb"], ["bb and bb"]) and scores[0] > 0
