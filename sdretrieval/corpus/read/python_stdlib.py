"""The demo's corpus, built from the standard library of the running Python: find the code by what it does.

Document: a function, method or class without its docstring. Query: the docstring's summary. Splits are by module, so
that the modules of dev and test are never trained on. Nothing is downloaded.
"""

from __future__ import annotations

import logging
import os
import re
import sysconfig
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sdretrieval.corpus.near_duplicates import shingles_of, similar_pairs, words_of
from sdretrieval.corpus.read.python_source import Fragment, fragments
from sdretrieval.corpus.tables import document_table, query_table
from sdretrieval.corpus.text import hash_rank, normalised
from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import CorpusError
from sdretrieval.progress import track

logger = logging.getLogger("sdretrieval")

SHARES = {"train": 0.60, "dev": 0.15, "test": 0.25}
"""The share of the documented definitions that each split is to get."""

NOT_SOURCE = frozenset({"site-packages", "dist-packages", "__pycache__", "lib-dynload", "__phello__"})
TESTS = frozenset({"test", "tests", "idle_test", "_test"})
GENERATED = frozenset({"pydoc_data", "encodings"})
VENDORED = frozenset({"_bundled", "_vendor", "macholib"})
LEFT_OUT_FOLDERS = NOT_SOURCE | TESTS | GENERATED | VENDORED
LEFT_OUT_FILES = re.compile(
    r"_sysconfigdata.*|__hello__|this|antigravity|token|keyword|opcode|_opcode_metadata|_testcapi"
)
SAYS_GENERATED = re.compile(r"(?i)\bauto(?:matically|-)?\s*generated\b|this file (?:is|was) generated|\bdo not edit\b")

NEAR_DUPLICATE = 0.8
"""Word or shingle overlap (Jaccard) from which two texts are taken as the same."""

LARGE_UNIT = 0.05
"""A package with more than this share of all queries goes to train: it would be most of dev or test by itself."""

LEAST_DISTRACTOR_LINES = 3
"""A document without a query must hold this many lines: one-line getters distract nobody."""


class _Entry(NamedTuple):
    identifier: str
    title: str
    text: str
    query: str
    unit: str


def build_stdlib(max_documents: int = 4000, seed: int = 13, library: Path | None = None) -> Corpus:
    """Build the corpus from the standard library (or another folder of Python source, `library`).

    Documented definitions come first; where they are more than `max_documents`, a hash with `seed` chooses. The rest
    is filled with definitions without a usable docstring. The same interpreter gives the same corpus.

    Raises `CorpusError` where there is no source to read.
    """
    folder = library or Path(sysconfig.get_path("stdlib"))
    entries = list(_entries(folder))
    documented = [entry for entry in entries if entry.query]
    if not documented:
        raise CorpusError(f"{folder} holds no documented Python source to build python-stdlib from. Use a full Python.")
    split_of = _assign_units(Counter(entry.unit for entry in documented), seed)
    usable = _without_leaks(documented, split_of)
    kept = _choose(entries, {entry.identifier for entry in usable}, max_documents, seed)
    present = {entry.identifier for entry in kept}
    return _corpus(kept, [entry for entry in usable if entry.identifier in present], split_of)


def unit_of(module: str) -> str:
    """What is never split: the top-level package or module; `_pyio` and `io` are one."""
    return re.sub(r"^_(?:py_?)?", "", module.partition(".")[0]) or module


