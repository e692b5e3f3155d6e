"""A run, from its corpus to measured systems: this file alone knows in which order stages run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sdretrieval.config import Config, CrossEncoderConfig, EmaConfig, born_again, members_of
from sdretrieval.config.conflicts import by_probe, follows, learns_labels, probes
from sdretrieval.errors import MissingScores, WorkError
from sdretrieval.evaluation.gate import MERGE_SHARES
from sdretrieval.stages.corpus import collect, generates, require_for_control
from sdretrieval.stages.encode import Vectors, encode_query_removed, encode_student
from sdretrieval.stages.evaluate import (
    Hybrids,
    System,
    measure_bm25,
    measure_split,
    measure_student,
    measure_teacher,
)
from sdretrieval.stages.fit_teacher import fit_teachers
from sdretrieval.stages.follow import follow
from sdretrieval.stages.gate import KEPT_OLD, Decision, Generation, gate, say_if_undecidable
from sdretrieval.stages.guard import forgotten, guarded, measure_guard, sample_guard
from sdretrieval.stages.index import index_vectors
from sdretrieval.stages.judge import judge_what_people_judged, with_judged_dev
from sdretrieval.stages.lexical import index_words
from sdretrieval.stages.lexical_half import fit_half, joined
from sdretrieval.stages.merge import merge
from sdretrieval.stages.mine import mine
from sdretrieval.stages.precision import say_formats
from sdretrieval.stages.pretrain import PRETRAINED_SHARE, pretrain
from sdretrieval.stages.probability import fit_probabilities
from sdretrieval.stages.probe import probe
from sdretrieval.stages.queries import consistent_queries, with_verdicts
from sdretrieval.stages.results import Base, Final, Results
from sdretrieval.stages.run import Run, Weights
from sdretrieval.stages.score import score
from sdretrieval.stages.smaller import smaller_students
from sdretrieval.stages.targets import MixtureWeights, temper
from sdretrieval.stages.teachers import Made, takes_scores_from_files, teacher_vectors, vectors_in
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
    first = begins_at(cfg)
    before = measure_student(
        run, base.collection, "student_0" if base.half else first, "student_0", "the base student", base.vectors.plain
    )
    hybrids = Hybrids(run, base.collection, base.lexical, bm25, before, first)
    mixed = [hybrids.absolute("hybrid_0", "base student + BM25"), *map(hybrids.baseline, cfg.evaluate.baselines)]
    systems, pretrained = [bm25, before, *mixed], None
    if base.half is not None:
        text = "the base student with its lexical half, without training"
        systems.append(measure_student(run, base.collection, first, "half_0", text, base.vectors))
    if cfg.pretrain is not None:
        base, system, pretrained = pretrain_base(base)
        systems.append(system)
        run = base.run
    results = Results(run, base, mixture_weights(base), systems, pretrained)
    if not from_files:
        results.systems.append(measure_base_teacher(results))

    results.probe = probe_if_wanted(base)
    objective = objective_of(results)
    trainings(results, objective, bm25)
    if results.final is not None:
        results.smaller = smaller_students(base, results.final)
        results.systems += [one.system for one in results.smaller]
    for repetition in range(1, len(cfg.seeds)):  # everything above is the same for every seed
        repeated = run.repeated(repetition)
        repeat = Results(repeated, replace(base, run=repeated), results.weights, probe=results.probe)
        trainings(repeat, objective, bm25)
        repeated.runner.say_reused()
        results.repeats.append(repeat)
    results.checked = judge_what_people_judged(run, base.collection, base.lexical, base.vectors, base.index)
    if from_files:  # late: the file may be made from what generation 1 mined
        results.systems += base_teacher_if_known(results)
    if base.guard is not None and objective is not None:
        finals = [(one.run, one.final.student) for one in results.seeds if one.final is not None]
        measured = [measure_guard(of, base.guard, "final/guard", student, base.half) for of, student in finals]
        results.forgotten = forgotten(run, base.guard, guard_of_base(base, base.guard), measured)
    return results


def trainings(results: Results, objective: Objective | None, bm25: System) -> None:
    """What one seed decides: the generations, the controls, and the final student, measured."""
    base, run, cfg, student = results.base, results.run, results.run.config, results.run.base
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

    vectors = encode(base, "final/encode", student)
    undecided = any(one.decision == "undecided" for one in results.generations)
    described = "the base student: dev is too small to decide" if undecided else "what was accepted"
    final = measure_student(run, base.collection, "final", "final", described, vectors)
    hybrids = Hybrids(run, base.collection, base.lexical, bm25, final, "final")
    results.systems += [final, hybrids.absolute("hybrid_final", "final student + BM25")]
    index = index_vectors(run, base.collection, "final/index", vectors)
    probability = fit_probabilities(run, base.collection, base.lexical, vectors, index, final)
    results.final = Final(student, vectors, index, probability)


def prepare(run: Run) -> Base:
    """The stages that all generations share."""
    collected = collect(run)
    synthetic, guard = generates(run.config), sample_guard(run)
    # What a person marked wrongly is refused before any work.
    collection = collected if synthetic else with_verdicts(run, collected)
    tokens = tokenize_texts(run, collected, run.base.key, lambda: run.student(run.base.student))
    run.runner.say(lambda: say_formats(run))
    lexical = index_words(run, collected)
    first = begins_at(run.config)
    plain = encode_student(run, collected, tokens, f"{'student_0' if run.config.pretrain else '1'}/encode", run.base)
    half = fit_half(run, collected, lexical, plain)
    vectors = joined(run, f"{first}/encode", plain, half)
    if synthetic:
        collection = with_verdicts(run, consistent_queries(run, collected, plain, lexical))
    index = index_vectors(run, collection, f"{first}/index", vectors)
    judged = with_judged_dev(run, collection, lexical, vectors, index)
    run.runner.say(lambda: say_if_undecidable(judged))
    plain_index = index if half is None else index_vectors(run, collection, "student_0/index", plain)
    return Base(run, collected, judged, tokens, lexical, vectors, index, guard, half, plain_index)


def begin(run: Run) -> Base:
    """What generations begin with: `prepare`, and what pretraining makes of it."""
    base = prepare(run)
    return base if run.config.pretrain is None else pretrain_base(base)[0]


def begins_at(cfg: Config) -> str:
    """Whose address the base student's stages have: generation 1's, unless pretraining comes before it."""
    return "1" if cfg.pretrain is None else "student_0" if cfg.student.lexical_half is None else "half_0"


def pretrain_base(base: Base) -> tuple[Base, System, dict[str, Any]]:
    """The base student after it has learned from documents alone, if the gate accepts that, else as it was; how the
    pretrained student measures, and what the gate decided."""
    run, collection = base.run, base.collection
    mixed = merge(run, "pretrained/merge", run.base, pretrain(run, collection, base.tokens), PRETRAINED_SHARE)
    new = replace(mixed, average=mixed.student)  # nothing moved that could be averaged
    plain = encode_student(run, base.collected, base.tokens, "pretrained/encode", new, maps_base=False)
    vectors = joined(run, "pretrained/encode", plain, base.half)
    text = "the base student after it learned from documents alone, before the gate"
    system = measure_student(run, collection, "pretrained", "pretrained", text, vectors)
    dev = measure_split(run, collection, begins_at(run.config), "dev", base.vectors, base.index)
    decision = judge(base, None, "pretrained", dev, system.runs["dev"], new, None)
    run.runner.say(lambda: logger.info("pretraining: %s", decision["reason"]))
    if decision["accepted"]:
        index = index_vectors(run, collection, "pretrained/index", vectors)
        base = replace(base, run=run.begun_from(new), vectors=vectors, index=index)
    return base, system, decision


def encode(base: Base, address: str, student: Weights) -> Vectors:
    """A student's vectors under its own view, with the lexical half if there is one."""
    return joined(base.run, address, encode_student(base.run, base.collected, base.tokens, address, student), base.half)


