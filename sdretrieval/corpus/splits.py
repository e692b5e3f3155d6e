"""Judgements by split: check them, carve a dev split off train."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from sdretrieval.corpus.arrow import query_table, table_rows
from sdretrieval.corpus.text import hash_rank, normalised
from sdretrieval.corpus.types import Corpus, Qrels
from sdretrieval.errors import CorpusError
from sdretrieval.formatting import quantity

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger("sdretrieval")
NOT_COMPARABLE = (
    "judged documents that are not in the corpus are left out of the best possible ranking too, so that nDCG and "
    "Recall are higher than those that BEIR's own evaluation gives: published figures compare with a complete corpus "
    "alone"
)


WITHOUT_LABELS = "--set corpus.labels=false --set corpus.generated_queries=1000"


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


def own_positives(qrels: Mapping[str, Qrels]) -> dict[str, list[str]]:
    """By split, the queries with a positive document of their own id, which BEIR's rule never retrieves."""
    own = {
        split: [query for query, judged in by_query.items() if judged.get(query, 0) > 0]
        for split, by_query in qrels.items()
    }
    return {split: queries for split, queries in own.items() if queries}


def own_positive_warning(split: str, queries: Sequence[str], of: int) -> str:
    """What a user must know of `own_positives` of one split, which has `of` queries."""
    return (
        f"{len(queries):,} of {quantity(of, f'{split} queries')} with a positive document of the same id (e.g. "
        f"{queries[0]!r}): a query never retrieves the document with its own id; if the two are different things, "
        "give the queries other ids (such as q1, q2)"
    )


def part_dangling(qrels: Mapping[str, Qrels], documents: Collection[str], queries: Collection[str]) -> Judgements:
    """Part `qrels` into judgements between known ids and those that point nowhere. A split stays, even if empty."""
    kept: dict[str, dict[str, dict[str, int]]] = {split: {} for split in qrels}
    dangling: list[Dangling] = []
    flat = ((s, q, d, g) for s, by_query in qrels.items() for q, judged in by_query.items() for d, g in judged.items())
    for split, query, document, grade in flat:
        absent = [
            kind for kind, known in (("query", query in queries), ("document", document in documents)) if not known
        ]
        if absent:
            dangling.append(Dangling(split, query, document, " and ".join(absent)))
        else:
            kept[split].setdefault(query, {})[document] = grade
    return Judgements(kept, dangling)


def require_split(corpus: Corpus, split: str) -> None:
    """Raise `CorpusError` naming the splits that are there unless `corpus` has judgements for `split`."""
    require_judged(corpus.name, {name: len(judged) for name, judged in corpus.qrels.items()}, split)


def require_judged(name: str, counts: Mapping[str, int], split: str) -> None:
    """As `require_split`, of judged queries by split."""
    if counts.get(split):
        return
    present = ", ".join(f"{name} ({quantity(count, 'queries')})" for name, count in counts.items() if count)
    state = "an empty" if split in counts else "no"
    if split == "train":  # no other split can stand in for it
        remedy = f"Add qrels/train.tsv, or learn from queries made of documents: {WITHOUT_LABELS}"
    elif present:
        remedy = f"Name one of these, or add qrels/{split:.80}.tsv."
    else:
        remedy = (
            f"Add queries.jsonl and qrels/{split:.80}.tsv; or run without judgements, on queries made of its "
            f"documents: sdretrieval run CONFIG {WITHOUT_LABELS}"
        )
    raise CorpusError(
        f"Corpus {name} has {state} split '{split:.80}'. Splits with judgements: {present or 'none'}. {remedy}"
    )


def require_positives(corpus: Corpus, split: str = "train") -> None:
    """Raise `CorpusError` unless `split` is there and at least one of its queries has a relevant document.

    Of a split that measures, queries without one are logged: they count, as in BEIR.
    """
    require_split(corpus, split)
    judged = corpus.qrels[split]
    without = [query for query, grades in judged.items() if not _positives(grades)]
    if len(without) == len(judged):
        remedy = (
            "Add positives, or learn without labels: --set corpus.labels=false"
            if split == "train"
            else f"Every measure would be 0: correct the scores in qrels/{split}.tsv, or measure on another split."
        )
        raise CorpusError(
            f"Split '{split}' of corpus {corpus.name} has {len(judged)} judged queries, none with a positive (a score "
            f"above 0 of a document in the corpus). {remedy}"
        )
    if without and split != "train":
        logger.warning(
            "%s: %d of %d %s queries have no relevant document (e.g. %r); as in BEIR, they count 0 in every mean",
            corpus.name, len(without), len(judged), split, without[0],
        )  # fmt: skip


