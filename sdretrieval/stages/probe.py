"""Stage 0/probe: has any configured teacher, or mixture, headroom over the student on the student's own candidates?

On a dev that nobody judged, what BM25 adds to the student is predicted, from queries that people asked or, without any,
from what it added on other collections. This says whether to train. The mixture with the highest predicted gain
teaches, of those whose worst case is no loss that matters. If no query is known, the even mixture does, unless
synthetic dev queries say that another, which is worth a training by the prediction, is significantly better. For other
teachers these decide alone.

It scores each dev query's own top documents (the student's and BM25's), reranks them by every mixture of a coarse grid
and by the config's own, and compares with the student's order by the run's measure. A teacher that is no better must
not teach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from sdretrieval.config import Config, LexicalConfig, identity_fields, members_of
from sdretrieval.config.conflicts import by_probe, follows, is_harmless, studied
from sdretrieval.corpus.text import hash_rank
from sdretrieval.evaluation import Run as TrecRun
from sdretrieval.evaluation import evaluate, holm, paired_test
from sdretrieval.evaluation.gate import ENOUGH, decide
from sdretrieval.evaluation.prediction import MATTERS, MEASURE, Prediction, Signals, predict, unlike
from sdretrieval.evaluation.significance import ALPHA
from sdretrieval.files import write_json
from sdretrieval.formatting import quantity
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.index import open_index
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.queries import observe
from sdretrieval.stages.run import Run
from sdretrieval.stages.score import score_lists
from sdretrieval.stages.search import dense_hits, dense_query_removed, lexical_hits
from sdretrieval.stages.teachers import Made, member_identities
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.synthetic_queries.trust import doubts
from sdretrieval.targets.calibrate import mix
from sdretrieval.teachers.ensemble import TeacherScores

Weights = tuple[float, ...]
"""Of each member, in the config's order."""
STEPS = 4
"""Weights are multiples of a quarter: finer steps would fit dev's noise."""
STRONG = 0.9
"""The one weight beyond: of BM25 beside another member, on the absolute scale, where its unit is small."""


def probe(
    run: Run, collection: Collection, lexical: Lexical, vectors: Vectors, index: Artifact,
    made: Made, *, address: str = "0/probe", most: int | None = None, write_gaps: bool = True,
) -> Artifact:  # fmt: skip
    """The configured teachers and their mixtures against the base student, on dev.

    With numbers as weights it judges the config's mixture; with `weight: auto` it chooses one. `most`: a sample of so
    many dev queries; None: all of them. `write_gaps` and what it raises: see `score_lists`.
    """
    config = run.config
    weights = None if by_probe(config) else [float(member.weight) for member in members_of(config.teacher)]
    members, mixtures = member_identities(config), mixtures_of(config)

    def build(work: Work) -> None:
        rows, lists = sampled(collection, *probe_pool(run, collection, lexical, vectors, index), most, config.seed)
        own = np.empty(len(lists.values_T), dtype=np.float32)  # the student's own scores of listed documents, flat
        for q, row in enumerate(rows):
            span = slice(lists.offsets[q], lists.offsets[q + 1])
            own[span] = np.asarray(vectors.documents.vectors_WD[lists[q]]) @ vectors.queries_QD[row]
        student = dense_query_removed(collection, "dev", vectors).correct(rows, lists, lists.with_values(own))
        _, scores = score_lists(run, collection, lexical, made, rows, lists, members, "dev", write_gaps=write_gaps)
        gate, seen = config.gate, predictable(run, collection)
        if seen and seen[0] and run.pretrained is not None:  # what could be seen of the base is past
            seen = observe(collection, vectors.plain, lexical, run.student(run.base.student)), seen[1]
        # Judged queries choose the best; synthetic ones do not know enough.
        usual = even(len(members)) if is_harmless(config) and collection.kinds("dev") is not None else None
        beside_half = config.student.lexical_half is not None
        if seen and beside_half and not follows(config):
            # What BM25 adds to the transformer is predicted, and so the best teacher; but the half has much of it.
            usual = with_care(mixtures, *seen) if seen[0] else usual
            seen = None
        build_probe(
            work, collection, rows, lists, scores, student, mixtures, weights, gate.measure, gate.tolerance,
            config.seed, usual, seen, beside_half=beside_half,
        )  # fmt: skip

    identity = {
        "members": members,
        "calibrate": config.targets.calibrate,
        "depth": config.evaluate.teacher_depth,
        "lexical": config.mine.lexical,
        "weights": weights,
        "gate": identity_fields(config.gate, without={"guard"}),
        "seed": config.seed,
    }
    if most is not None:
        identity["most"] = most
    inputs = [vectors, index, lexical, collection.judged, *made.values()]
    return run.runner.stage(address, 9, identity, inputs, build)


