"""The language of a collection is recognised where it is plain, and a stemmer of another one is doubted."""

from __future__ import annotations

from typing import get_args

import pytest

from sdretrieval.config.schema import Stemming
from sdretrieval.corpus.language import STEMMED, Language, detect, sample
from sdretrieval.errors import MissingPackageError
from sdretrieval.indexes.terms import Vocabulary
from tests.helpers import tiny

TEXTS = {
    "german": "Die Bundesrepublik Deutschland ist ein Staat in Mitteleuropa. Die Hauptstadt ist Berlin, und die größte "
    "Stadt nach der Einwohnerzahl ist auch Berlin. Das Land grenzt an neun Staaten.",
    "french": "La France est un pays dont le territoire est situé en Europe de l'Ouest. C'est une république dont la "
    "capitale est Paris, qui est aussi la ville la plus peuplée du pays.",
    "danish": "Danmark er et land i Skandinavien. Landet består af halvøen Jylland samt flere hundrede øer. "
    "Hovedstaden er København, der også er den største by i landet, og der er en bro til Sverige.",
    "norwegian": "Norge er et nordisk land som ligger på den vestlige delen av den skandinaviske halvøya. Hovedstaden "
    "er Oslo, som også er den største byen i landet, og det er mange fjorder langs kysten av landet etter havet.",
    "polish": "Polska jest państwem w Europie Środkowej. Stolicą jest Warszawa, która jest też największym miastem w "
    "kraju, a językiem urzędowym jest język polski i nie ma innego.",
    "russian": "Россия — государство в Восточной Европе и Северной Азии. Она является крупнейшей страной мира по "
    "площади. Столица — Москва, и это самый большой город в стране, а государственный язык — русский, но не "
    "единственный.",
    "ukrainian": "Україна — держава у Східній Європі. Вона є другою за площею країною на континенті. Столиця — Київ, "
    "і це найбільше місто в країні, а державна мова — українська, яка належить до мов, що поширені в регіоні.",
    "greek": "Η Ελλάδα είναι χώρα της νοτιοανατολικής Ευρώπης.",
    "arabic": "مصر دولة عربية تقع في الركن الشمالي الشرقي من قارة أفريقيا",
    "persian": "ایران کشوری در غرب آسیا است و پایتخت آن تهران است",
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_language_is_recognised(language: str) -> None:
    assert detect([TEXTS[language]] * 10).name == language


@pytest.mark.parametrize("text", ["", "42 + 1", "東京都は日本の首都です", "int main(void) { return x->y; }", "Berlin"])
def test_where_nothing_is_plain_nothing_is_said(text: str) -> None:
    found = detect([text] * 10)
    assert found.name is None
    assert found.doubt("english") is None


def test_a_stemmer_of_another_language_is_doubted() -> None:
    german, polish = Language({"LATIN": 1.0}, "german"), Language({"LATIN": 1.0}, "polish")
    assert german.doubt("german") is german.doubt("none") is german.doubt("auto") is None
    assert german.doubt("english") == (
        "the texts look German, but BM25 stems them, and drops stop words, as English: set mine.language: german"
    )
    assert "set mine.language: none (there is no stemmer for it)" in str(polish.doubt("english"))
    assert (german.stemmer, polish.stemmer) == ("german", "none")


def test_without_its_package_a_language_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdretrieval.corpus.language.find_spec", lambda _: None)
    found = detect([TEXTS["german"]] * 10)
    assert found.name is found.doubt("english") is None
    with pytest.raises(MissingPackageError, match=r"mine.language: auto needs .* pip install py3langid .* or name"):
        _ = found.stemmer


def test_scripts_are_told_by_share() -> None:
    found = detect(["東京は日本の首都です"])
    assert found.unspaced == pytest.approx(1.0)
    assert "BM25 reads n-grams of characters" in found.line()


def test_a_sample_is_spread_over_the_texts() -> None:
    assert sample([str(n) for n in range(4001)])[:3] == ["0", "2", "4"]
    assert sample(["x" * 5000]) == ["x" * 1000]
    assert detect(sample([record["text"] for record in tiny.documents()])).name == "english"


def test_every_language_that_can_be_asked_for_can_be_stemmed() -> None:
    assert {*get_args(Stemming)} == {*STEMMED, "auto", "none"}
    for language in (*STEMMED, "none"):
        assert Vocabulary(stemmer=language).ids("words 123", grow=True) == [0, 1]
