"""What reading a source came upon: counted, and the first few named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sdretrieval.corpus.text import LIST_AT_MOST, Findings
from sdretrieval.errors import CorpusError
from sdretrieval.formatting import quantity

BROKEN_AT_MOST = 0.1
"""A larger share of broken lines means that the file is not what it was taken for, not that it is a bit damaged."""


class Trouble(Enum):
    """What can be wrong with a line of a table, or with a file of a folder; the value is what a person reads."""

    BROKEN = "broken lines, left out"
    REPLACED = "lines with bytes or characters that are no UTF-8, each read as U+FFFD"
    EMPTY = "empty texts, left out"
    REPEATED_ID = "ids of an earlier line, left out"
    REPEATED_TEXT = "texts of an earlier line (kept where ids tell them apart)"
    REPEATED_PAIR = "pairs judged on an earlier line: the last judgement counts"
    NOWHERE = "judgements pointing nowhere, left out"
    UNREADABLE = "unreadable files"
    ENCRYPTED = "encrypted files"
    IMAGE_ONLY = "PDFs without text (scanned pages)"
    EMPTY_FILE = "empty files"
    LOST_PAGES = "PDFs with pages that are broken or pictures of text"
    UNMAPPED = "PDFs with characters that their fonts do not name, each read as U+FFFD"
    MIXED = "PDFs with pages that may have columns, read across"
    UNDECODED = "files with bytes that are not in their encoding, each read as U+FFFD"
    GUESSED = "files in an undeclared encoding, guessed as browsers do"
    DUPLICATE = "passages repeating an earlier one, kept"
    LINK = "links to what is read anyway"
    LINK_OUTSIDE = "links out of the folder, not followed"


@dataclass(frozen=True)
class ImportReport:
    """What was read from one source, what was kept of it, and every trouble with the first few examples."""

    source: str
    what: str
    """`documents`, `queries`, `judgements`, ..."""
    read: int
    """Lines, rows, topics or files."""
    kept: int
    """Things of the kind `what` that came out of them."""
    troubles: Mapping[Trouble, Findings]
    notes: tuple[str, ...] = ()
    """What was passed over and is no trouble."""

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        troubles = {t.name.lower(): {"count": f.count, "examples": list(f.examples)} for t, f in self.troubles.items()}
        return {
            "source": self.source, "what": self.what, "read": self.read, "kept": self.kept, "troubles": troubles,
            "notes": list(self.notes),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For a person to read: what came out, and one line for each kind of trouble."""
        shown = [
            f"  {quantity(met.count, trouble.value)}: {'; '.join(met.examples)}"
            + (" ..." if met.count > len(met.examples) else "")
            for trouble, met in self.troubles.items()
        ]
        read = quantity(self.read, "files") if self.what == "passages" else f"{self.read:,}"
        return [f"{self.source}: {read} read, {quantity(self.kept, self.what)} kept", *shown, *self.notes]


class Tally:
    """Counts while a source is read; `report` gives what was counted."""

    def __init__(self, source: str, what: str) -> None:
        self.source, self.what = source, what
        self.read = self.kept = 0
        self.notes: list[str] = []
        """Of what was passed over and is no trouble."""
        self._met: dict[Trouble, list[str]] = {trouble: [] for trouble in Trouble}
        self._counts = dict.fromkeys(Trouble, 0)

    def note(self, trouble: Trouble, place: int | str, example: str, amount: int = 1) -> None:
        """`trouble` was met at a line or in a file; `amount` lines are lost to it."""
        self._counts[trouble] += amount
        if len(self._met[trouble]) < LIST_AT_MOST:
            # one line each, and printable: half of a surrogate pair ends a program that prints it
            where = f"line {place}" if isinstance(place, int) else place
            self._met[trouble].append(f"{where}: {' '.join(example.split())}".encode("utf8", "replace").decode("utf8"))

    def require_few_broken(self) -> None:
        """Raise CorpusError, naming file and line, if more than `BROKEN_AT_MOST` of what was read is broken."""
        broken = self._counts[Trouble.BROKEN]
        if broken <= BROKEN_AT_MOST * self.read:
            return
        line, _, first = self._met[Trouble.BROKEN][0].removeprefix("line ").partition(": ")
        raise CorpusError(
            f"{self.source}:{line}: {first}. {broken:,} of {self.read:,} lines are broken ({broken / self.read:.0%}), "
            f"more than the {BROKEN_AT_MOST:.0%} that an import leaves out: is the file what its name says?"
        )

    def report(self, notes: tuple[str, ...] = ()) -> ImportReport:
        """What was counted so far."""
        troubles = {t: Findings(count, tuple(self._met[t])) for t, count in self._counts.items() if count}
        return ImportReport(self.source, self.what, self.read, self.kept, troubles, (*self.notes, *notes))
