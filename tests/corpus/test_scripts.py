"""Words in any script: what has no spaces gives n-grams, what has marks keeps them, Latin text stays as it was."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.corpus import normalised
from sdretrieval.corpus.scripts import lower_words, needs_care, runs, tidied
from sdretrieval.corpus.text import jaccard, shingles_of, words_of

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "我爱北京，iPhone 16手机。",
            ["我", "爱", "北", "京", "我爱", "爱北", "北京", "iphone", "16", "手", "机", "手机"],
        ),
        ("ｶﾞﾗｽとＡＢＣ", ["ガ", "ラ", "ス", "と", "ガラ", "ラス", "スと", "abc"]),
        ("บ้าน 25", ["บ้า", "าน", "บ้าน", "25"]),
        ("서울은", ["서", "울", "은", "서울", "울은"]),
        ("مُحَمَّد", ["محمد"]),
        ("हिन्दी भाषा है", ["हिन्दी", "भाषा", "है"]),
        ("İstanbul", ["istanbul"]),
        ("می\u200cخواهم", ["میخواهم", "می", "خواهم"]),
        ("क्\u200dष बंग\u200cला", ["क्ष", "बंगला"]),
        ("o\ufb03ce ef\u00adfi\u200bci\u2060ent \ufeffzebra", ["office", "efficient", "zebra"]),
        ("CO₂ m² 10⁵ №5 ⅷ ㎏ １２½ Ⅷ", ["co2", "m2", "10", "5", "no5", "viii", "kg", "12½", "viii"]),
        ("Acme™ straße STRASSE", ["acme", "strasse", "strasse"]),
        ("𝐱𝐲 ﷺ ẛ", ["xy", "صلى", "الله", "عليه", "وسلم", "ṡ"]),
        ("❤️ cafe\u0301 👩‍💻", ["café"]),
    ],
)
def test_words_and_ngrams(text: str, words: list[str]) -> None:
    assert sorted(lower_words(text)) == sorted(words)


@given(st.text())
def test_the_parts_of_a_text_are_the_text(text: str) -> None:
    assert "".join(run.text for run in runs(tidied(text))) == tidied(text)
    assert all("".join(run.units) == run.text for run in runs(tidied(text)) if run.sizes)


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF, exclude_categories=["Sk", "Cs"])))
def test_latin_text_needs_no_care(text: str) -> None:
    assert not needs_care(tidied(text))


@pytest.mark.parametrize("text", ["Москва, столица", "Η Αθήνα", "Straße für Öfen", "𝒜 ½ µm ≥ 3 ❤️"])
def test_scripts_with_spaces_need_none(text: str) -> None:
    assert not needs_care(tidied(text))


@given(
    words=st.lists(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=6), max_size=5),
    breaks=st.lists(st.sampled_from("\u00ad\u200b\u2060\ufeff\u200e\ufe0f"), min_size=5, max_size=5),
    form=st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]),
)
def test_how_a_word_is_typeset_does_not_change_it(words: list[str], breaks: list[str], form: Form) -> None:
    typeset = [sign.join(unicodedata.normalize(form, word)) for word, sign in zip(words, breaks, strict=False)]
    usual = [unicodedata.normalize(form, word) for word in words]
    assert list(lower_words(" ".join(typeset))) == list(lower_words(" ".join(usual)))
    if form in ("NFC", "NFD"):
        assert sorted(lower_words(" ".join(usual))) == sorted(lower_words(" ".join(words)))


def test_near_duplicates_are_found_without_spaces() -> None:
    one, other = "北京是中华人民共和国的首都，也是全国的政治中心。", "北京是中华人民共和国的首都，也是中国的政治中心。"
    assert jaccard(words_of(one), words_of(other)) > 0.7
    assert jaccard(shingles_of(one), shingles_of(other)) > 0.5
    assert jaccard(words_of(one), words_of("今天天气很好，我们去公园散步。")) < 0.1


@pytest.mark.parametrize("text", ["Café Überfluß", "각하", "ガラス"])
def test_a_text_is_the_same_however_its_accents_are_written(text: str) -> None:
    assert normalised("\u00ad".join(text) + "\ufeff") == normalised(text)
    assert normalised(unicodedata.normalize("NFD", text)) == normalised(unicodedata.normalize("NFC", text).upper())
