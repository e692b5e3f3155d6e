"""`corpus check`: what a corpus holds and what is wrong with it, before hours are spent on it.

Legend: N documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.corpus.language import ENGLISH, LETTERS_PER_TEXT, Language, detect, sample_step
from sdretrieval.corpus.read.documents.blocks import word_count
from sdretrieval.corpus.splits import (
    NOT_COMPARABLE,
    Dangling,
    own_positive_warning,
    own_positives,
    part_dangling,
    repeated_queries,
)
from sdretrieval.corpus.text import LIST_AT_MOST, Findings, normalised
from sdretrieval.corpus.types import Corpus
from sdretrieval.formatting import quantity

CountTokens = Callable[[list[str]], "NDArray[np.int64]"]
TEXTS_A_BATCH = 1000
LARGELY_CUT = 0.2
"""A view that cuts more than this share of the documents is worth a warning."""


@dataclass(frozen=True)
class LongDocument:
    """A document's id and length, and how much of it each view shows (both in the lengths' unit)."""

    identifier: str
    length: int
    seen: Mapping[str, int]


def share_seen(lengths_N: NDArray[np.int64], most: int) -> float:
    """Share (0 to 1) of all documents' tokens that a view of the first `most` shows; 1 where there are none."""
    total = int(lengths_N.sum())
    return float(np.minimum(lengths_N, most).sum() / total) if total else 1.0


def longest_cut(
    identifiers: Sequence[str], lengths_N: NDArray[np.int64], views: Mapping[str, int]
) -> tuple[LongDocument, ...]:
    """The longest documents, longest first, that the shortest of `views` (most tokens by name) cuts."""
    shortest = min(views.values(), default=None)
    if shortest is None:
        return ()
    order = np.argsort(-lengths_N, kind="stable")[:LIST_AT_MOST]
    return tuple(
        LongDocument(identifiers[row], int(lengths_N[row]), {v: min(int(lengths_N[row]), m) for v, m in views.items()})
        for row in order.tolist()
        if lengths_N[row] > shortest
    )


def seen_line(view: str, unit: str, share: float, longest: Sequence[LongDocument]) -> str:
    """One line for a person: what the view of that name shows of all documents, and of the longest."""
    named = ", ".join(f"{one.identifier} {one.length:,} ({one.seen[view] / one.length:.1%} seen)" for one in longest)
    return f"view {view} sees {share:.1%} of all {unit}" + (f"; the longest documents: {named}" if named else "")


@dataclass(frozen=True)
class Lengths:
    """Median, 90th percentile and maximum of the lengths of some texts."""

    median: float
    p90: float
    longest: int


@dataclass(frozen=True)
class SplitCounts:
    """Judged queries, those with a positive, and the positives of a split."""

    queries: int
    with_positive: int
    positives: int


