"""A run, from its corpus to measured systems: this file alone knows in which order stages run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from sdretrieval.config.conflicts import by_probe, learns_labels, probes
from sdretrieval.errors import MissingScores, WorkError
from sdretrieval.evaluation.gate import MERGE_SHARES
from sdretrieval.stages.corpus import collect, generates, require_for_control
from sdretrieval.stages.encode import Vectors, encode_query_removed, encode_student
from sdretrieval.stages.evaluate import (
    System,
    measure_bm25,
    measure_hybrid,
    measure_split,
    measure_student,
    measure_teacher,
)
from sdretrieval.stages.gate import KEPT_OLD, Decision, Generation, gate, say_if_undecidable
from sdretrieval.stages.index import index_vectors
from sdretrieval.stages.lexical import index_words
from sdretrieval.stages.merge import merge
from sdretrieval.stages.mine import mine
from sdretrieval.stages.precision import say_formats
from sdretrieval.stages.probe import probe
from sdretrieval.stages.queries import consistent_queries, with_verdicts
from sdretrieval.stages.results import Base, Final, Results
from sdretrieval.stages.run import Run, Weights
from sdretrieval.stages.score import score
from sdretrieval.stages.targets import MixtureWeights, temper
from sdretrieval.stages.teachers import takes_scores_from_files, teacher_vectors
from sdretrieval.stages.tokens import tokenize_texts
from sdretrieval.stages.train import train
from sdretrieval.stages.training_inputs import Objective, TrainingInputs
from sdretrieval.store.runner import Artifact

logger = logging.getLogger("sdretrieval")


def loop(run: Run) -> Results:
    """Everything up to the measured systems. Raises Stopped if the runner was told to stop at a stage."""
    cfg, base = run.config, prepare(run)
    if "hard_labels" in cfg.evaluate.controls:  # the corpus may have been made for a run without the control
        run.runner.after(base.collected.made, lambda: require_for_control(cfg, base.collected.corpus))
    from_files = takes_scores_from_files(cfg)

    bm25 = measure_bm25(run, base.collection, base.lexical)
    before = measure_student(run, base.collection, "1", "student_0", "the base student", base.vectors)
    hybrid = measure_hybrid(run, base.collection, "1", "hybrid_0", "base student + BM25, even mix", bm25, before)
    results = Results(run, base, mixture_weights(base), [bm25, before, hybrid])
    if not from_files:
        results.systems.append(measure_base_teacher(results))

    results.probe = probe_if_wanted(base)
    student, objective = run.base, objective_of(results)
    for number in range(1, cfg.generations + 1):
        if objective is None or would_repeat(results, number):
            break
        student = generation(results, number, student, objective)
    for control in cfg.evaluate.controls:  # asked for: they are trained whatever became of the generations
        try:
            results.systems.append(measure_control(results, control))
        except WorkError as problem:
            if objective == "teacher":
                raise
            logger.warning("the control %s is left out, its teacher says nothing: %s", control, problem)

    if from_files:  # late: the file may be made from what generation 1 mined
        results.systems += base_teacher_if_known(results)
    vectors = encode(base, "final/encode", student)
    undecided = any(one.decision == "undecided" for one in results.generations)
    described = "the base student: dev is too small to decide" if undecided else "what was accepted"
    final = measure_student(run, base.collection, "final", "final", described, vectors)
    fused = measure_hybrid(run, base.collection, "final", "hybrid_final", "final student + BM25, even mix", bm25, final)
    results.systems += [final, fused]
    results.systems.sort(key=lambda system: system.place)
    results.final = Final(student, vectors, index_vectors(run, base.collection, "final/index", vectors))
    return results


def prepare(run: Run) -> Base:
    """The stages that all generations share."""
    collected = collect(run)
    synthetic = generates(run.config)
    # What a person marked wrongly is refused before any work.
    collection = collected if synthetic else with_verdicts(run, collected)
    tokens = tokenize_texts(run, collected, run.base.key, lambda: run.student(run.base.student))
    run.runner.say(lambda: say_formats(run))
    lexical = index_words(run, collected)
    vectors = encode_student(run, collected, tokens, "1/encode", run.base)
    if synthetic:
        collection = with_verdicts(run, consistent_queries(run, collected, vectors, lexical))
    run.runner.say(lambda: say_if_undecidable(collection))
    index = index_vectors(run, collection, "1/index", vectors)
    return Base(run, collected, collection, tokens, lexical, vectors, index)


def encode(base: Base, address: str, student: Weights) -> Vectors:
    """A student's vectors under its own view."""
    return encode_student(base.run, base.collected, base.tokens, address, student)