def made_for_teachers(
    base: Base, number: int = 1, student: Weights | None = None, vectors: Vectors | None = None
) -> Made:
    """What the members need in generation `number`, whose student has these vectors: by default the first, whose
    student is the base."""
    run, collection = base.run, base.collection
    fits = any(isinstance(one, CrossEncoderConfig) and one.fit for one in members_of(run.config.teacher))
    fitted = fit_teachers(run, collection, mine_base(base)) if fits else {}
    of = teacher_vectors(run, collection, base.tokens, number, student or run.base, vectors or base.vectors, base.half)
    return {**of, **fitted}


def probe_base(base: Base, **how: Any) -> Artifact:
    """The configured teachers and their mixtures against the base student, on dev. `how`: see `probe`."""
    teachers = made_for_teachers(base)
    return probe(base.run, base.collection, base.lexical, base.vectors, base.index, teachers, **how)


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
    return score(base.run, base.collection, base.lexical, "1/score", mined, made_for_teachers(base))


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
    judged = f", and judged by {result['judge']}" if result.get("judge") else ""
    estimate = result["estimate"] and not result["predicted"]
    mark = f" (an estimate: dev queries were made from documents{judged})" if estimate else ""
    labels = learns_labels(config) and result["decided"]
    what = "so it learns from labels alone" if labels else "so nothing is trained"
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
        teachers = made_for_teachers(base, number, student, vectors)
        scores = score(run, collection, base.lexical, f"{number}/score", mined, teachers)
        targets = temper(run, collection, f"{number}/targets", mined, scores, weights)
        turned_to = vectors.plain if run.config.train.loss == "embedding" else None
        inputs = TrainingInputs(mined, targets, scores, teachers, turned_to)
    epochs = run.config.train.epochs_of(number)
    start = run.base if born_again(run.config.teacher) else student
    new = train_student(base, f"{number}/train", start, inputs, weights, objective, epochs)

    new_vectors = encode(base, f"{number + 1}/encode", new)
    described = f"after generation {number}, before the gate"
    system = measure_student(run, collection, f"{number + 1}", f"generation_{number}", described, new_vectors)
    results.systems.append(system)
    old_dev = measure_split(run, collection, f"{number}", "dev", vectors, index)

    def followed(owner: str, candidate: Vectors) -> Artifact | None:
        if inputs.targets is None or results.probe is None or not follows(run.config):
            return None
        return follow(
            run, collection, base.lexical, f"{owner}/follow", vectors, candidate, index, inputs.made,
            inputs.targets, weights, results.probe,
        )  # fmt: skip

    decision = judge(base, weights, f"{number}", old_dev, system.runs["dev"], new, followed(f"{number}", new_vectors))
    outcome: Decision = "accepted" if decision["accepted"] else "rejected" if decision["decided"] else "undecided"
    kept = new if decision["accepted"] else student
    # A student that labels have drawn far from the base often does better half way back. If people judged dev, it can
    # tell, and the mixtures' part of its looks is there for that.
    shares = MERGE_SHARES[: 1 if outcome == "accepted" and judged_dev(base) else 0]
    for share in MERGE_SHARES if outcome == "rejected" else shares:
        merged = merge(run, f"{number}/merge:{share}", student, new, share)
        merged_vectors = encode(base, f"{number}m{share}/encode", merged)
        merged_index = index_vectors(run, collection, f"{number}m{share}/index", merged_vectors)
        dev = measure_split(run, collection, f"{number}m{share}", "dev", merged_vectors, merged_index)
        speaks = followed(f"{number}m{share}", merged_vectors)
        tried = judge(base, weights, f"{number}m{share}", old_dev, dev, merged, speaks, mixture=True)
        if tried["accepted"] and (outcome == "rejected" or tried["difference"] > decision["difference"]):
            kept, outcome, decision = merged, "merged", {**tried, "share": share, "unmerged": decision}
            break
    reason = decision["reason"]
    seed = f", seed {run.seed}" if run.repetition else ""
    run.runner.say(lambda: logger.info("generation %d%s: %s", number, seed, reason))
    results.generations.append(Generation(number, outcome, decision, kept, mined, inputs.scores, inputs.targets))
    return kept