@dataclass(frozen=True)
class CorpusCheck:
    """What `check_corpus` found. `unit` is that of all lengths: tokens, or words where no tokenizer was given."""

    name: str
    digest: str
    documents: int
    queries: int
    splits: Mapping[str, SplitCounts]
    unit: str
    document_lengths: Lengths
    query_lengths: Lengths
    cut_by_view: Mapping[str, float]
    """View -> share of the documents that are longer than it (0 to 1)."""
    seen_by_view: Mapping[str, float]
    """View -> share of all documents' tokens that it shows (0 to 1)."""
    longest: tuple[LongDocument, ...]
    """The longest documents that a view cuts."""
    language: Language
    duplicates: Findings
    """Documents whose text (title and text, one case, single spaces) was in an earlier document."""
    empty_documents: Findings
    empty_queries: Findings
    dangling: Findings
    """Judgements whose query or document does not exist."""
    repeated_pairs: Findings
    """Pairs that are judged more than once: the last judgement counts."""
    repeated: Findings
    """Query texts that are in two splits or more."""
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The findings for a person to read, one line each, the warnings last."""
        splits = (
            ", ".join(f"{s} {c.queries:,} ({quantity(c.positives, 'positives')})" for s, c in self.splits.items())
            or "none"
        )
        cut = ", ".join(f"{view} cuts {share:.1%}" for view, share in self.cut_by_view.items())
        findings = {
            "documents that repeat an earlier one": self.duplicates,
            "empty documents": self.empty_documents,
            "empty queries": self.empty_queries,
            "judgements that point nowhere": self.dangling,
            "pairs judged more than once": self.repeated_pairs,
            "query texts in two splits or more": self.repeated,
        }
        return [
            f"{self.name}: {quantity(self.documents, 'documents')}, {quantity(self.queries, 'queries')}; "
            f"digest {self.digest}",
            f"judged queries by split: {splits}",
            f"document length in {self.unit}: {_described(self.document_lengths)}" + (f"; {cut}" if cut else ""),
            *(
                seen_line(view, self.unit, share, [one for one in self.longest if one.seen[view] < one.length])
                for view, share in self.seen_by_view.items()
            ),
            f"query length in {self.unit}: {_described(self.query_lengths)}",
            self.language.line(),
            *(
                f"{what}: {finding.count:,}" + (f" (e.g. {'; '.join(finding.examples)})" if finding.count else "")
                for what, finding in findings.items()
            ),
            *(f"warning: {warning}" for warning in self.warnings),
        ]


def check_corpus(
    corpus: Corpus,
    count_tokens: CountTokens | None = None,
    views: Mapping[str, int] | None = None,
    dangling: Sequence[Dangling] = (),
    repeated_pairs: Sequence[str] = (),
) -> CorpusCheck:
    """Examine `corpus`, reading its texts once, batch by batch.

    `count_tokens` gives the lengths of texts in the student's tokens (None: words are counted). `views` holds the
    most tokens of each view by name. `dangling` are judgements that were left out while reading, see
    `dangling_judgements`; those in `corpus.qrels` itself are found here. `repeated_pairs`: see `repeated_judgements`.
    """
    count = count_tokens or (lambda texts: np.array([word_count(text) for text in texts], dtype=np.int64))
    survey, views = _survey_documents(corpus, count), views or {}
    language = detect(survey.beginnings)
    all_dangling = [*dangling, *part_dangling(corpus.qrels, corpus.document_row, corpus.query_row).dangling]
    splits = {}
    for split, qrels in corpus.qrels.items():
        positives = [sum(grade > 0 for grade in judged.values()) for judged in qrels.values()]
        splits[split] = SplitCounts(len(positives), sum(n > 0 for n in positives), sum(positives))
    texts = corpus.query_texts()
    query_lengths = [count(texts[at : at + TEXTS_A_BATCH]) for at in range(0, len(texts), TEXTS_A_BATCH)]
    own = own_positives(corpus.qrels).items()
    cut = {name: float(np.mean(survey.lengths > most)) for name, most in views.items()}
    parts = {
        "duplicates": _findings(survey.duplicates),
        "empty_documents": _findings(survey.empty),
        "empty_queries": _findings([i for i, text in zip(corpus.query_ids, texts, strict=True) if not text.strip()]),
        "dangling": _findings([f"{d.split}: {d.query} -> {d.document} (no such {d.missing})" for d in all_dangling]),
        "repeated_pairs": _findings([*repeated_pairs]),
        "repeated": _findings(
            [f"{text!r} in {', '.join(sorted(where))}" for text, where in repeated_queries(corpus).items()]
        ),
    }
    return CorpusCheck(
        name=corpus.name,
        digest=corpus.digest,
        documents=len(corpus.documents),
        queries=len(corpus.queries),
        splits=splits,
        unit="tokens" if count_tokens else "words",
        document_lengths=_lengths(survey.lengths),
        query_lengths=_lengths(np.concatenate([np.empty(0, np.int64), *query_lengths])),
        cut_by_view=cut,
        seen_by_view={name: share_seen(survey.lengths, most) for name, most in views.items()},
        longest=longest_cut(corpus.document_ids, survey.lengths, views),
        language=language,
        **parts,
        warnings=(
            *_warnings(splits, cut, parts),
            *(own_positive_warning(split, queries, len(corpus.qrels[split])) for split, queries in own),
            *([f"{doubt} (english is the default)"] if (doubt := language.doubt(ENGLISH)) else []),
        ),
    )


@dataclass(frozen=True)
class _Survey:
    lengths: NDArray[np.int64]
    duplicates: list[str]
    empty: list[str]
    beginnings: list[str]


def _survey_documents(corpus: Corpus, count: CountTokens) -> _Survey:
    """One pass over the documents. Of each text only 16 bytes are kept, and some beginnings: a large corpus fits."""
    first_with: dict[bytes, str] = {}
    lengths, duplicates, empty, beginnings = [np.empty(0, np.int64)], [], [], []
    step = sample_step(len(corpus.documents))
    for start in range(0, len(corpus.documents), TEXTS_A_BATCH):
        rows = range(start, min(start + TEXTS_A_BATCH, len(corpus.documents)))
        texts = [*corpus.document_texts(rows)]
        lengths.append(np.asarray(count(texts)))
        beginnings += [text[:LETTERS_PER_TEXT] for row, text in zip(rows, texts, strict=True) if row % step == 0]
        for row, text in zip(rows, texts, strict=True):
            identifier = corpus.document_ids[row]
            key = blake2b(normalised(text).encode("utf8", "surrogatepass"), digest_size=16).digest()
            if not text.strip():
                empty.append(identifier)
            elif first_with.setdefault(key, identifier) != identifier:
                duplicates.append(f"{identifier} = {first_with[key]}")
    return _Survey(np.concatenate(lengths), duplicates, empty, beginnings)


def _lengths(lengths: NDArray[np.int64]) -> Lengths:
    if not len(lengths):
        return Lengths(0.0, 0.0, 0)
    return Lengths(float(np.median(lengths)), float(np.percentile(lengths, 90)), int(lengths.max()))


def _findings(texts: list[str]) -> Findings:
    return Findings(len(texts), tuple(texts[:LIST_AT_MOST]))


def _warnings(
    splits: Mapping[str, SplitCounts], cut: Mapping[str, float], parts: Mapping[str, Findings]
) -> Iterator[str]:
    if not splits:
        yield "no judgements: nothing can be measured but estimates from synthetic queries"
    for split, counts in splits.items():
        if counts.with_positive < counts.queries or not counts.queries:
            without = counts.queries - counts.with_positive
            yield f"split {split}: {without:,} of {quantity(counts.queries, 'queries')} without a positive"
    for view, share in cut.items():
        if share > LARGELY_CUT:
            yield f"view {view} cuts {share:.0%} of the documents: a teacher that sees all of them knows more"
    advice = {
        "duplicates": "documents like an earlier one: identical texts are never used as negatives",
        "empty_documents": "empty documents, which no search can find",
        "empty_queries": "empty queries, to be removed",
        "dangling": f"judgements pointing nowhere, left out: is corpus.jsonl complete? If not, {NOT_COMPARABLE}",
        "repeated_pairs": "pairs judged more than once: the last judgement counts, as in BEIR",
        "repeated": "query texts in two splits, left out of training",
    }
    for kind, text in advice.items():
        if parts[kind].count:
            yield quantity(parts[kind].count, text)


def _described(lengths: Lengths) -> str:
    return f"median {lengths.median:.0f}, p90 {lengths.p90:.0f}, longest {lengths.longest:,}"
