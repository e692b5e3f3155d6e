"""Many prompts to one model: in parallel, again where that may help, each answer kept as soon as it is there."""

from __future__ import annotations

import logging
import queue
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from sdretrieval.chat.client import ChatModel, Client, Trouble, key_of_environment
from sdretrieval.chat.kept import KeptAnswers
from sdretrieval.errors import WorkError
from sdretrieval.formatting import quantity, readable_seconds
from sdretrieval.progress import Progress, check_interrupt
from sdretrieval.store.fingerprint import key_of

logger = logging.getLogger("sdretrieval")
Use = TypeVar("Use")

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before a second try and, doubled each time, at most; times 0.5 to 1.5 by chance, so that threads part."""
SAID_WAIT, LONGEST_REQUESTED = 5.0, 600.0
"""Seconds that a server may ask to be left alone (Retry-After) before the log says so; before the work ends."""
SERVER_TRIES, ANSWER_TRIES = 6, 3
"""Of one prompt: if the server is at fault, after which the work ends (the smaller number if it is too slow); if the
answer is, after which it is left out."""
FEW, MOST_UNUSABLE = 10, 0.5
"""The work ends if more than this share of so many answers are of no use: the rest would be money for nothing."""
TOKENS_PER_WORD = 1.4
"""Of English about 1.3, of most languages more: for the cost that is said beforehand."""
POLL = 0.2
"""Seconds after which one that waits for answers looks for an interrupt."""

THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
FENCE = re.compile(r"```[\w-]*\n?(.*?)```", re.DOTALL)


def plain_answer(text: str) -> str:
    """An answer without the model's thoughts, and out of its code fence."""
    text = THOUGHT.sub("", text).strip()
    if text.startswith("<think"):  # it never came to an end
        return ""
    fenced = FENCE.search(text)
    return (fenced[1] if fenced else text).strip()