def sampled(
    collection: Collection, query_rows: Array, lists: Ragged, most: int | None, seed: int
) -> tuple[Array, Ragged]:
    """At most so many queries, and their lists: the same ones at each call."""
    if most is None or len(query_rows) <= most:
        return query_rows, lists
    ids = collection.corpus.query_ids
    chosen = sorted(range(len(query_rows)), key=lambda q: hash_rank(seed, ids[query_rows[q]]))[:most]
    return query_rows[chosen], Ragged.of([lists[q] for q in chosen], np.int64)


def predictable(run: Run, collection: Collection) -> tuple[Signals | None, int] | None:
    """The signals of the example queries (None without any), and which member is BM25, if the config's teacher is what
    the prediction was learned on: the student and BM25 on the absolute scale, by nDCG@10, on a dev that nobody has
    judged."""
    words = studied(run.config)
    if words is None or not collection.cosines or collection.kinds("dev") is None or collection.judge:
        return None
    return collection.signals, words


def probe_pool(
    run: Run, collection: Collection, lexical: Lexical, vectors: Vectors, index: Artifact
) -> tuple[Array, Ragged]:
    """Rows of the dev queries, and the documents of each that the probe asks the teachers about."""
    rows, depth = collection.rows_of("dev"), run.config.evaluate.teacher_depth
    dense = dense_hits(collection, "dev", vectors, open_index(run, index), depth)
    words = lexical_hits(collection, "dev", lexical.index, depth).rows_Qk if run.config.mine.lexical else None
    return rows, pool_lists(dense.rows_Qk, words, collection.own_documents(rows))


def rerank_pool(
    run: Run, collection: Collection, split: str, vectors: Vectors, index: Artifact
) -> tuple[Array, Ragged]:
    """Rows of a split's queries, and the base student's top documents, which the teacher reranks in the report."""
    rows, depth = collection.rows_of(split), run.config.evaluate.teacher_depth
    hits = dense_hits(collection, split, vectors, open_index(run, index), depth)
    return rows, pool_lists(hits.rows_Qk, None, collection.own_documents(rows))


def mixtures_of(config: Config) -> list[Weights]:
    """The weights that the probe tries. On the absolute scale the even mixture is one of them, even of three members,
    and, if somebody judged dev, so is `STRONG` of BM25 beside each other member."""
    members = members_of(config.teacher)
    found = dict.fromkeys(weight_grid(len(members)))
    if is_harmless(config):
        found[even(len(members))] = None
    words = [n for n, member in enumerate(members) if isinstance(member, LexicalConfig)]
    if is_harmless(config) and config.corpus.labels and words:
        for other in set(range(len(members))) - {words[0]}:
            strong = {words[0]: STRONG, other: round(1 - STRONG, 2)}
            found[tuple(strong.get(n, 0.0) for n in range(len(members)))] = None
    return list(found)


def even(members: int) -> Weights:
    """All alike."""
    return (1 / members,) * members


def weight_grid(members: int) -> Iterator[Weights]:
    """All weights in quarters that sum to 1; single members first, then mixtures from even to uneven."""
    grid = [w for w in product(range(STEPS + 1), repeat=members) if sum(w) == STEPS]
    for weights in sorted(grid, key=lambda w: (sum(x > 0 for x in w), max(w), w)):
        yield tuple(weight / STEPS for weight in weights)


