"""`export`: from a finished run to a bundle, with what the run knows of its student on the card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdretrieval.config import Config, members_of
from sdretrieval.corpus import Corpus, load_corpus
from sdretrieval.encode.prompts import Prompts
from sdretrieval.errors import ModelError
from sdretrieval.export.bundle import export_bundle
from sdretrieval.export.card import CardFacts, TeacherFact
from sdretrieval.export.layout import IndexedDocuments, Manifest
from sdretrieval.indexes import VectorIndex
from sdretrieval.run.commands.serving import Serving, serving_of
from sdretrieval.stages.inputs import Vectors
from sdretrieval.store.run_folder import find_run, read_json, read_report
from sdretrieval.store.runner import Artifact
from sdretrieval.teachers.ensemble import TeacherScores

CANARY_POOL = 200
"""Dev queries of which the bundle takes a few: a test query has no place in what is published."""


def export_run(
    name: str, folder: Path, formats: Sequence[str] = ("torch",), *, texts: bool = True, runs: Path | None = None
) -> Manifest:
    """Write the final student of a run, its index, prompts and card as the bundle `folder`.

    `texts`: whether titles and beginnings of the documents go with it. Raises what `export_bundle` raises, and
    RequestError where there is no such run or its parts left the store.
    """
    run = find_run(name, runs)
    serving = serving_of(run)
    record, corpus = serving.record, load_corpus(serving.corpus_folder())
    vectors = Vectors(Artifact(record["keys"]["vectors"], serving.artifact("vectors")))
    with _own_code_named(serving):
        return export_bundle(
            folder,
            student_folder=run / "student",
            prompts=Prompts(**record["prompts"]),
            max_tokens=record["max_tokens"],
            query_tokens=record["query_tokens"],
            documents=IndexedDocuments.of(corpus),
            vectors_ND=vectors.documents.vectors_WD,
            index=VectorIndex.load(serving.artifact("index"), "cpu"),
            card=card_facts(serving, corpus),
            canary_queries=corpus.query_texts(corpus.split_rows("dev")[:CANARY_POOL]),
            formats=formats,
            include_texts=texts,
        )


@contextmanager
def _own_code_named(serving: Serving) -> Iterator[None]:
    """A bundle is opened by strangers, so it never runs a model's own code; where the run did, the error says so."""
    try:
        yield
    except ModelError as problem:
        if not serving.config().student.trust_remote_code:
            raise
        raise ModelError(
            f"{problem}; the run trusts the model's own code (student.trust_remote_code: true), a bundle is opened "
            f"without it: serve {serving.run / 'student'} itself, or train a base that needs no code of its own"
        ) from problem


def card_facts(serving: Serving, corpus: Corpus) -> CardFacts:
    """Where the student comes from, what taught it, what it gained."""
    config = serving.config()
    return CardFacts(
        name=config.name,
        base_model=config.student.model,
        base_digest=str(serving.record["base_digest"]),
        corpus=corpus.name,
        corpus_digest=corpus.digest,
        command=f"sdretrieval run {_config_of(serving.run)}\nsdretrieval export {config.name} DIR",
        teachers=_teachers(serving, config),
        report=read_report(serving.run),
    )


def _config_of(run: Path) -> Path:
    """RUNS/NAME/config.yaml, as seen from beside RUNS: what is published says nothing of the machine's folders."""
    whole = run.resolve()
    return Path(whole.parent.name, whole.name, "config.yaml")


def _teachers(serving: Serving, config: Config) -> list[TeacherFact]:
    """The members that scored the first generation's lists; none where nothing was trained."""
    scored = serving.record["keys"].get("scores")
    folder = serving.store.get_or_discard(scored) if scored is not None else None
    if folder is None:
        return []
    members = TeacherScores.load(folder).members
    # Runs of earlier versions did not record them.
    weights = serving.record.get("weights") or _weights(config, read_json(serving.run / "details.json"))
    return [TeacherFact(m.name, m.asymmetry, weight) for m, weight in zip(members, weights, strict=True)]


def _weights(config: Config, details: dict[str, Any]) -> list[float]:
    """The config's weights or, where they are auto, those of the probe's best mixture."""
    if details["probe"]:
        return [float(weight) for weight in details["probe"][0]["weights"]]
    return [float(member.weight) for member in members_of(config.teacher)]
