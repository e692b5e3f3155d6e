"""Many prompts to one language model: each answer is kept as soon as it is there."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from sdretrieval.chat.client import ChatClient, ServedModel, Trouble, key_of_environment
from sdretrieval.chat.kept import KeptAnswers
from sdretrieval.chat.parallel import Requests
from sdretrieval.formatting import quantity
from sdretrieval.progress import Progress
from sdretrieval.store.fingerprint import key_of

if TYPE_CHECKING:
    import requests

logger = logging.getLogger("sdretrieval")
Use = TypeVar("Use")

TOKENS_PER_WORD = 1.4
"""Of English about 1.3, of most languages more: for the cost that is said beforehand."""
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
    of: str = "prompts"

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts."""
        return round(self.words * TOKENS_PER_WORD)

    def line(self, model: ServedModel) -> str:
        """As a log and a plan say it."""
        leaves = "" if model.is_local else "; the texts leave this machine"
        return (
            f"{model.model} at {model.url} is asked for {self.what}: at most {quantity(self.calls, 'calls')}, "
            f"about {self.prompt_tokens:,} tokens of {self.of}{leaves}"
        )


@dataclass
class Chat(Requests):
    """A model, the file of its answers in `folder`, and what asking it has cost so far (`tally`: `prompt_tokens` and
    `answer_tokens` too). Nothing is asked, and no key is read, before `ask`."""

    folder: Path
    temperature: float | None = None

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
            f"{tally['prompt_tokens']:,}", f"{tally['answer_tokens']:,}", self.troubles_found(),
        )  # fmt: skip
        if tally["unusable"]:
            logger.warning(
                "%s: %s brought no usable answer from %s at %s, and %s left out; the last time it found %s",
                self.setting, quantity(tally["unusable"], "prompts"), self.model.model, self.model.url,
                "is" if tally["unusable"] == 1 else "are", self._unusable,
            )  # fmt: skip

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
            client = ChatClient(self.model, key_of_environment(self.model, self.setting), self.temperature)

            def once(session: requests.Session, prompt: str) -> Use:
                answer = client.ask(session, prompt)
                with self._lock:
                    self.tally.update(prompt_tokens=answer.prompt_tokens, answer_tokens=answer.answer_tokens)
                    use = read(plain_answer(answer.text))
                    if use is None:
                        raise Trouble("of no use", "an answer of no use", server=False)
                    self._known.add(prompt, answer)
                    self.tally["asked"] += 1
                return use

            with Progress(what, len(prompts), "answers") as progress:
                progress.resume(len(used))
                for prompt, use in self.each(client, missing, once):
                    used[prompt] = use
                    progress.advance()
        return [used[prompt] for prompt in prompts]
