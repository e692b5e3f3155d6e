"""Which scripts texts are in, by their letters, and which language, by py3langid (offline): enough to doubt a setting.

A guess over a whole collection, not over single texts; where it is unsure it says nothing.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from sdretrieval.errors import MissingPackageError

ENGLISH, NO_STEMMER, AUTO = "english", "none", "auto"
STEMMED = (
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german", "greek",
    "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
)  # fmt: skip
"""What Snowball can stem: each release of PyStemmer since 2.1 has these."""

NAMES = {
    "ar": "arabic", "hy": "armenian", "eu": "basque", "ca": "catalan", "da": "danish", "nl": "dutch", "en": "english",
    "fi": "finnish", "fr": "french", "de": "german", "el": "greek", "hi": "hindi", "hu": "hungarian",
    "id": "indonesian", "ga": "irish", "it": "italian", "lt": "lithuanian", "ne": "nepali", "no": "norwegian",
    "nb": "norwegian", "nn": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian",
    "es": "spanish", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish", "bg": "bulgarian",
    "cs": "czech", "he": "hebrew", "fa": "persian", "pl": "polish", "uk": "ukrainian", "vi": "vietnamese",
}  # fmt: skip
"""Codes of languages with spaces between words -> their names: what Snowball stems, then some that it does not."""
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
LETTERS_PER_TEXT, TEXTS = 1000, 2000
"""How much of each text is looked at, and of how many."""
CLASSIFIED = 300
"""Of these texts so many are classified, which takes a millisecond each."""
LEAST_LETTERS = 300
"""A name and a line of code are no evidence."""
DOMINANT = 0.6
"""Share of the letters from which a language is that of the collection."""


def require_detector() -> None:
    """Raise MissingPackageError if the package that recognises languages is not installed."""
    if not find_spec("py3langid"):
        raise MissingPackageError(
            "mine.language: auto needs the package py3langid, which is not installed; run: pip install py3langid "
            "(or 'sdretrieval[language]'), or name the language, such as mine.language: english"
        )


@dataclass(frozen=True)
class Language:
    """`scripts`: share of the letters by script, largest first. `name`: the language, None if unsure or mixed."""

    scripts: Mapping[str, float]
    name: str | None = None

    @property
    def stemmer(self) -> str:
        """What BM25 should stem with: the language if Snowball knows it, else nothing.

        Raises `MissingPackageError` if the package that recognises languages is not installed.
        """
        require_detector()
        return self.name if self.name in STEMMED else NO_STEMMER

    @property
    def unspaced(self) -> float:
        """Share of the letters in scripts without spaces, where n-grams take the place of words."""
        return sum(share for script, share in self.scripts.items() if script in UNSPACED)

    def line(self) -> str:
        """For a person to read."""
        shown = [(script, share) for script, share in self.scripts.items() if share >= 0.005][:4]
        scripts = ", ".join(f"{script.capitalize()} {share:.0%}" for script, share in shown)
        name = f"; language: {self.name.capitalize()}, by py3langid" if self.name else ""
        ngrams = "; BM25 reads n-grams of characters where there are no spaces" if self.unspaced >= 0.01 else ""
        return f"letters: {scripts or 'none'}{name}{ngrams}"

    def doubt(self, chosen: str) -> str | None:
        """What is wrong with `mine.language: chosen`, None if nothing seems to be."""
        if self.name is None or chosen in (AUTO, NO_STEMMER, self.name):
            return None
        setting = self.name if self.name in STEMMED else f"{NO_STEMMER} (there is no stemmer for it)"
        return (
            f"the texts look {self.name.capitalize()}, but BM25 stems them, and drops stop words, as "
            f"{chosen.capitalize()}: set mine.language: {setting}"
        )


def sample(texts: Sequence[str]) -> list[str]:
    """The beginnings of up to `TEXTS` texts, evenly spread."""
    return [texts[n][:LETTERS_PER_TEXT] for n in range(0, len(texts), sample_step(len(texts)))]


def sample_step(count: int) -> int:
    """Which of `count` texts are looked at: each so many."""
    return max(1, count // TEXTS)


def detect(beginnings: Iterable[str]) -> Language:
    """The language of a collection, from beginnings of its texts. Without py3langid only the scripts are known."""
    texts = list(beginnings)
    counts: Counter[str] = Counter()
    for letter, count in Counter(letter for text in texts for letter in text).items():
        if unicodedata.category(letter).startswith("L"):
            name = unicodedata.name(letter, "OTHER").replace("-", " ").split()
            counts[name[1] if name[0] in ("FULLWIDTH", "HALFWIDTH") and len(name) > 1 else name[0]] += count
    total = counts.total()
    scripts = {script: count / total for script, count in counts.most_common()} if total else {}
    return Language(scripts, _language(texts) if total >= LEAST_LETTERS else None)


def _language(texts: Sequence[str]) -> str | None:
    """The language of most of the texts, by their length; None if it is none of `NAMES` or py3langid is missing."""
    if not find_spec("py3langid"):
        return None
    from py3langid import classify

    letters: Counter[str] = Counter()
    for text in texts[:: max(1, len(texts) // CLASSIFIED)]:
        code = classify(text)[0]
        letters[NAMES.get(code, code)] += len(text)
    ((name, most),) = letters.most_common(1)
    return name if name in NAMES.values() and most >= DOMINANT * letters.total() else None