class Cost(NamedTuple):
    """What is going to be asked of a model: at most so many answers, with prompts of about so many words together."""

    what: str
    calls: int
    words: float

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts."""
        return round(self.words * TOKENS_PER_WORD)

    def line(self, model: ChatModel) -> str:
        """As a log and a plan say it."""
        leaves = "" if model.is_local else "; the texts leave this machine"
        return (
            f"{model.model} at {model.url} is asked for {self.what}: at most {quantity(self.calls, 'calls')}, "
            f"about {self.prompt_tokens:,} tokens of prompts{leaves}"
        )


@dataclass
class Chat:
    """A model, the file of its answers in `folder`, and what asking it has cost so far.

    `setting`: where the config names the model, for messages. Nothing is asked, and no key is read, before `ask`.
    """

    model: ChatModel
    folder: Path
    setting: str
    temperature: float | None = None
    tally: Counter[str] = field(default_factory=Counter)
    """`asked`, `kept` (answers known from before), `prompt_tokens`, `answer_tokens`, `unusable`."""
    troubles: Counter[str] = field(default_factory=Counter)
    """By kind, how often a request brought no usable answer."""
    _unusable: str = ""
    """What was found the last time that a prompt was given up."""
    _not_before: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Of the tallies and the answers kept: threads write both, so that an answer is kept even if another one fails."""

    @cached_property
    def _known(self) -> KeptAnswers:
        name = key_of("answers", 1, {"model": self.model.model, "temperature": self.temperature}, [])
        return KeptAnswers(self.folder / f"{name}.jsonl")

    def say_cost(self, cost: Cost) -> None:
        """Tell the log, before the first call, what is going to be asked for. Answers kept from before make it less."""
        logger.info("%s: %s", self.setting, cost.line(self.model))

    def counts(self, what: str) -> dict[str, int]:
        """The tally for a stage's counts: answers of use and tokens, each under a name that begins with `what`."""
        names = {"asked": "by_model", "kept": "kept_from_before", "unusable": "unusable"}
        tokens = {"prompt_tokens": "prompt_tokens", "answer_tokens": "answer_tokens"}
        return {f"{what}_{name}": self.tally[key] for key, name in {**names, **tokens}.items()}

    def say_what_it_took(self, what: str) -> None:
        """Tell the log what the answers have cost, and what was wrong with others."""
        tally = self.tally
        logger.info(
            "%s: %s from %s, %d of them kept from before; %s tokens of prompts, %s of answers%s",
            self.setting, quantity(tally["asked"] + tally["kept"], what), self.model.model, tally["kept"],
            f"{tally['prompt_tokens']:,}", f"{tally['answer_tokens']:,}", self._troubles(),
        )  # fmt: skip
        if tally["unusable"]:
            logger.warning(
                "%s: %s brought no usable answer from %s at %s, and %s left out; the last time it found %s",
                self.setting, quantity(tally["unusable"], "prompts"), self.model.model, self.model.url,
                "is" if tally["unusable"] == 1 else "are", self._unusable,
            )  # fmt: skip

    def _troubles(self) -> str:
        found = ", ".join(f"{count} x {kind}" for kind, count in self.troubles.most_common())
        return f" ({found})" if found else ""

    def ask(self, prompts: Sequence[str], read: Callable[[str], Use | None], what: str) -> list[Use | None]:
        """What `read` makes of the answer to each prompt; None where no answer was of use, which is counted.

        `read` gets a `plain_answer` and returns None for one that is of no use; that prompt is tried again. Raises
        WorkError if the server cannot be used, or most answers are of no use: what was answered stays on the disk, and
        is not asked for again.
        """
        used: dict[str, Use | None] = {}
        for prompt in dict.fromkeys(prompts):
            known = self._known.get(prompt)
            if known is not None and (use := read(plain_answer(known.text))) is not None:
                used[prompt] = use
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in used]
        self.tally["kept"] += len(used)
        if missing:
            client = Client(self.model, key_of_environment(self.model, self.setting), self.temperature)
            with Progress(what, len(prompts), "answers") as progress:
                progress.resume(len(used))
                for prompt, use in self._answers(client, missing, read):
                    used[prompt] = use
                    progress.advance()
        return [used[prompt] for prompt in prompts]

    def _answers(
        self, client: Client, prompts: Sequence[str], read: Callable[[str], Use | None]
    ) -> Iterator[tuple[str, Use | None]]:
        """Each prompt with what its answer gives, as they come. The threads are daemons: no exit waits for a server."""
        todo: queue.SimpleQueue[str] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[str, Use | None] | Exception] = queue.SimpleQueue()
        stop = threading.Event()
        for prompt in prompts:
            todo.put(prompt)

        def work() -> None:
            with client.session() as session:
                while not stop.is_set():
                    try:
                        prompt = todo.get_nowait()
                    except queue.Empty:
                        return
                    try:
                        done.put((prompt, self._until_usable(client, session, prompt, read, stop)))
                    except Exception as problem:  # whatever it is, the one who waits must hear of it
                        done.put(problem)
                        return

        for _ in range(min(self.model.concurrency, len(prompts))):
            threading.Thread(target=work, daemon=True).start()
        good = bad = 0
        try:
            while good + bad < len(prompts):
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
                    raise self._failed(
                        f"{bad} of {good + bad} answers of no use{self._troubles()}, the last: {self._unusable}",
                        "try the prompt by hand, or name a model that follows instructions",
                    )
        finally:
            stop.set()

    def _until_usable(
        self, client: Client, session: object, prompt: str, read: Callable[[str], Use | None], stop: threading.Event
    ) -> Use | None:
        """One prompt, until its answer is of use, which is kept then; None if none of several is."""
        tries: Counter[bool] = Counter()
        while True:
            stop.wait(max(0.0, self._not_before - time.monotonic()))
            try:
                answer = client.ask(session, prompt)  # type: ignore[arg-type]
                with self._lock:
                    self.tally.update(prompt_tokens=answer.prompt_tokens, answer_tokens=answer.answer_tokens)
                    if (use := read(plain_answer(answer.text))) is not None:
                        self._known.add(prompt, answer)
                        self.tally["asked"] += 1
                        return use
                raise Trouble("of no use", "an answer of no use", server=False)
            except Trouble as trouble:
                tries[trouble.server] += 1
                with self._lock:
                    self.troubles[trouble.kind] += 1
                most = SERVER_TRIES if trouble.server and trouble.kind != "too slow" else ANSWER_TRIES
                if trouble.wait > LONGEST_REQUESTED:
                    wait = readable_seconds(trouble.wait)
                    raise self._failed(
                        f"{trouble.found}; it asks to wait {wait}", "run again when it takes requests"
                    ) from None
                if not trouble.again or tries[trouble.server] >= most or stop.is_set():
                    if not trouble.server:
                        with self._lock:
                            self.tally["unusable"] += 1
                            self._unusable = trouble.found
                        return None
                    times = f", {tries[True]} times in a row" if tries[True] > 1 else ""
                    raise self._failed(f"{trouble.found}{times}", self._remedy(trouble)) from None
                self._pause(trouble, tries[trouble.server], stop)

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

    def _failed(self, found: str, remedy: str) -> WorkError:
        count = self.tally["asked"] + self.tally["kept"]
        kept = f". {quantity(count, 'answers')} kept: run again, and only the others are asked for" if count else ""
        return WorkError(f"{self.setting}: {self.model.model} at {self.model.url}: found {found}; {remedy}{kept}")