def pool_lists(rows_Qk: Array, lexical_Qk: Array | None, own_Q: Array) -> Ragged:
    """Each query's documents to rerank: the student's top and BM25's, each once, the query's own document left out."""
    lists = []
    for q in range(len(rows_Qk)):
        pool = rows_Qk[q] if lexical_Qk is None else np.concatenate([rows_Qk[q], lexical_Qk[q]])
        keep = pool[(pool >= 0) & (pool != own_Q[q])]
        lists.append(keep[np.sort(np.unique(keep, return_index=True)[1])])
    return Ragged.of(lists, np.int64)


def rerank_run(collection: Collection, query_rows: Array, lists: Ragged, scores: Ragged) -> TrecRun:
    """Scored lists as a run."""
    corpus = collection.corpus
    return {
        corpus.query_ids[row]: {
            corpus.document_ids[d]: float(s) for d, s in zip(lists[q].tolist(), scores[q].tolist(), strict=True)
        }
        for q, row in enumerate(query_rows.tolist())
    }


def with_rest(reranked: TrecRun, whole: TrecRun) -> TrecRun:
    """`reranked`, and below it the documents that only `whole` has, in its order: as a reranker is used."""
    out: TrecRun = {}
    for query, hits in whole.items():
        top = reranked.get(query, {})
        lowest = min(top.values(), default=0.0)
        rest = [d for d, _ in sorted(hits.items(), key=lambda hit: (-hit[1], hit[0])) if d not in top]
        out[query] = {**top, **{d: lowest - 1.0 - rank for rank, d in enumerate(rest)}}
    return out


def build_probe(
    work: Work, collection: Collection, query_rows: Array, lists: Ragged, scores: TeacherScores, student: Ragged,
    mixtures: Sequence[Weights], weights: Sequence[float] | None, measure: str, tolerance: float, seed: int,
    default: Weights | None = None, seen: tuple[Signals | None, int] | None = None, *, beside_half: bool = False,
) -> None:  # fmt: skip
    """`probe.json`: every mixture's measure, its difference to the student with interval and p, and the choice.

    `weights`: of the one mixture that may teach; None: the best of `mixtures`. `default`: those of a mixture that is
    taken unless another one is significantly better. `seen`: see `predictable`; then a prediction says whether to
    train. `beside_half`: the student has a lexical half, the prediction is about one without.
    """
    asked = [collection.corpus.query_ids[row] for row in query_rows.tolist()]
    qrels = {query: collection.corpus.qrels["dev"][query] for query in asked}
    calibrated = scores.calibrated()

    def measured(values: Ragged) -> dict[str, float]:
        return dict(evaluate(qrels, rerank_run(collection, query_rows, lists, values), [measure]).of(measure))

    base = measured(student)
    rows: list[dict[str, Any]] = []
    tried: dict[Weights, dict[str, float]] = {}
    kinds = collection.kinds("dev")
    configured = tuple(weight / sum(weights) for weight in weights) if weights else None
    for mixture in dict.fromkeys([*mixtures, *([configured] if configured else [])]):
        values = measured(mix(calibrated, mixture))
        test = paired_test(values, base, seed)
        rows.append(_row(scores, mixture, values, test, measure))
        if seen:
            rows[-1]["predicted"] = predict(seen[0], mixture[seen[1]]).gain
        tried[mixture] = values
    predicted = {one: predict(seen[0], one[seen[1]]) for one in tried} if seen else {}
    if configured:
        chosen = configured
    elif seen and seen[0]:
        chosen = with_care(tried, *seen)
    else:
        # Not one, such as BM25 alone, that other collections say is not worth a training.
        worth = {one: values for one, values in tried.items() if not seen or predicted[one].gain >= MATTERS}
        chosen = choose(base, worth, kinds or {}, default, seed)
    looks = 1 if configured else len(tried)
    verdict = decide(base, tried[chosen], tolerance, seed, looks=looks, kinds=kinds)
    if seen and seen[0]:
        doubted = unlike(seen[0])
    else:
        doubted = doubts(collection.realism, by_kind(base, tried[chosen], kinds or {}))
    record = {
        "measure": measure,
        "student": float(np.mean(list(base.values()))),
        "members": [{"name": m.name, "asymmetry": m.asymmetry} for m in scores.members],
        "rows": sorted(rows, key=lambda row: -row["difference"]),
        "weights": list(chosen),
        "chosen": configured is None,
        "train": predicted[chosen].gain >= MATTERS if predicted else verdict.accepted,
        "decided": verdict.decided or bool(predicted),
        "reason": predicted_reason(predicted[chosen], beside_half) if predicted else verdict.reason,
        "predicted": predicted[chosen].record() if predicted else None,
        "estimate": bool(collection.notes["estimate"]),
        "judge": collection.judge,
        "n_queries": len(base),
        "doubts": list(doubted),
    }
    write_json(work.folder / "probe.json", record)
    work.counts.update(queries=len(base), mixtures=len(rows))