def base_teacher_vectors(base: Base) -> Mapping[int, Vectors]:
    """What the members compare in the first generation, when the student is the base."""
    return teacher_vectors(base.run, base.collected, base.tokens, 1, base.run.base, base.vectors)


def probe_base(base: Base, *, write_gaps: bool = True) -> Artifact:
    """The configured teachers and their mixtures against the base student, on dev."""
    teachers = base_teacher_vectors(base)
    return probe(base.run, base.collection, base.lexical, base.vectors, base.index, teachers, write_gaps=write_gaps)


def probe_if_wanted(base: Base) -> Artifact | None:
    """The probe, if it chooses the weights or guards the training; None too if it cannot know, since the teacher's file
    of scores lacks the pairs of dev."""
    cfg = base.run.config
    if not probes(cfg):
        return None
    if by_probe(cfg):
        return probe_base(base)
    if takes_scores_from_files(cfg):
        mine_base(base)  # first: the file may be made from these lists
    try:
        return probe_base(base, write_gaps=False)
    except MissingScores as lack:
        logger.warning(
            "nobody can say before training whether the teacher is better than the student: %s. `sdretrieval score "
            "CONFIG --pairs FILE` writes the pairs that the probe needs; probe.guard: false leaves it out",
            str(lack).removesuffix("."),
        )  # fmt: skip
        return None


def mixture_weights(base: Base) -> MixtureWeights:
    """The config's numbers, or the probe's choice."""
    config = base.run.config
    return MixtureWeights(config, probe_base(base) if by_probe(config) else None)


def mine_base(base: Base) -> Artifact:
    """The first generation's lists."""
    return mine(base.run, base.collection, base.lexical, "1/mine", base.vectors, base.index)


def score_base(base: Base, mined: Artifact) -> Artifact:
    """The members' scores of the first generation's lists."""
    return score(base.run, base.collection, base.lexical, "1/score", mined, base_teacher_vectors(base))


def objective_of(results: Results) -> Objective | None:
    """What generations learn from: the teacher; labels alone if it knows no more than the student and the config asks
    for labels too; else nothing, nor if dev is too small to tell, since the gate could not either.

    The probe says what the teacher knows; without `probe.guard` it is not asked.
    """
    config, say = results.run.config, results.run.runner.say
    if results.probe is None or not config.probe.guard:
        return "teacher"
    result = results.run.runner.result(results.probe, "probe.json", {"train": True, "doubts": []})
    for doubt in result["doubts"]:
        say(partial(logger.warning, "the probe's estimate is not to be trusted: %s", doubt))
    if result["train"]:
        return "teacher"
    mark = " (an estimate: dev queries were made from documents)" if result["estimate"] else ""
    labels = learns_labels(config) and result["decided"]
    what = "so it learns from labels alone (train.hard_label_weight)" if labels else "so nothing is trained"
    say(
        lambda: logger.warning(
            "nothing to learn from this teacher, %s%s: %s To train all the same, set probe.guard: false",
            what, mark, result["reason"],
        )
    )  # fmt: skip
    return "hard" if labels else None


def would_repeat(results: Results, number: int) -> bool:
    """Whether the last generation was not accepted and this one would train the same student from the same lists, or
    one that dev could not judge either."""
    epochs_of, last = results.run.config.train.epochs_of, results.generations[-1] if results.generations else None
    if last is None or last.decision not in KEPT_OLD:
        return False
    if last.decision == "rejected" and epochs_of(number) != epochs_of(last.number):
        return False
    refused = last.number
    results.run.runner.say(
        lambda: logger.info("generation %d is not run: it would train what was not accepted in %d", number, refused)
    )
    return True


