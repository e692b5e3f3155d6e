"""What an import came upon: counted, and the first few named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sdretrieval.corpus.check import Findings
from sdretrieval.corpus.text import LIST_AT_MOST
from sdretrieval.errors import CorpusError

BROKEN_AT_MOST = 0.1
"""A larger share of broken lines means that the file is not what it was taken for, not that it is a bit damaged."""


class Trouble(Enum):
    """What can be wrong with a line; the value is what a person reads."""

    BROKEN = "broken lines, left out"
    REPLACED = "lines with bytes or characters that are no UTF-8, each read as U+FFFD"
    EMPTY = "empty texts, left out"
    REPEATED_ID = "ids that stood on an earlier line, left out"
    REPEATED_TEXT = "texts that stood on an earlier line (kept where ids tell them apart)"
    REPEATED_PAIR = "pairs judged on an earlier line, left out"
    NOWHERE = "judgements that point nowhere, left out"


@dataclass(frozen=True)
class ImportReport:
    """What was read from one source, what was kept of it, and every trouble with the first few examples."""

    source: str
    what: str
    """`documents`, `queries`, `judgements`, ..."""
    read: int
    """Lines, rows or topics."""
    kept: int
    """Things of the kind `what` that came out of them."""
    troubles: Mapping[Trouble, Findings]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        troubles = {t.name.lower(): {"count": f.count, "examples": list(f.examples)} for t, f in self.troubles.items()}
        return {"source": self.source, "what": self.what, "read": self.read, "kept": self.kept, "troubles": troubles}

    def lines(self) -> list[str]:
        """For a person to read: what came out, and one line for each kind of trouble."""
        return [
            f"{self.source}: {self.read:,} read, {self.kept:,} {self.what} kept",
            *(f"  {found.count:,} {trouble.value}: {_shown(found)}" for trouble, found in self.troubles.items()),
        ]


class Tally:
    """Counts while a source is read; `report` gives what was counted."""

    def __init__(self, source: str, what: str) -> None:
        self.source, self.what = source, what
        self.read = self.kept = 0
        self._counts: Counter[Trouble] = Counter()
        self._examples: dict[Trouble, list[str]] = {}

    def note(self, trouble: Trouble, line: int, example: str, amount: int = 1) -> None:
        """`trouble` was met at `line`; `amount` lines are lost to it."""
        self._counts[trouble] += amount
        shown = self._examples.setdefault(trouble, [])
        if len(shown) < LIST_AT_MOST:
            # one line each, and printable: half of a surrogate pair ends a program that prints it
            shown.append(f"{line}: {' '.join(example.split())}".encode("utf8", "replace").decode("utf8"))

    def require_few_broken(self) -> None:
        """Raise CorpusError, naming file and line, where more than `BROKEN_AT_MOST` of what was read is broken."""
        broken = self._counts[Trouble.BROKEN]
        if broken <= BROKEN_AT_MOST * self.read:
            return
        line, _, first = self._examples[Trouble.BROKEN][0].partition(": ")
        raise CorpusError(
            f"{self.source}:{line}: {first}. {broken:,} of {self.read:,} lines are broken ({broken / self.read:.0%}), "
            f"more than the {BROKEN_AT_MOST:.0%} that an import leaves out: is the file what its name says?"
        )

    def report(self) -> ImportReport:
        """What was counted so far."""
        troubles = {
            trouble: Findings(self._counts[trouble], tuple(self._examples[trouble]))
            for trouble in Trouble
            if self._counts[trouble]
        }
        return ImportReport(self.source, self.what, self.read, self.kept, troubles)


def _shown(found: Findings) -> str:
    return "; ".join(f"line {example}" for example in found.examples) + (
        " ..." if found.count > len(found.examples) else ""
    )
