"""`export`, `verify`: from a run to one folder that can be served, and whether such a folder is sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdretrieval.cli.card import published
from sdretrieval.cli.lookup import DEV_POOL, Serving
from sdretrieval.cli.options import Json, RunName, Runs
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean
from sdretrieval.errors import DamagedArtifact, ModelError, WorkError
from sdretrieval.files import read_json
from sdretrieval.formatting import quantity
from sdretrieval.store.run_folder import checked, find_run, read_report

if TYPE_CHECKING:
    from sdretrieval.corpus import Corpus
    from sdretrieval.export.card import CardFacts
    from sdretrieval.export.layout import Manifest

FINAL = "final"


def export_command(
    run: RunName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the folder to write; a bundle there is replaced")],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="F", help="torch (always), onnx, onnx-int8, openvino; may be given several times"
        ),
    ] = None,
    vectors: Annotated[
        list[str] | None,
        typer.Option(
            "--vectors",
            metavar="KIND",
            help="the documents' vectors for other stores: npy, parquet; may be given twice",
        ),
    ] = None,
    student: Annotated[
        str, typer.Option("--student", metavar="NAME", help="a smaller student of the run, such as final-static")
    ] = FINAL,
    texts: Annotated[
        bool,
        typer.Option("--texts/--no-texts", help="include the documents' titles and texts, and BM25's index of them"),
    ] = True,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Write a run's student with its index, prompts and card as one folder that can check itself."""
    with stdout_kept_clean():
        manifest = export_run(
            run, folder, formats or ["torch"], vectors=vectors or (), student=student, texts=texts, runs=runs
        )
    if as_json:
        print_json(read_json(folder / "bundle.json"))
        return
    say(f"{folder}: {quantity(manifest.documents, 'documents')}, {manifest.dims} dims, {', '.join(manifest.formats)}")
    for name, near in manifest.agreement.items():
        say(f"{name}: lowest cosine with torch {near.cosine:.4f}, top hits in common {near.shared:.1%}")
    say(f"check it at any time: sdretrieval verify {folder}")


def verify_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="an exported folder")],
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="check the server at this address instead: does it give the vectors of DIR?"
        ),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="F", help="what the server runs: onnx-int8 may be less near than others")
    ] = "torch",
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="the server's name for the model")] = "default",
    key_variable: Annotated[
        str | None,
        typer.Option("--key-variable", metavar="VARIABLE", help="the environment variable that holds the server's key"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check an exported folder, or with --url a server: files, and vectors and hits of queries kept in the folder.
    Exits with 1 if they differ."""
    from sdretrieval.chat.client import ServedModel, key_of_environment
    from sdretrieval.chat.embed import EmbedClient
    from sdretrieval.export.verify import verify_bundle, verify_server

    with stdout_kept_clean():
        if url is None:
            result = verify_bundle(folder)
        else:
            served = ServedModel(url.rstrip("/").removesuffix("/v1"), model, key_variable)
            result = verify_server(folder, EmbedClient(served, key_of_environment(served, "--key-variable")), format)
    if as_json:
        print_json(result.to_json())
    else:
        rows = [["ok" if check.ok else "FAILED", check.name, check.detail] for check in result.checks]
        print_table(["", "check", "result"], rows)
    if not result.ok:
        failed = ", ".join(check.name for check in result.checks if not check.ok)
        if url is not None:
            raise WorkError(
                f"{url} does not serve what was measured: {failed}. Compare its pooling, prompts and maximum length "
                f"with the card of {folder}, and its model with the bundle's"
            )
        raise DamagedArtifact(f"{folder} is not as it was exported: {failed}; export the run again")


def export_run(
    name: str, folder: Path, formats: Sequence[str] = ("torch",), *, vectors: Sequence[str] = (),
    student: str = FINAL, texts: bool = True, runs: Path | None = None,
) -> Manifest:  # fmt: skip
    """Write the final student of a run, its index, prompts, probabilities and card as the bundle `folder`.

    `vectors`: files of the documents' vectors. `student`: a smaller one instead, without probabilities, which were
    fitted to the final one's scores. `texts`:
    whether titles, texts and BM25 of the documents go with it. Raises what `export_bundle` raises, and RequestError if
    there is no such run or student, or its parts left the store.
    """
    from sdretrieval.corpus import load_corpus
    from sdretrieval.encode.prompts import Prompts
    from sdretrieval.export.bundle import check_bundle_target, export_bundle
    from sdretrieval.export.documents import IndexedDocuments
    from sdretrieval.indexes import VectorIndex
    from sdretrieval.stages.encode import Vectors

    check_bundle_target(folder)
    run = find_run(name, runs)
    serving = Serving.of(run) if student == FINAL else Serving.of(run).smaller(student)
    record, corpus = serving.record, load_corpus(serving.corpus_folder())
    embedded = Vectors(record["keys"]["vectors"], serving.artifact("vectors"))
    try:
        return export_bundle(
            folder,
            student_folder=checked(run, "student" if student == FINAL else f"smaller/{student}"),
            prompts=Prompts(**record["prompts"]),
            max_tokens=record["max_tokens"],
            query_tokens=record["query_tokens"],
            documents=IndexedDocuments.of(corpus),
            vectors_ND=embedded.documents.vectors_WD,
            index=VectorIndex.load(serving.artifact("index"), "cpu"),
            card=card_facts(serving, corpus, student),
            canary_queries=corpus.query_texts(corpus.split_rows("dev")[:DEV_POOL]),
            lexical=serving.lexical() if texts else None,
            probabilities=serving.probabilities(words=texts) if student == FINAL else None,
            formats=formats,
            vectors=vectors,
            include_texts=texts,
        )
    except ModelError as problem:
        # A bundle is opened by unknown_ids, so it never runs a model's own code, even if the run did.
        if not serving.config.student.trust_remote_code:
            raise
        raise ModelError(
            f"{problem}; the run trusts the model's own code (student.trust_remote_code: true), a bundle is opened "
            f"without it: serve {run / 'student'} itself, or train a base that needs no code of its own"
        ) from problem


def card_facts(serving: Serving, corpus: Corpus, student: str = FINAL) -> CardFacts:
    """Where the student comes from, what taught it, what it gained."""
    from sdretrieval.export.card import CardFacts, TeacherFact
    from sdretrieval.teachers.ensemble import TeacherScores

    config, run = serving.config, serving.run.resolve()
    # The members that scored the first generation's lists; none if nothing was trained.
    key = serving.record["keys"].get("scores")
    scored = serving.store.get_or_discard(key) if key is not None else None
    members = TeacherScores.load(scored).members if scored is not None else []
    weights = serving.record["weights"] if members else []
    # RUNS/NAME/config.yaml, as seen from beside RUNS: what is published says nothing of the machine's folders.
    written = Path(run.parent.name, run.name, "config.yaml")
    return CardFacts(
        name=config.name,
        base_model=config.student.model,
        base_digest=str(serving.record["base_digest"]),
        corpus=corpus.name,
        corpus_digest=corpus.digest,
        command=f"sdretrieval run {written}\nsdretrieval export {config.name} DIR"
        + ("" if student == FINAL else f" --student {student}"),
        teachers=[TeacherFact(m.name, m.asymmetry, weight) for m, weight in zip(members, weights, strict=True)],
        report=read_report(serving.run),
        system=student,
        published=published(config, Path(serving.record["base"]), corpus),
    )