def _modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and files of the modules that count, in the order of their paths."""
    for place, inner, files in os.walk(folder):
        # Pruned here, since site-packages can hold a hundred times as many files as the library.
        inner[:] = sorted(name for name in inner if name not in LEFT_OUT_FOLDERS and not name.startswith("config-"))
        parents = Path(place).relative_to(folder).parts
        for stem in sorted(name.removesuffix(".py") for name in files if name.endswith(".py")):
            if not LEFT_OUT_FILES.fullmatch(stem):
                yield ".".join((*parents, stem)).removesuffix(".__init__"), Path(place) / f"{stem}.py"


def _entries(folder: Path) -> Iterator[_Entry]:
    for module, path in track(list(_modules(folder)), "python-stdlib: reading", "modules"):
        seen: Counter[str] = Counter()
        for fragment in _fragments_of(path):
            identifier = f"{module}:{fragment.qualified_name}"
            seen[identifier] += 1  # a setter has its getter's name
            identifier += f"#{seen[identifier]}" if seen[identifier] > 1 else ""
            told = normalised(fragment.summary) in normalised(fragment.text)
            query = "" if told else fragment.summary
            yield _Entry(identifier, f"{module} {fragment.qualified_name}", fragment.text, query, unit_of(module))


def _fragments_of(path: Path) -> list[Fragment]:
    try:
        with tokenize.open(path) as file:
            source = file.read()
        return [] if SAYS_GENERATED.search(source[:1000]) else fragments(source)
    except (SyntaxError, UnicodeDecodeError):  # templates and samples that are no valid Python
        return []


def _assign_units(queries_of: Counter[str], seed: int) -> dict[str, str]:
    """Unit -> split. In the order of their hash, units go to the split that lacks most of its share."""
    total = sum(queries_of.values())
    split_of = {unit: "train" for unit, count in queries_of.items() if count > LARGE_UNIT * total}
    filled = Counter({"train": sum(queries_of[unit] for unit in split_of)})
    for unit in sorted(queries_of.keys() - split_of.keys(), key=lambda name: hash_rank(seed, name)):
        split_of[unit] = min(SHARES, key=lambda split: filled[split] / SHARES[split])
        filled[split_of[unit]] += queries_of[unit]
    return split_of


def _without_leaks(documented: Sequence[_Entry], split_of: dict[str, str]) -> list[_Entry]:
    """The entries whose query or document has no near-duplicate in another split. Both sides of a pair are left out."""
    leaking: set[int] = set()
    for sets in ([words_of(e.query) for e in documented], [shingles_of(e.text) for e in documented]):
        for left, right in similar_pairs(sets, NEAR_DUPLICATE):
            if split_of[documented[left].unit] != split_of[documented[right].unit]:
                leaking |= {left, right}
    if leaking:
        example = documented[min(leaking)]
        logger.info(
            "python-stdlib: %d of %d queries left out, near-duplicates across splits, e.g. %s: %r",
            len(leaking), len(documented), example.title, example.query,
        )  # fmt: skip
    return [entry for position, entry in enumerate(documented) if position not in leaking]


def _choose(entries: Sequence[_Entry], queried: set[str], max_documents: int, seed: int) -> list[_Entry]:
    """At most `max_documents` entries, those with a query first, in the order of their ids."""
    eligible = [
        entry
        for entry in entries
        if entry.identifier in queried or entry.text.count("\n") + 1 >= LEAST_DISTRACTOR_LINES
    ]
    ranked = sorted(eligible, key=lambda e: (e.identifier not in queried, hash_rank(seed, e.identifier)))
    return sorted(ranked[:max_documents])


def _corpus(kept: Sequence[_Entry], queried: Sequence[_Entry], split_of: dict[str, str]) -> Corpus:
    """The same summary twice in one split is one query with several positives."""
    positives: dict[tuple[str, str], list[_Entry]] = defaultdict(list)
    for entry in queried:
        positives[split_of[entry.unit], normalised(entry.query)].append(entry)
    qrels: dict[str, dict[str, dict[str, int]]] = {split: {} for split in SHARES}
    queries = []
    for (split, _), entries in positives.items():
        identifier = f"query:{entries[0].identifier}"  # never a document's id: such a document would not be retrieved
        queries.append((identifier, entries[0].query))
        qrels[split][identifier] = {entry.identifier: 1 for entry in entries}
    documents = document_table((entry.identifier, entry.title, entry.text) for entry in kept)
    return Corpus(name="python-stdlib", documents=documents, queries=query_table(queries), qrels=qrels)
