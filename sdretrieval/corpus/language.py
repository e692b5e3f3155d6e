"""Which scripts and which language texts are in, by their letters and commonest words: enough to doubt a setting.

A guess over a whole collection, not over single texts; where it is unsure it says nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ENGLISH, NO_STEMMER, AUTO = "english", "none", "auto"
STEMMED = (
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german", "greek",
    "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
)  # fmt: skip
"""What Snowball can stem: each release of PyStemmer since 2.1 has these."""

FUNCTION_WORDS: Mapping[str, str] = {
    "english": "the of and to in is that for with as are this be from was by it on which or have not can an at",
    "german": "der die und das ist nicht den von mit für ein eine auf dem im sich des zu werden auch wird oder bei als",
    "french": "le la les des et est une dans pour que qui du sur pas par au sont avec ce plus en de à ou un il",
    "spanish": "el la los de que y en las por con para una del se es como más su al lo un no o sus son",
    "italian": "il di che la per un è non con del della sono una le dei nel gli anche si più e in da o al",
    "portuguese": "o a os que de do da em um para com não uma no na as dos por mais se e ou é ao são",
    "catalan": "el la els de que i en les per amb una del és un no més al dels o com aquest aquesta són va",
    "dutch": "de het een van en in is dat op te zijn met voor niet aan er ook bij door worden of als wordt die",
    "swedish": "och att det som en på är av för med den till inte har ett om de kan från sig i var eller vid",
    "danish": "og at det som en på er af for med den til ikke har et om de kan fra der i blev eller ved hvor",
    "norwegian": "og å det som en på er av for med den til ikke har et om de kan fra i ble eller ved hvor etter",
    "finnish": "ja on ei että se oli ovat joka mutta myös kuin hän tai sen niin voi ole ollut mukaan sekä",
    "hungarian": "a az és hogy nem is egy meg csak de van volt el már ha mint ez vagy azt lehet",
    "romanian": "și de în la cu pe din nu este care mai un sau pentru sunt prin fost o a ale lui al",
    "turkish": "ve bir bu için ile de da çok olarak daha olan gibi en kadar değil var ne sonra veya her",
    "indonesian": "yang dan di dengan untuk dari ini pada adalah dalam tidak itu ke oleh akan atau juga sebagai",
    "polish": "w i na z się nie do to że jest o jak po od za przez oraz są dla ale był która",
    "czech": "a v se na je že s z do o i k jako ve pro za by od ale po nebo jsou jeho",
    "vietnamese": "và của là có trong được các cho một không với những người này đã từ khi để ở",
    "russian": "и в не на что с по это как к из для от так но за все он у его или был также",
    "ukrainian": "і в на з що до не у та як це для від він за його але або був про",
    "bulgarian": "на и в за се от да е с че по са не като това със към или беше",
    "serbian": "и је у на да се за од са су као не или који што из до био",
}
"""The commonest words of a language: they make up a fifth to a half of its running text."""
BY_SCRIPT = {"GREEK": "greek", "DEVANAGARI": "hindi", "TAMIL": "tamil", "ARMENIAN": "armenian", "HEBREW": "hebrew"}
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
PERSIAN = "چپگژکی"
"""Letters that Persian, Urdu and others write and Arabic does not."""
WORD = re.compile(r"\w+")
LETTERS_PER_TEXT, TEXTS = 1000, 2000
"""How much of each text is looked at, and of how many."""
LEAST_WORDS = 200
LEAST_SHARE, LEAST_LEAD = 0.15, 1.08
"""Least share of a language's function words among the words, and their lead over the next language's."""
DOMINANT = 0.6
"""Share of the letters from which a script is that of the collection."""


@dataclass(frozen=True)
class Language:
    """`scripts`: share of the letters by script, largest first. `name`: the language, None where unsure or mixed."""

    scripts: Mapping[str, float]
    name: str | None = None

    @property
    def stemmer(self) -> str:
        """What BM25 should stem with: the language where Snowball knows it, else nothing."""
        return self.name if self.name in STEMMED else NO_STEMMER

    @property
    def unspaced(self) -> float:
        """Share of the letters that stand in scripts without spaces, where n-grams take the place of words."""
        return sum(share for script, share in self.scripts.items() if script in UNSPACED)

    def line(self) -> str:
        """For a person to read."""
        shown = [(script, share) for script, share in self.scripts.items() if share >= 0.005][:4]
        scripts = ", ".join(f"{script.capitalize()} {share:.0%}" for script, share in shown)
        name = f"; language: {self.name.capitalize()}, by its commonest words and letters" if self.name else ""
        ngrams = "; BM25 reads n-grams of characters where there are no spaces" if self.unspaced >= 0.01 else ""
        return f"letters: {scripts or 'none'}{name}{ngrams}"

    def doubt(self, chosen: str) -> str | None:
        """What is wrong with `mine.language: chosen`, None where nothing seems to be."""
        if self.name is None or chosen in (AUTO, NO_STEMMER, self.name):
            return None
        known = f"mine.language: {self.stemmer}" + ("" if self.name in STEMMED else " (there is no stemmer for it)")
        return (
            f"the texts look {self.name.capitalize()}, but BM25 stems them, and drops stop words, as "
            f"{chosen.capitalize()}: set {known}"
        )


def sample(texts: Sequence[str]) -> list[str]:
    """The beginnings of up to `TEXTS` texts, evenly spread."""
    return [texts[n][:LETTERS_PER_TEXT] for n in range(0, len(texts), sample_step(len(texts)))]


def sample_step(count: int) -> int:
    """Which of `count` texts are looked at: each so many."""
    return max(1, count // TEXTS)


def detect(beginnings: Iterable[str]) -> Language:
    """The language of a collection, from beginnings of its texts."""
    letters: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for text in beginnings:
        letters.update(text)
        words.update(WORD.findall(text.lower()))
    counts: Counter[str] = Counter()
    for letter, count in letters.items():
        if unicodedata.category(letter).startswith("L"):
            counts[_script(letter)] += count
    total = counts.total()
    scripts = {script: count / total for script, count in counts.most_common()} if total else {}
    main = next((script for script, share in scripts.items() if share >= DOMINANT), None)
    return Language(scripts, _language(main, letters, words))


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "OTHER").replace("-", " ").split()
    return name[1] if name[0] in ("FULLWIDTH", "HALFWIDTH") and len(name) > 1 else name[0]


def _language(script: str | None, letters: Mapping[str, int], words: Counter[str]) -> str | None:
    if script == "ARABIC":
        return "arabic" if sum(letters.get(letter, 0) for letter in PERSIAN) < letters.get("ي", 0) else "persian"
    if script not in ("LATIN", "CYRILLIC"):
        return BY_SCRIPT.get(script or "")
    if words.total() < LEAST_WORDS:
        return None
    shares = _shares(words)
    (first, best), (_, second) = shares[:2]
    return first if best >= LEAST_SHARE and best >= LEAST_LEAD * second else None


def _shares(words: Counter[str]) -> list[tuple[str, float]]:
    """Share of each language's function words, largest first."""
    total = words.total()
    found = {name: sum(words[word] for word in set(known.split())) / total for name, known in FUNCTION_WORDS.items()}
    return sorted(found.items(), key=lambda pair: -pair[1])