def carve_dev(corpus: Corpus, seed: int, share: float = 0.2, split: str = "train") -> Corpus:
    """Move about `share` of the queries of `split` into a new split `dev`, chosen by a hash of their ids.

    Queries without a positive stay where they are. Queries that share one, or have the same text, stay together, so
    that dev is unseen in training.
    Groups are taken in the order of their hash as long as they fit (the smallest where none does), and neither the
    order of the queries nor that of the documents matters.

    Raises `CorpusError` if a dev split exists, `split` has no positives, or its queries are one single group.
    """
    if corpus.qrels.get("dev"):
        size = quantity(len(corpus.qrels["dev"]), "queries")
        raise CorpusError(f"Corpus {corpus.name} has a dev split of {size}: use that one.")
    require_positives(corpus, split)
    judged = corpus.qrels[split]
    measurable = {query: grades for query, grades in judged.items() if _positives(grades)}
    chosen = _choose(_groups(corpus, measurable), seed, wanted=round(share * len(measurable)))
    if not chosen:
        raise CorpusError(
            f"No dev split can be carved off '{split}' of corpus {corpus.name}: its "
            f"{quantity(len(measurable), 'queries')} hang "
            "together by shared positives. Give a dev split of your own as qrels/dev.tsv."
        )
    dev = {query: grades for query, grades in judged.items() if query in chosen}
    rest = {query: grades for query, grades in judged.items() if query not in chosen}
    return replace(corpus, qrels={**corpus.qrels, split: rest, "dev": dev})


def repeated_queries(corpus: Corpus) -> dict[str, dict[str, list[str]]]:
    """Texts (one case, single spaces) that are in two splits or more: text -> split -> query ids."""
    by_text: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for split in corpus.qrels:
        rows = corpus.split_rows(split)
        for row, text in zip(rows, corpus.query_texts(rows), strict=True):
            by_text[normalised(text)][split].append(corpus.query_ids[row])
    return {text: dict(splits) for text, splits in by_text.items() if len(splits) > 1}


def training_queries(corpus: Corpus, split: str = "train", exclude: Collection[str] | None = None) -> list[int]:
    """Rows of the queries of `split`, without those whose text is in a split of `exclude` (None: any other)."""
    require_split(corpus, split)
    others = [name for name in corpus.qrels if name != split and (exclude is None or name in exclude)]
    seen_rows = sorted({row for name in others for row in corpus.split_rows(name)})
    seen = {normalised(text) for text in corpus.query_texts(seen_rows)}
    rows = corpus.split_rows(split)
    return [row for row, text in zip(rows, corpus.query_texts(rows), strict=True) if normalised(text) not in seen]


def cut_queries(corpus: Corpus, kept: Set[str]) -> Corpus:
    """The corpus with the queries of these ids alone, in their order, and with their judgements."""
    rows = (row for row in table_rows(corpus.queries) if row[0] in kept)
    judged = {
        s: {query: grades for query, grades in qrels.items() if query in kept} for s, qrels in corpus.qrels.items()
    }
    return replace(corpus, queries=query_table(rows), qrels={split: qrels for split, qrels in judged.items() if qrels})


def left_out(corpus: Corpus, kept: Set[str]) -> Dataset:
    """The table of the queries that `cut_queries` leaves out."""
    return query_table(row for row in table_rows(corpus.queries) if row[0] not in kept)


def _positives(judged: Mapping[str, int]) -> list[str]:
    return [document for document, grade in judged.items() if grade > 0]


def _groups(corpus: Corpus, judged: Qrels) -> list[list[str]]:
    """Queries of `judged`, grouped by the positives and texts that they share (union-find)."""
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    rows = [corpus.query_row[query] for query in judged]
    for query, text in zip(judged, corpus.query_texts(rows), strict=True):
        links: list[Hashable] = [("document", document) for document in _positives(judged[query])]
        for link in [*links, ("text", normalised(text))]:
            parent[root(link)] = root(("query", query))
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for query in judged:
        groups[root(("query", query))].append(query)
    return list(groups.values())


def _choose(groups: list[list[str]], seed: int, wanted: int) -> set[str]:
    """Queries of whole groups, `wanted` at most, but never no group or all groups. Empty where there is only one."""
    if len(groups) < 2:
        return set()
    ordered = sorted(groups, key=lambda queries: min(hash_rank(seed, query) for query in queries))
    chosen: list[list[str]] = []
    taken = 0
    for group in ordered:
        if taken + len(group) <= wanted and len(chosen) < len(groups) - 1:
            chosen.append(group)
            taken += len(group)
    return {query for group in chosen or [min(ordered, key=len)] for query in group}
