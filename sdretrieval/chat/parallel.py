"""Many requests to one server: in parallel, and again where that may help.

The caller keeps each answer in the thread that received it, so that none is lost if another request fails.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeVar

from sdretrieval.chat.client import Client, ServedModel, Trouble
from sdretrieval.errors import WorkError
from sdretrieval.formatting import quantity, readable_seconds
from sdretrieval.progress import check_interrupt

if TYPE_CHECKING:
    import requests

logger = logging.getLogger("sdretrieval")
Item = TypeVar("Item")
Result = TypeVar("Result")

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before a second try and, doubled each time, at most; times 0.5 to 1.5 by chance, so that threads part."""
SAID_WAIT, LONGEST_REQUESTED = 5.0, 600.0
"""Seconds that a server may ask to be left alone (Retry-After) before the log says so; before the work ends."""
SERVER_TRIES, ANSWER_TRIES = 6, 3
"""Of one request: if the server is at fault, after which the work ends (the smaller number if it is too slow); if the
answer is, after which the request is given up."""
FEW, MOST_UNUSABLE = 10, 0.5
"""The work ends if more than this share of so many answers are of no use: the rest would be money for nothing."""
POLL = 0.2
"""Seconds after which one that waits for answers looks for an interrupt."""


@dataclass
class Requests:
    """What is asked of a model behind a server, and what asking has cost so far.

    `setting`: where the config names the model, for messages. Nothing is asked before `each`.
    """

    model: ServedModel
    setting: str
    tally: Counter[str] = field(init=False, default_factory=Counter)
    """`asked`, `kept` (known from before), `unusable`, and what a kind of server counts beside them."""
    troubles: Counter[str] = field(init=False, default_factory=Counter)
    """By kind, how often a request brought no usable answer."""
    _unusable: str = field(init=False, default="")
    """What was found the last time that a request was given up."""
    _not_before: float = field(init=False, default=0.0)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    """Of the tallies, and of what is kept: threads write both."""

    unit: ClassVar[str] = "answers"
    """What is kept."""

    def each(
        self, client: Client, items: Sequence[Item], once: Callable[[requests.Session, Item], Result]
    ) -> Iterator[tuple[Item, Result | None]]:
        """Each item with what `once` makes of it, as they come; None if several tries brought no usable answer.

        `once` raises Trouble for an answer of no use. Raises WorkError if the server cannot be used, or most answers
        are of no use. The threads are daemons: no exit waits for a server.
        """
        todo: queue.SimpleQueue[Item] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[Item, Result | None] | Exception] = queue.SimpleQueue()
        stop = threading.Event()
        for item in items:
            todo.put(item)

        def work() -> None:
            with client.session() as session:
                while not stop.is_set():
                    try:
                        item = todo.get_nowait()
                    except queue.Empty:
                        return
                    try:
                        done.put((item, self._until_usable(session, item, once, stop)))
                    except Exception as problem:  # whatever it is, the one who waits must hear of it
                        done.put(problem)
                        return

        for _ in range(min(self.model.concurrency, len(items))):
            threading.Thread(target=work, daemon=True).start()
        good = bad = 0
        try:
            while good + bad < len(items):
                try:
                    one = done.get(timeout=POLL)
                except queue.Empty:
                    check_interrupt()
                    continue
                if isinstance(one, Exception):
                    raise one
                good, bad = good + (one[1] is not None), bad + (one[1] is None)
                yield one
                if bad >= FEW and bad > MOST_UNUSABLE * (good + bad):
                    raise self.failed(
                        f"{bad} of {good + bad} answers of no use{self.troubles_found()}, the last: {self._unusable}",
                        "try the prompt by hand, or name a model that follows instructions",
                    )
        finally:
            stop.set()

    def _until_usable(
        self, session: requests.Session, item: Item, once: Callable[[requests.Session, Item], Result],
        stop: threading.Event,
    ) -> Result | None:  # fmt: skip
        """One item, until its answer is of use; None if none of several is."""
        tries: Counter[bool] = Counter()
        while True:
            stop.wait(max(0.0, self._not_before - time.monotonic()))
            try:
                return once(session, item)
            except Trouble as trouble:
                tries[trouble.server] += 1
                with self._lock:
                    self.troubles[trouble.kind] += 1
                most = SERVER_TRIES if trouble.server and trouble.kind != "too slow" else ANSWER_TRIES
                if trouble.wait > LONGEST_REQUESTED:
                    wait = readable_seconds(trouble.wait)
                    raise self.failed(
                        f"{trouble.found}; it asks to wait {wait}", "run again when it takes requests"
                    ) from None
                if not trouble.again or tries[trouble.server] >= most or stop.is_set():
                    times = f", {tries[trouble.server]} times in a row" if tries[trouble.server] > 1 else ""
                    if not trouble.server:
                        self.give_up(f"{trouble.found}{times}")
                        return None
                    raise self.failed(f"{trouble.found}{times}", self._remedy(trouble)) from None
                self._pause(trouble, tries[trouble.server], stop)

    def give_up(self, found: str) -> None:
        """Count a request whose answers are of no use. A server whose every answer is needed raises WorkError here."""
        with self._lock:
            self.tally["unusable"] += 1
            self._unusable = found

    def troubles_found(self) -> str:
        """The troubles in brackets, nothing if there were none."""
        found = ", ".join(f"{count} x {kind}" for kind, count in self.troubles.most_common())
        return f" ({found})" if found else ""

    def _pause(self, trouble: Trouble, tries: int, stop: threading.Event) -> None:
        if trouble.wait:  # of the server as a whole: every thread leaves it alone
            if trouble.wait >= SAID_WAIT and self._not_before < time.monotonic():
                wait = readable_seconds(trouble.wait)
                logger.info("%s: %s, and asks to wait %s", self.setting, trouble.found, wait)
            self._not_before = max(self._not_before, time.monotonic() + trouble.wait)
        stop.wait(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries - 1)) * random.uniform(0.5, 1.5))

    def _remedy(self, trouble: Trouble) -> str:
        match trouble.kind:
            case "no connection":
                return f"start the server, or correct {self.setting}.url"
            case "too slow":
                return f"raise {self.setting}.timeout, or lower {self.setting}.concurrency ({self.model.concurrency})"
            case "status 401" | "status 403" if self.model.key_variable is None:
                return f"name the environment variable that holds it in {self.setting}.key_variable"
            case "status 401" | "status 403":
                return f"put a valid key into {self.model.key_variable}"
            case "status 404":
                return f"check {self.setting}.url, which usually ends in /v1, and that the server has this model"
            case "status 429":
                return (
                    f"wait, lower {self.setting}.concurrency ({self.model.concurrency}), or raise the account's limit"
                )
            case kind if kind.startswith("status 3"):
                return f"name the address where the server really is in {self.setting}.url"
            case _:
                return "see what the server's own log says"

    def failed(self, found: str, remedy: str) -> WorkError:
        """The error that ends the work: what was found, and what to do."""
        count = self.tally["asked"] + self.tally["kept"]
        kept = f". {quantity(count, self.unit)} kept: run again, and only the others are asked for" if count else ""
        return WorkError(f"{self.setting}: {self.model.model} at {self.model.url}: found {found}; {remedy}{kept}")
