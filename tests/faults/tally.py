"""What was tried, and whether it held."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.forks import HUNG, Ended


@dataclass
class Tally:
    """Counts of one kind of fault; `failed` says what did not hold, and why."""

    kind: str
    tried: int = 0
    failed: list[str] = field(default_factory=list)
    cut_short: bool = False
    """Whether time was up before all was tried."""

    def add(self, name: str, problem: str | None) -> None:
        """One more; `problem` is None if it held."""
        self.tried += 1
        if problem is not None:
            self.failed.append(f"{name}: {problem}")

    def line(self) -> str:
        """`200 tried, 200 held`."""
        end = ", not all: time was up" if self.cut_short else ""
        return f"{self.kind}: {self.tried} tried, {self.tried - len(self.failed)} held{end}"


def unclear(ended: Ended, codes: tuple[int, ...] = (2,)) -> str | None:
    """Why a refusal is none: exit code, traceback, no message or several, an answer beside it; None if it is clear."""
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    if ended.code == HUNG:
        return f"it hung ({ended.seconds:.0f} s)"
    if "Traceback" in ended.err:
        return f"a traceback ({ended.err.strip().splitlines()[-1][:200]})"
    if ended.code not in codes:
        return f"exit code {ended.code}, expected {' or '.join(map(str, codes))} ({ended.err.strip()[-200:]!r})"
    if len(errors) != 1 or len(errors[0]) < len("error: ") + 10:
        return f"{len(errors)} messages, expected one ({ended.err.strip()[-200:]!r})"
    return None
