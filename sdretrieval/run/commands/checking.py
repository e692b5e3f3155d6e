"""`corpus check` in the tokens of a student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sdretrieval.corpus import CorpusCheck, check_corpus, dangling_judgements, import_corpus
from sdretrieval.corpus.check import CountTokens
from sdretrieval.encode.prompts import find_prompts
from sdretrieval.errors import RequestError
from sdretrieval.run.commands.lookup import find_model


def check_source(
    source: str, model: str | None = None, max_tokens: int | None = None, runs: Path | None = None
) -> CorpusCheck:
    """Examine the corpus that `source` names; lengths in the tokens of `model`, in words without one.

    Raises CorpusError, ModelError, and RequestError where `max_tokens` is given without a model.
    """
    if max_tokens is not None and model is None:
        raise RequestError(f"--max-tokens {max_tokens} needs --model: without a model lengths are counted in words")
    found = find_model(model, runs, max_tokens) if model is not None else None
    imported = import_corpus(source)
    corpus = imported.corpus
    folder = Path(source).expanduser()
    dangling = dangling_judgements(folder, corpus) if folder.is_dir() else ()
    if found is None:
        checked = check_corpus(corpus, dangling=dangling)
    else:
        checked = check_corpus(corpus, _counter(found.folder), {"student": found.max_tokens}, dangling)
    doubts: tuple[str, ...] = ()
    if found is not None:
        doubt = find_prompts(found.folder, found.name).doubt(found.name)
        doubts = (doubt,) if doubt else ()
    met = tuple("\n".join(report.lines()) for report in imported.reports if report.troubles)
    return replace(checked, warnings=(*met, *checked.warnings, *doubts))


def _counter(model: Path) -> CountTokens:
    """Lengths as the student sees them, special tokens included."""
    from sdretrieval.encode.student import load_student
    from sdretrieval.encode.tokens import tokenize
    from sdretrieval.run.commands.lookup import own_tokens

    student = load_student(str(model), max_tokens=own_tokens(model), device="cpu")
    extra = student.document_specials.count
    return lambda texts: np.asarray(tokenize(texts, student.model.tokenizer).lengths, dtype=np.int64) + extra
