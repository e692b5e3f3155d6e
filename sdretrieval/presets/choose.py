"""From a corpus to a config: what is there, the preset for it, and a reason beside each choice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sdretrieval.corpus import open_corpus
from sdretrieval.corpus.language import ENGLISH, STEMMED, Language, detect, sample
from sdretrieval.corpus.types import Corpus
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.model_files import CONFIG, read_settings, words_folder
from sdretrieval.encode.student import positions_in
from sdretrieval.errors import ModelError, RequestError
from sdretrieval.formatting import quantity

PRESETS = ("documents", "query_log", "judgements", "code", "languages", "small_index", "gpu")
ENOUGH_JUDGED = 200
"""Judged train queries from which labels are learned from: with fewer, an adapter from synthetic queries gains more."""
ENOUGH_ASKED = 100
LENGTHS = (128, 256)
"""Tokens of a document that the student may see; more is left to the teacher's windows."""
HELD = 0.9
TOKENS_A_WORD = 1.4
SAMPLE, CODE_LINES = 500, 0.3
CODE = re.compile(r"[;{}]\s*$|^\s*(def|class|import|from|return|func|fn|public|private|static|#include|package)\b.*")


@dataclass(frozen=True)
class Findings:
    """What a corpus holds. `lengths`: of up to `SAMPLE` documents, in tokens of the student or estimated from words."""

    name: str
    documents: int
    judged: Mapping[str, int]
    asked: int
    """Queries without a judgement."""
    lengths: Sequence[int]
    counted_in: str
    language: Language
    code: float
    """Share of lines that look like source code."""
    gpu: bool


def look(source: str) -> Findings:
    """Read the corpus `source` and say what is in it. Raises CorpusError as `open_corpus` does."""
    corpus = open_corpus(source)
    texts = sample_texts(corpus)
    judged = {split: len(of) for split, of in corpus.qrels.items()}
    known = {query for of in corpus.qrels.values() for query in of}
    lines = [line for text in texts[:100] for line in islice(text.splitlines(), 40) if line.strip()]
    code = sum(bool(CODE.search(line)) for line in lines) / max(len(lines), 1)
    words = [len(text.split()) for text in texts]
    return Findings(
        corpus.name, len(corpus.documents), judged, len(set(corpus.query_ids) - known),
        [round(count * TOKENS_A_WORD) for count in words], "estimated tokens", detect(sample(texts)), code, _gpu(),
    )  # fmt: skip