def judge(
    base: Base, weights: MixtureWeights | None, owner: str, before: Artifact, after: Artifact, student: Weights,
    followed: Artifact | None, *, mixture: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """What the gate decides by dev, and, if it accepts, the guard: a significant loss there is refused."""
    run, guard = base.run, base.guard
    decision = gate(
        run, base.collection, f"{owner}/gate", before, after, weights, mixture=mixture, followed=followed
    )  # fmt: skip
    if guard is None or not decision["accepted"]:
        return decision
    measured = measure_guard(run, guard, f"{owner}/guard", student, base.half)
    found = forgotten(run, guard, guard_of_base(base, guard), [measured])
    return decision if found is None else guarded(decision, found)


def guard_of_base(base: Base, guard: Artifact) -> Artifact:
    """What the base student, before any training, finds on the guard."""
    return measure_guard(base.run, guard, "0/guard:student_0", base.run.untrained, base.half)


def train_student(
    base: Base, address: str, start: Weights, inputs: TrainingInputs, weights: MixtureWeights, objective: Objective,
    epochs: float, learning_rate: float | None = None,
) -> Weights:  # fmt: skip
    """A training of this run. If only queries or an adapter learn, documents come as the base student's vectors.
    `learning_rate`: in place of the config's."""
    run, query_removed = base.run, None
    cfg = run.config.corpus
    by_vectors = run.learns_queries_only or run.learns_adapter_only
    if by_vectors and cfg.generated_queries:
        members = members_of(run.config.teacher)  # an average is the base at first, and has read what they begin with
        averages = [n for n, member in enumerate(members) if isinstance(member, EmaConfig)]
        made = [vectors_in(made_for_teachers(base), n).plain for n in averages]
        query_removed = encode_query_removed(run, base.tokens, made)
    kept = (base.vectors.plain, query_removed) if by_vectors else (None, None)
    return train(
        run, base.collection, base.tokens, base.lexical, address, start, inputs, weights, objective, epochs, kept,
        learning_rate, base.half, base.vectors.plain if run.config.train.also and run.config.train.also.dims else None,
    )  # fmt: skip


def measure_base_teacher(results: Results) -> System:
    """The teacher reranking the base student's own top documents."""
    base, teachers = results.base, made_for_teachers(results.base)
    return measure_teacher(base.run, base.collection, base.lexical, base.vectors, base.index, teachers, results.weights)


def base_teacher_if_known(results: Results) -> list[System]:
    """The same of a teacher whose scores come from a file. It seldom holds the pairs of dev and test; then the report
    goes without this row."""
    try:
        return [measure_base_teacher(results)]
    except MissingScores as lack:
        logger.warning(
            "the report has no row of the teacher reranking the student before it is taught, on %s: %s. "
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
        turned_to = base.vectors.plain if cfg.train.loss == "embedding" else None
        inputs = TrainingInputs(mined, targets, scores, made_for_teachers(base), turned_to)
    # Of all generations that were not refused; of the first, if all were, or if none was run.
    epochs = cfg.epochs_of([one.number for one in results.generations if one.decision not in KEPT_OLD] or [1])

    def trained(part: str, rate: float | None = None) -> Weights:
        address = f"1/train:{part}{control}"
        return train_student(base, address, run.base, inputs, results.weights, objective, epochs, rate)

    rates = cfg.evaluate.hard_label_rates if control == "hard_labels" else ()
    if rates:
        by_rate = {f"{control}@{rate:g}": trained(f"{rate:g}:", rate) for rate in rates}
        best = best_on_dev(base, by_rate)
        student, text = (
            by_rate[best],
            f"{text}; learning rate {best[len(control) + 1 :]}, the best of {len(rates)} on dev",
        )
    else:
        student = trained("")
    if judged_dev(base):  # what generations may do, their baseline may, too
        share = MERGE_SHARES[0]
        mixed = f"{control}m{share}"
        both = {f"{control}m1.0": student, mixed: merge(run, f"{control}/merge:{share}", run.base, student, share)}
        if best_on_dev(base, both) == mixed:
            student, text = both[mixed], f"{text}; mixed with the base ({share:.0%}), as dev chose"
    return measure_student(run, base.collection, control, control, text, encode(base, f"{control}/encode", student))


def judged_dev(base: Base) -> bool:
    """Whether people judged the dev queries: synthetic ones cannot tell between two students that are both accepted.
    As the config asks, in a dry run that cannot know."""
    asked = {"estimate": not base.run.config.corpus.labels}
    return not base.run.runner.result(base.collection.made, "notes.json", asked)["estimate"]


def best_on_dev(base: Base, students: Mapping[str, Weights]) -> str:
    """The name of the student that is best on dev; the first one in a dry run that cannot know."""
    run, measure, found = base.run, base.run.config.gate.measure, {}
    for name, student in students.items():
        vectors = encode(base, f"{name}/encode", student)
        index = index_vectors(run, base.collection, f"{name}/index", vectors)
        dev = measure_split(run, base.collection, name, "dev", vectors, index)
        values = run.runner.result(dev, "measured.json", {"per_query": {measure: {"": 0.0}}})["per_query"][measure]
        found[name] = sum(values.values()) / len(values)
    return max(found, key=found.__getitem__)
