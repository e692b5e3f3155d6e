"""Judgements: read `qrels/*.tsv`, and part those that point nowhere from the others.

A qrels file holds one judgement a line, `query-id <tab> corpus-id <tab> score`, with or without a line of headings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sdretrieval.corpus.types import Qrels
from sdretrieval.errors import CorpusError

HEADER = "query-id\tcorpus-id\tscore"


class Dangling(NamedTuple):
    """A judgement whose query or document does not exist."""

    split: str
    query: str
    document: str
    missing: str
    """`query`, `document` or `query and document`: what does not exist."""


class Judgements(NamedTuple):
    """Judgements by split whose query and document exist, and aside those that point nowhere."""

    kept: dict[str, dict[str, dict[str, int]]]
    dangling: list[Dangling]


def read_qrels(folder: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Every judgement in `folder/*.tsv` by split (the file's name), whether or not its query and document exist.

    Raises `CorpusError` naming file and line where a row has not three columns or its score is no whole number.
    """
    if not folder.is_dir():
        return {}
    return {path.stem: _read_split(path) for path in sorted(folder.glob("*.tsv"))}


def own_positives(qrels: Mapping[str, Qrels]) -> dict[str, list[str]]:
    """By split, the queries with a positive document of their own id, which BEIR's rule never retrieves."""
    found = {
        split: [query for query, judged in asked.items() if judged.get(query, 0) > 0] for split, asked in qrels.items()
    }
    return {split: queries for split, queries in found.items() if queries}


def own_positive_warning(split: str, queries: Sequence[str], of: int) -> str:
    """What a user must know of `own_positives` of one split, which has `of` queries."""
    return (
        f"{len(queries)} of {of} {split} queries have a positive document of their own id (e.g. {queries[0]!r}), and a "
        "query never retrieves the document with its own id: if the two are different things, give the queries other "
        "ids (such as q1, q2)"
    )


def part_dangling(qrels: Mapping[str, Qrels], documents: Collection[str], queries: Collection[str]) -> Judgements:
    """Part `qrels` into judgements between known ids and those that point nowhere. A split stays, even if empty."""
    kept: dict[str, dict[str, dict[str, int]]] = {split: {} for split in qrels}
    dangling: list[Dangling] = []
    for split, query, document, grade in _flat(qrels):
        absent = [
            kind for kind, known in (("query", query in queries), ("document", document in documents)) if not known
        ]
        if absent:
            dangling.append(Dangling(split, query, document, " and ".join(absent)))
        else:
            kept[split].setdefault(query, {})[document] = grade
    return Judgements(kept, dangling)


def write_qrels(qrels: Qrels, path: Path) -> None:
    """Write one split with headings, as BEIR's own loader expects (it skips the first line unread)."""
    with path.open("w", encoding="utf8", newline="\n") as file:
        file.write(HEADER + "\n")
        for query, judged in qrels.items():
            for document, grade in judged.items():
                file.write(f"{query}\t{document}\t{grade}\n")


def _flat(qrels: Mapping[str, Qrels]) -> Iterator[tuple[str, str, str, int]]:
    for split, queries in qrels.items():
        for query, judged in queries.items():
            for document, grade in judged.items():
                yield split, query, document, grade


def _read_split(path: Path) -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            columns = line.rstrip("\r\n").split("\t")
            if columns == [""] or (number == 1 and _is_heading(columns)):
                continue
            query, document, grade = _judgement(columns, f"{path}:{number}")
            judged.setdefault(query, {})[document] = grade
    return judged


def _is_heading(columns: list[str]) -> bool:
    return len(columns) == 3 and not _is_number(columns[2])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _judgement(columns: list[str], place: str) -> tuple[str, str, int]:
    if len(columns) != 3:
        hint = " Four columns are TREC's layout: remove the second." if len(columns) == 4 else ""
        raise CorpusError(
            f"{place}: {len(columns)} columns parted by tabs ({columns!r:.80}), expected 3: "
            f"query-id, corpus-id, score.{hint}"
        )
    try:
        return columns[0], columns[1], int(columns[2])
    except ValueError:
        raise CorpusError(
            f"{place}: the score is {columns[2]!r}, expected a whole number (0 = not relevant, 1 or more = relevant)."
        ) from None