def generation(results: Results, number: int, student: Weights, objective: Objective) -> Weights:
    """One generation; returns the student to go on with: the candidate, a mixture with the old one, or the old one."""
    base, run, weights = results.base, results.run, results.weights
    collection, vectors = base.collection, encode(base, f"{number}/encode", student)
    index = index_vectors(run, collection, f"{number}/index", vectors)
    mined = mine(run, collection, base.lexical, f"{number}/mine", vectors, index)
    inputs = TrainingInputs(mined)
    if objective == "teacher":
        teachers = teacher_vectors(run, base.collected, base.tokens, number, student, vectors)
        scores = score(run, collection, base.lexical, f"{number}/score", mined, teachers)
        targets = temper(run, collection, f"{number}/targets", mined, scores, weights)
        turned_to = vectors if run.config.train.loss == "embedding" else None
        inputs = TrainingInputs(mined, targets, scores, teachers, turned_to)
    epochs = run.config.train.epochs_of(number)
    new = train_student(base, f"{number}/train", student, inputs, weights, objective, epochs)

    new_vectors = encode(base, f"{number + 1}/encode", new)
    described = f"after generation {number}, before the gate"
    system = measure_student(run, collection, f"{number + 1}", f"generation_{number}", described, new_vectors)
    results.systems.append(system)
    old_dev = measure_split(run, collection, f"{number}", "dev", vectors, index)
    decision = gate(run, collection, f"{number}/gate", old_dev, system.runs["dev"], weights)
    outcome: Decision = "accepted" if decision["accepted"] else "rejected" if decision["decided"] else "undecided"
    kept = new if decision["accepted"] else student
    for share in MERGE_SHARES if outcome == "rejected" else ():
        merged = merge(run, f"{number}/merge:{share}", student, new, share)
        merged_vectors = encode(base, f"{number}m{share}/encode", merged)
        merged_index = index_vectors(run, collection, f"{number}m{share}/index", merged_vectors)
        dev = measure_split(run, collection, f"{number}m{share}", "dev", merged_vectors, merged_index)
        tried = gate(run, collection, f"{number}m{share}/gate", old_dev, dev, weights, mixture=True)
        if tried["accepted"]:
            kept, outcome, decision = merged, "merged", {**tried, "share": share, "unmerged": decision}
            break
    reason = decision["reason"]
    run.runner.say(lambda: logger.info("generation %d: %s", number, reason))
    results.generations.append(Generation(number, outcome, decision, kept, mined, inputs.scores, inputs.targets))
    return kept


def train_student(
    base: Base, address: str, start: Weights, inputs: TrainingInputs, weights: MixtureWeights, objective: Objective,
    epochs: float,
) -> Weights:  # fmt: skip
    """A training of this run. If only queries learn, documents come as the base student's vectors."""
    run, query_removed = base.run, None
    cfg = run.config.corpus
    if run.learns_queries_only and cfg.generated_queries:
        query_removed = encode_query_removed(run, base.tokens)
    kept = (base.vectors, query_removed) if run.learns_queries_only else (None, None)
    return train(
        run, base.collection, base.tokens, base.lexical, address, start, inputs, weights, objective, epochs, kept
    )


def measure_base_teacher(results: Results) -> System:
    """The teacher reranking the base student's own top documents."""
    base, teachers = results.base, base_teacher_vectors(results.base)
    return measure_teacher(base.run, base.collection, base.lexical, base.vectors, base.index, teachers, results.weights)


def base_teacher_if_known(results: Results) -> list[System]:
    """The same of a teacher whose scores come from a file. It seldom holds the pairs of dev and test; then the report
    goes without this row."""
    try:
        return [measure_base_teacher(results)]
    except MissingScores as lack:
        logger.warning(
            "the report has no row teacher@student_0 (the teacher reranking the base student on %s): %s. "
            "`sdretrieval score CONFIG --pairs FILE --teacher-row` writes all pairs that it needs",
            " and ".join(results.run.splits), str(lack).removesuffix("."),
        )  # fmt: skip
        return []


def measure_control(results: Results, control: str) -> System:
    """As many updates as the final student has had, from the base, on the first generation's lists.

    `hard_labels`: on known positives alone. `shuffled_teacher`: with the teacher's scores shuffled.
    """
    base, run, cfg = results.base, results.run, results.run.config
    mined = mine_base(base)
    objective: Objective = "hard" if control == "hard_labels" else "shuffled"
    if control == "hard_labels":
        inputs, text = TrainingInputs(mined), "equal updates on known positives, no teacher"
        if not cfg.corpus.labels:  # the control alone reads the train judgements
            labelled = mine(
                run, base.collection, base.lexical, "1/mine:labelled", base.vectors, base.index, labelled_only=True
            )
            inputs = TrainingInputs(labelled, as_many_updates_as=mined)
    else:
        text = "equal updates, teacher shuffled"
        scores = score_base(base, mined)
        targets = temper(run, base.collection, "1/targets:shuffled", mined, scores, results.weights, shuffled=True)
        turned_to = base.vectors if cfg.train.loss == "embedding" else None
        inputs = TrainingInputs(mined, targets, scores, base_teacher_vectors(base), turned_to)
    # Of all generations that were not refused; of the first, if all were, or if none was run.
    kept = [one.number for one in results.generations if one.decision not in KEPT_OLD]
    epochs = sum(cfg.train.epochs_of(number) for number in kept) or cfg.train.epochs_of(1)
    student = train_student(base, f"1/train:{control}", run.base, inputs, results.weights, objective, epochs)
    return measure_student(run, base.collection, control, control, text, encode(base, f"{control}/encode", student))
