"""The demo's corpus, built from the standard library of the running Python: find the code by what it does.

Document: a function, method or class without its docstring. Query: the docstring's summary. Splits are by module, so
that the modules of dev and test are never trained on. Nothing is downloaded.

A function's or method's document is its source. A class's document is its skeleton: its head, its own statements and
the heads of its methods. The bodies of the methods are documents of their own; within the class they would push
everything else out of a short view and make near-duplicates of the class and its only long method.
"""

from __future__ import annotations

import ast
import logging
import os
import re
import sysconfig
import tokenize
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sdretrieval.corpus.arrow import document_table, query_table
from sdretrieval.corpus.text import hash_rank, normalised, shingles_of, similar_pairs, words_of
from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import CorpusError
from sdretrieval.progress import track

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BLOCKS = ("body", "handlers", "cases", "orelse", "finalbody")

LEAST_WORDS, MOST_WORDS = 4, 40
"""A summary shorter than this says nothing; a longer one is no longer a query and is cut."""

STOP_WORDS = frozenset(
    re.findall(r"\w+", "a an and are as at be by for from if in into is it its of on or the this to with")
)
WORD = re.compile(r"[A-Za-z][A-Za-z0-9'-]*")
IDENTIFIER_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
MARKUP = re.compile(r":\w+:`~?([^`]*)`|`+([^`]*)`+|\*\*?(\w[^*\n]*)\*\*?")
END_OF_PROSE = re.compile(
    r"\n\s*\n|>>>|\n\s*(?:[:@](?:param|type|return|rtype)\b|(?:Args|Arguments|Parameters|Returns):)"
)
GRAMMAR_RULE = re.compile(r"\S+\s*:*=\s")
SIGNATURE = re.compile(r"\s*(?:\w+\s*=\s*)?(?:\w+\.)*(\w+)\s*\([^)]*\)(?:[ \t]*->[^\n.:]*?)?[ \t]*(?:--|[:.-]|\n|$)\s*")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"'])")

Position = tuple[int, int]
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


class Fragment(NamedTuple):
    """One definition of a module."""

    qualified_name: str
    text: str
    """The source, dedented, without docstrings."""
    summary: str
    """What the docstring says in a sentence; empty if it says nothing usable."""


def fragments(source: str) -> list[Fragment]:
    """Every function, class and method of a module's source, in its order. Functions within functions are left out.

    Raises SyntaxError if `source` is no Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old code concern its authors, not us
        tree = ast.parse(source)
    lines = [line.encode() for line in source.split("\n")]  # ast counts columns in bytes
    return [
        Fragment(name, _text(node, lines), summary(ast.get_docstring(node) or "", name))
        for name, node in _definitions(tree.body, "")
    ]


def summary(docstring: str, name: str) -> str:
    """The first sentence of a docstring as a query, without markup; more sentences while it has under 4 words.

    `name` is the definition's qualified name: a leading call signature of it is skipped, and a summary that says no
    more than the name does is empty, as is one under 4 words.
    """
    call = SIGNATURE.match(docstring)
    own_call = call is not None and call[1] == name.rpartition(".")[2]
    prose = docstring[call.end() if call and own_call else 0 :].strip()
    prose = END_OF_PROSE.split(prose, maxsplit=1)[0]
    prose = MARKUP.sub(lambda match: next(filter(None, match.groups()), ""), prose)
    parts = SENTENCE_END.split(" ".join(prose.split()))
    prefixes = (" ".join(parts[:count]) for count in range(1, len(parts) + 1))
    text = next((prefix for prefix in prefixes if len(WORD.findall(prefix)) >= LEAST_WORDS), "")
    words = {word.lower() for word in WORD.findall(text)} - STOP_WORDS
    if len(text.split()) < LEAST_WORDS or GRAMMAR_RULE.match(text) or words <= identifier_words(name):
        return ""
    return " ".join(text.split()[:MOST_WORDS])


def identifier_words(name: str) -> set[str]:
    """The words of dotted, snake-cased or camel-cased names: `JSONDecoder.raw_decode` -> json, decoder, raw, decode."""
    return {part.lower() for part in IDENTIFIER_PART.findall(name)}


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Definition]]:
    """Definitions of a module or class with their qualified names, also those under `if`, `try` and `with`."""
    for node in _members(body):
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{prefix}{node.name}.")


def _members(nodes: Iterable[ast.AST]) -> Iterator[Definition]:
    """Definitions among statements and in their blocks, but not those within another definition."""
    for node in nodes:
        if isinstance(node, DEFINITIONS):
            yield node
        else:
            for block in BLOCKS:
                yield from _members(getattr(node, block, ()))


def _docstrings(node: Definition) -> Iterator[tuple[Position, Position]]:
    """Spans of the docstrings of a definition and of all within it."""
    if ast.get_docstring(node, clean=False) is not None:
        yield _start(node.body[0]), _end(node.body[0])
    for member in _members(node.body):
        yield from _docstrings(member)


def _text(node: Definition, lines: list[bytes]) -> str:
    """The source of `node`, dedented, without what `_cuts` names and without lines that the cuts leave blank."""
    first, indent = _start(node)
    last = node.end_lineno or first
    kept: dict[int, bytes] = {number: lines[number - 1] for number in range(first, last + 1)}
    for start, end in sorted(_cuts(node), reverse=True):
        head, tail = kept[start[0]][: start[1]], kept[end[0]][end[1] :]
        joined = head + tail.lstrip(b"; \t")
        for number in range(start[0], end[0] + 1):
            del kept[number]
        if joined.strip():
            kept[start[0]] = joined.rstrip()
        elif not kept.get(end[0] + 1, b"-").strip():
            del kept[end[0] + 1]  # the blank line that set the docstring off
    dedented = (line[indent:] if not line[:indent].strip() else line for _, line in sorted(kept.items()))
    return b"\n".join(dedented).decode().strip()


def _cuts(node: Definition) -> Iterator[tuple[Position, Position]]:
    """Spans, none within another, that do not belong to the document: docstrings, and in classes methods' bodies."""
    if not isinstance(node, ast.ClassDef):
        yield from _docstrings(node)
        return
    if ast.get_docstring(node, clean=False) is not None:
        yield _start(node.body[0]), _end(node.body[0])
    for member in _members(node.body):
        yield _start(member.body[0]), _end(member.body[-1])


def _start(node: ast.stmt) -> Position:
    """Line (from 1) and byte column of a statement, its decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)]), node.col_offset


def _end(node: ast.stmt) -> Position:
    return node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


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

    Raises `CorpusError` if there is no source to read.
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
        try:
            with tokenize.open(path) as file:
                source = file.read()
            inner = [] if SAYS_GENERATED.search(source[:1000]) else fragments(source)
        except (SyntaxError, UnicodeDecodeError):  # templates and samples that are no valid Python
            continue
        for fragment in inner:
            identifier = f"{module}:{fragment.qualified_name}"
            seen[identifier] += 1  # a setter has its getter's name
            identifier += f"#{seen[identifier]}" if seen[identifier] > 1 else ""
            repeated = normalised(fragment.summary) in normalised(fragment.text)
            query = "" if repeated else fragment.summary
            yield _Entry(identifier, f"{module} {fragment.qualified_name}", fragment.text, query, unit_of(module))


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
