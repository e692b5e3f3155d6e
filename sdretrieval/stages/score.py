"""Stage N/score: every member's raw scores of every candidate of every list."""

from __future__ import annotations

from typing import Any

from sdretrieval.errors import MissingScores, RequestError
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages import imported
from sdretrieval.stages.collection import SYNTHETIC_TRAIN, Collection
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.run import Run
from sdretrieval.stages.teachers import Made, make_teachers, member_identities
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.teachers.ensemble import TeacherScores, score_candidates
from sdretrieval.teachers.imported import ImportedTeacher
from sdretrieval.teachers.protocols import Teacher
from sdretrieval.teachers.query_removed import whole
from sdretrieval.teachers.reranker_api import RerankerApiTeacher


def score(run: Run, collection: Collection, lexical: Lexical, address: str, lists: Artifact, made: Made) -> Artifact:
    """Raw scores of every member for every candidate of `lists`."""

    def build(work: Work) -> None:
        candidates = Candidates.load(lists.path)
        query_rows, rows = candidates.query_rows_Q, candidates.rows
        teachers, scores = score_lists(run, collection, lexical, made, query_rows, rows, members)
        scores.save(work.folder)
        work.counts["pairs"] = len(rows.values_T) * len(teachers)
        work.counts["newly_scored_pairs"] = sum(getattr(teacher, "newly_scored", 0) for teacher in teachers)
        asked = [one for one in map(whole, teachers) if isinstance(one, RerankerApiTeacher)]
        if asked:
            work.counts["requests"] = sum(one.requests for one in asked)
        from_files = [teacher for teacher in teachers if isinstance(teacher, ImportedTeacher)]
        if from_files:
            work.counts["missing_pairs"] = sum(len(one.missing_pairs(query_rows, rows)) for one in from_files)

    members = member_identities(run.config)
    identity = {"members": members, "calibrate": run.config.targets.calibrate}
    inputs = [lists, lexical, collection.filtered, *made.values()]
    return run.runner.stage(address, 5, identity, inputs, build)


def score_lists(
    run: Run, collection: Collection, lexical: Lexical, made: Made, query_rows: Array, lists: Ragged,
    members: list[dict[str, Any]], split: str | None = None, *, write_gaps: bool = True,
) -> tuple[list[Teacher], TeacherScores]:  # fmt: skip
    """The members, and each one's scores of every candidate. `members`: their identities in the stage's key.

    `split`: that of the queries, whose lists are to be ranked and measured, so that a file of scores must know
    something of each; None for lists that teach. `write_gaps`: pairs that a file of scores lacks are written into the
    run's folder, to be scored elsewhere. Raises MissingScores if such a file lacks pairs that it must not, RequestError
    if a model or file was changed since the key was made.
    """
    teachers = make_teachers(run, collection, lexical, made, split or SYNTHETIC_TRAIN)
    from_files = [teacher for teacher in teachers if isinstance(teacher, ImportedTeacher)]
    try:
        for teacher in from_files if split is not None else ():
            teacher.require_some(query_rows, lists)
        scores = score_candidates(teachers, query_rows, lists, run.config.targets.calibrate)
    except MissingScores as lack:
        if not write_gaps:
            raise
        raise imported.with_written(lack, run.folder, collection) from None
    if member_identities(run.config) != members:
        raise RequestError(
            "a teacher's model or file of scores was changed while it was used; run again when nothing writes to it"
        )
    if write_gaps:
        imported.note_gaps(from_files, query_rows, lists, run.folder, collection)
    return teachers, scores
