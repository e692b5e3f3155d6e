"""What reading a folder came upon, for a person and for a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from sdretrieval.corpus.text import LIST_AT_MOST


class TroubleKind(Enum):
    """Why a file gave no passages."""

    UNREADABLE = "unreadable files"
    ENCRYPTED = "encrypted PDFs"
    IMAGE_ONLY = "PDFs without text (scanned pages)"
    EMPTY = "empty files"


class Trouble(NamedTuple):
    """Why one file gave no passages."""

    kind: TroubleKind
    reason: str


@dataclass(frozen=True)
class Found:
    """How many things of one kind were found, and the first few of them."""

    count: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderReport:
    """What `read_folder` did with every file that it met."""

    folder: str
    files: int
    """Files that gave passages."""
    passages: int
    skipped: Mapping[str, int]
    """Extension -> files with it, which are of no kind that is read; the most frequent first."""
    hidden: int
    """Files and folders whose name begins with a dot."""
    links: Found
    """Symbolic links to what is read under its own name anyway, loops among them."""
    unreadable: Found
    encrypted: Found
    image_only: Found
    empty: Found
    lost_pages: Found
    """PDFs that were read except for some broken pages."""
    replaced: Found
    """Files that hold bytes which mean nothing in their encoding; each such place reads as U+FFFD."""
    duplicates: Found
    """Passages whose text (one case, single spaces) stood in an earlier passage. They are kept."""

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        return {**asdict(self), "skipped": dict(self.skipped)}

    def lines(self) -> list[str]:
        """The report for a person to read: one line for the whole, one for each trouble that occurred."""
        return [
            f"{self.folder}: {self.passages:,} passages from {self.files:,} files",
            *(f"{what}: {found.count:,}, e.g. {'; '.join(found.examples)}" for what, found in self.troubles),
            *([f"skipped, other extensions: {described(self.skipped)}"] if self.skipped else []),
            *([f"skipped, hidden: {self.hidden:,}"] if self.hidden else []),
        ]

    @property
    def troubles(self) -> list[tuple[str, Found]]:
        """Every kind of trouble that occurred, the worst first."""
        kinds = (
            (TroubleKind.UNREADABLE.value, self.unreadable),
            (TroubleKind.ENCRYPTED.value, self.encrypted),
            (TroubleKind.IMAGE_ONLY.value, self.image_only),
            (TroubleKind.EMPTY.value, self.empty),
            ("PDFs with broken pages", self.lost_pages),
            ("files with bytes that are not in their encoding", self.replaced),
            ("passages that repeat an earlier one", self.duplicates),
            ("links to what is read anyway", self.links),
        )
        return [(what, found) for what, found in kinds if found.count]


@dataclass
class Finding:
    """Counts things of one kind and keeps the first few, however many there are."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """One more."""
        self.count += 1
        if len(self.examples) < LIST_AT_MOST:
            self.examples.append(example)

    def found(self) -> Found:
        """What was counted so far."""
        return Found(self.count, tuple(self.examples))


def found_in(names: list[str]) -> Found:
    """All of `names` as one finding."""
    return Found(len(names), tuple(names[:LIST_AT_MOST]))


def described(skipped: Mapping[str, int]) -> str:
    """The most frequent extensions with their counts, and the number of files with others."""
    shown = list(skipped.items())[:LIST_AT_MOST]
    others = sum(skipped.values()) - sum(count for _, count in shown)
    return ", ".join(f"{name} ({count:,})" for name, count in shown) + (f" and {others:,} others" if others else "")