def sample_texts(corpus: Corpus) -> list[str]:
    """Up to `SAMPLE` documents, evenly spread."""
    texts = corpus.document_texts()
    return [texts[row] for row in range(0, len(texts), max(1, len(texts) // SAMPLE))]


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def presets_for(found: Findings, wanted: Sequence[str] = ()) -> list[str]:
    """Names of the presets to put over one another: those that were asked for, or those that the findings ask for.

    Raises RequestError for an unknown one.
    """
    for name in wanted:
        if name not in PRESETS:
            raise RequestError(f"--preset {name}: expected {', '.join(PRESETS)}")
    if wanted:
        return list(dict.fromkeys(["documents", *wanted]))
    chosen = ["documents"]
    if found.judged.get("train", 0) >= ENOUGH_JUDGED:
        chosen.append("judgements")
    elif found.asked + found.judged.get("train", 0) >= ENOUGH_ASKED:
        chosen.append("query_log")
    if found.gpu and "judgements" not in chosen:
        chosen.append("gpu")
    if found.code >= CODE_LINES:
        chosen.append("code")
    elif found.language.name not in (None, ENGLISH):
        chosen.append("languages")
    return chosen


def read_preset(name: str) -> dict[str, Any]:
    """`for` (a line of text), `settings` and `reasons` of a preset."""
    record: dict[str, Any] = yaml.safe_load((files(__package__) / f"{name}.yaml").read_text(encoding="utf8"))
    return record


def choose(source: str, found: Findings, presets: Sequence[str], name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a config, nested, and by dotted path the reason of a choice."""
    settings: dict[str, Any] = {"name": name, "corpus": {"source": source}}
    reasons: dict[str, str] = {}
    for preset in presets:
        record = read_preset(preset)
        settings = merged(settings, record["settings"])
        reasons.update(record["reasons"])
    lengths = np.asarray(found.lengths or [0])
    fitting = [most for most in LENGTHS if float(np.mean(lengths <= most)) >= HELD]
    most = fitting[0] if fitting else LENGTHS[-1]
    held = float(np.mean(lengths <= most))
    settings["student"]["max_tokens"] = most
    longer = "" if fitting else "; of longer ones the teacher reads the rest"
    reasons["student.max_tokens"] = f"{held:.0%} of documents are no longer (in {found.counted_in}){longer}"
    corpus = settings["corpus"]
    if not corpus.get("labels"):
        amounts = min(600, max(20, found.documents // 4)), min(4000, 2 * found.documents)
        if amounts != (corpus["dev_queries"], corpus["generated_queries"]):
            corpus["dev_queries"], corpus["generated_queries"] = amounts
            reasons["corpus.dev_queries"] = f"of {quantity(found.documents, 'documents')}"
    if "judgements" in presets:
        reasons["corpus.labels"] += f" ({quantity(found.judged.get('train', 0), 'judged train queries')})"
    if "query_log" in presets:
        asked = found.asked + found.judged.get("train", 0)
        reasons["corpus.unjudged_queries"] = f"{quantity(asked, 'queries')}; " + reasons["corpus.unjudged_queries"]
    language = found.language.name
    if "code" in presets or language is None:
        settings["mine"]["language"] = ENGLISH
        reasons["mine.language"] = "BM25's stemmer; no other language was recognised"
    else:
        settings["mine"]["language"] = language if language in STEMMED else "none"
        reasons["mine.language"] = f"the texts look {language.capitalize()}"
    test = [split for split in ("test", "dev") if found.judged.get(split)]
    settings["evaluate"] = merged({"split": test[0] if test else "test"}, settings.get("evaluate", {}))
    reasons["evaluate.split"] = f"judged: {found.judged[test[0]]:,} queries" if test else "made from documents held out"
    return settings, reasons


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, sections in sections."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        # A teacher is one choice, and an empty section means its defaults.
        result[key] = merged(result[key], value) if both and value and key != "teacher" else value
    return result


def config_text(settings: Mapping[str, Any], reasons: Mapping[str, str], head: Sequence[str]) -> str:
    """YAML with each reason as a comment beside its setting."""
    lines = [f"# {line}" for line in head]
    for key, value in settings.items():
        note = f"  # {reasons[key]}" if key in reasons else ""
        if isinstance(value, Mapping) and value and key != "teacher":
            lines.append(f"{key}:{note}")
            for inner, setting in value.items():
                why = reasons.get(f"{key}.{inner}")
                lines.append(f"  {inner}: {_flow(setting)}" + (f"  # {why}" if why else ""))
        elif key == "teacher":
            lines += [f"teacher:{note}", f"  kind: {value['kind']}", "  members:"]
            lines += [f"    - {_flow(member)}" for member in value["members"]]
        else:
            lines.append(f"{key}: {_flow(value)}{note}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, width=10_000)).removesuffix("\n...\n").strip()


def run_name(source: str) -> str:
    """A run's name from what was typed: the folder's or the data set's."""
    base = Path(source.rstrip("/").rpartition(":")[2]).name
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", base.rsplit(".", 1)[0] if "." in base[1:] else base).strip("-.")
    return name or "corpus"


def fit_to_model(settings: dict[str, Any], reasons: dict[str, str]) -> None:
    """Not more tokens than the model has positions for, if it is on this machine."""
    with suppress(ModelError):
        config = read_settings(words_folder(locate_model(settings["student"]["model"], download=False)) / CONFIG)
        most = positions_in(config)
        if most is not None and most < settings["student"]["max_tokens"]:
            settings["student"]["max_tokens"] = most
            reasons["student.max_tokens"] = "the model has no more positions"


def require_model(settings: Mapping[str, Any]) -> None:
    """Raise ModelError, with what to do, if the student's model is not on this machine."""
    name = settings["student"]["model"]
    try:
        locate_model(name)
    except ModelError as problem:
        raise ModelError(f"{problem}. Any sentence-transformers model will do: --set student.model=FOLDER") from problem
