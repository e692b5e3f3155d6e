"""Whether a model that loaded is the one that was saved: transformers fills missing weights at random, reads words that
a tokenizer does not know as one unknown word, and lets NaN through, each without an error.

Legend: V tokens of a vocabulary, R rows of the embedding matrix.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sdretrieval.encode.batches import is_static
from sdretrieval.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger("sdretrieval")

Model = TypeVar("Model")

REASON = 300
"""Characters of a library's message."""
UNUSED = "pooler"
"""Of the weights that a bi-encoder's folder may lack: no bi-encoder reads what they make."""
LEAST_FILLED = 0.1
"""Share of the embedding matrix that a vocabulary names: a tokenizer whose file is gone has special tokens alone."""
SAMPLE = 200
"""Words, or texts, that a tokenizer is tried on."""
BEGINNING = 500
"""Characters of a text that are tried."""
MOST_UNKNOWN = 0.5
REPORT_ROW = re.compile(r"^(\S.*?) *\| *(MISSING|MISMATCH|UNEXPECTED)\b", re.MULTILINE)
OF_A_LAYER = re.compile(r"\.(\d+|\{[^}]*\})\.")
COLOURS = re.compile(r"\x1b?\[\d*m")


def loaded(what: str, load: Callable[[], Model], unused: str | None = None) -> Model:
    """What `load` makes of a model's files; `what` names the model and what it is loaded as.

    Raises ModelError if it fails, whatever the libraries raise for damaged files, or if weights are missing, but those
    whose names hold `unused`.
    """
    with _reported() as report:
        try:
            model = load()
        except ModelError:
            raise
        except Exception as problem:
            unlike = [name for name, fault in report if fault == "MISMATCH"]
            reason = f"weights of another shape than config.json says: {', '.join(unlike[:3])}" if unlike else None
            raise ModelError(f"{what}: {reason or reason_of(problem)}") from problem
    missing = [name for name, fault in report if fault == "MISSING" and not (unused and unused in name)]
    if missing:
        raise ModelError(
            f"{what}: its files lack the weights {', '.join(missing[:3])}{' and others' * (len(missing) > 3)}, which "
            "would be random; are config.json and the weights of one model, and all there? Copy or download it again"
        )
    # A head that is left behind, as of a language model, is no mistake; a layer may be one.
    if idle := [name for name, fault in report if fault == "UNEXPECTED" and OF_A_LAYER.search(name)]:
        logger.warning(
            "%s as a whole: config.json has no place for weights of layers in its files, such as %s; are both of one "
            "model?", what, idle[0],
        )  # fmt: skip
    return model


def reason_of(problem: Exception) -> str:
    """A library's message on one line; its kind, if it has none."""
    return " ".join(str(problem).split())[:REASON] or type(problem).__name__


@contextmanager
def _reported() -> Iterator[list[tuple[str, str]]]:
    """Inside, transformers' table of weights that do not fit is not logged but read: (weights, MISSING, ...)."""
    theirs, rows = logging.getLogger("transformers.modeling_utils"), list[tuple[str, str]]()

    def read(record: logging.LogRecord) -> bool:
        text = COLOURS.sub("", record.getMessage())
        if "LOAD REPORT" not in text:
            return record.levelno >= level
        rows.extend(REPORT_ROW.findall(text))
        return False

    own, level = theirs.level, theirs.getEffectiveLevel()
    theirs.setLevel(min(level, logging.WARNING))
    theirs.addFilter(read)
    try:
        yield rows
    finally:
        theirs.removeFilter(read)
        theirs.setLevel(own)


def check_weights(name: str, network: nn.Module) -> None:
    """Raise ModelError if a weight is NaN or infinite."""
    import torch

    for weights, tensor in network.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"model {name!r}: its weights {weights} hold NaN or infinity, expected finite numbers; "
                "it was damaged, or saved by a training that had failed: name another copy"
            )


def embedded_tokens(model: Any) -> int | None:
    """Rows of the embedding matrix of a bi- or cross-encoder; None if the network does not say which one that is."""
    first = model[0]
    try:
        matrix = first.embedding if is_static(model) else first.auto_model.get_input_embeddings()
        return int(matrix.weight.shape[0])
    except (AttributeError, NotImplementedError, TypeError):
        return None


def check_vocabulary(name: str, tokenizer: Any, rows: int | None) -> None:
    """Raise ModelError if a transformers tokenizer does not fit an embedding matrix of so many rows (None: not known),
    or does not know the words of its own vocabulary. A token that was added to it, as for images, and that no text
    gets, may lie beyond the matrix."""
    vocabulary, used = tokenizer.get_vocab(), {tokenizer.pad_token_id, *tokenizer("a")["input_ids"]}
    added = {word for word, row in tokenizer.get_added_vocab().items() if row not in used}
    last = max(vocabulary.values(), default=-1)
    read = max((row for word, row in vocabulary.items() if word not in added), default=-1)
    if rows is not None and (read >= rows or last + 1 < LEAST_FILLED * rows):
        raise ModelError(
            f"model {name!r}: its tokenizer's ids go up to {last:,}, its embedding matrix has {rows:,} rows; expected "
            "the tokenizer that it was trained with: is tokenizer.json there, and of this model?"
        )
    # Neither marked continuations of words nor special tokens: a text holds these only by chance.
    words = sorted(word for word in vocabulary if len(word) > 2 and not word.startswith(("#", "[", "<")))
    check_known(name, tokenizer, words, "its own vocabulary")


def check_known(name: str, tokenizer: Any, texts: Sequence[str], what: str) -> None:
    """Raise ModelError if most tokens of some of `texts`, called `what` in the message, are unknown to a tokenizer."""
    unknown, count = tokenizer.unk_token_id, len(texts)
    if unknown is None or not count:
        return
    sample = [texts[row][:BEGINNING] for row in range(0, count, max(1, count // SAMPLE))]
    ids = [one for some in tokenizer(sample, add_special_tokens=False, verbose=False)["input_ids"] for one in some]
    share = ids.count(unknown) / max(len(ids), 1)
    if share > MOST_UNKNOWN:
        raise ModelError(
            f"model {name!r}: its tokenizer reads {share:.0%} of {what} as {tokenizer.unk_token}, the unknown word; "
            "expected a model of these texts' language with its own tokenizer: is tokenizer.json there?"
        )