def with_care(mixtures: Iterable[Weights], found: Signals | None, words: int) -> Weights:
    """The weights with the highest predicted gain, of those whose worst case is no loss that matters. `words`: which
    member is BM25."""
    predicted = {one: predict(found, one[words]) for one in mixtures}
    return max((one for one in predicted if predicted[one].low >= -MATTERS), key=lambda one: predicted[one].gain)


def predicted_reason(found: Prediction, beside_half: bool = False) -> str:
    """In a sentence. `beside_half`: see `build_probe`."""
    enough = "" if found.gain >= MATTERS else f", below the {MATTERS:g} that are worth a training"
    how = f"predicted from {quantity(found.queries, 'queries')} that people asked,"
    if not found.queries:
        how = "on average of other collections (twenty example queries would tell of this one: corpus.example_queries),"
    over = " over the student without its lexical half, which has part of that already" if beside_half else ""
    return f"its gain in {MEASURE}{over}, {how} is {found.gain:+.4f} ({found.low:+.4f} to {found.high:+.4f}){enough}."


def choose(
    base: Mapping[str, float], tried: Mapping[Weights, Mapping[str, float]], kinds: Mapping[str, str],
    default: Weights | None, seed: int,
) -> Weights:  # fmt: skip
    """The best mixture, of those that no kind of synthetic query punishes; `default`, if it was tried, unless the best
    is significantly better. Values by query, `kinds` of the queries."""
    fair = [one for one in tried if min(by_kind(base, tried[one], kinds).values(), default=0.0) >= 0] or list(tried)
    best = max(fair, key=lambda one: sum(tried[one].values()))
    if default is None or default not in tried:
        return best
    test = paired_test(tried[best], tried[default], seed)
    return best if test.difference > 0 and test.p < ALPHA else default


def by_kind(base: Mapping[str, float], values: Mapping[str, float], kinds: Mapping[str, str]) -> dict[str, float]:
    """The mean difference of two systems by kind of synthetic query, of kinds with 20 queries."""
    found = defaultdict[str, list[float]](list)
    for query, value in values.items():
        if query in kinds:
            found[kinds[query]].append(value - base[query])
    return {kind: float(np.mean(some)) for kind, some in found.items() if len(some) >= ENOUGH}


def with_holm(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `probe.json` with p adjusted by Holm over them: of many mixtures, some look better by chance.

    Not written by `build_probe`: it follows from the rows, and targets are made again wherever the probe is.
    """
    adjusted = holm([row["p"] for row in rows])
    return [{**row, "p_holm": p_holm} for row, p_holm in zip(rows, adjusted, strict=True)]


def _row(
    scores: TeacherScores, weights: Sequence[float], values: dict[str, float], test: Any, measure: str
) -> dict[str, Any]:
    parts = [f"{w:.3g} {m.name}" for w, m in zip(weights, scores.members, strict=True) if w > 0]
    return {
        "teacher": " + ".join(parts) if len(parts) > 1 else parts[0].split(" ", 1)[1],
        "weights": list(weights),
        "measure": measure,
        "value": float(np.mean(list(values.values()))),
        "difference": test.difference,
        "interval95": list(test.interval95),
        "p": test.p,
    }
