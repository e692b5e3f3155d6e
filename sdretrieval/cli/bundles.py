"""`export`, `verify`: from a run to one folder that can be served, and whether such a folder is sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sdretrieval.cli.options import Json, RunName, Runs
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean
from sdretrieval.errors import DamagedArtifact


def export(
    run: RunName,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="the folder to write; a bundle there is replaced", show_default=False)
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="F", help="torch (always), onnx, onnx-int8, openvino; may be given several times"
        ),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts/--no-texts", help="take along titles and beginnings of the documents")
    ] = True,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Write a run's student with its index, prompts and card as one folder that can check itself."""
    from sdretrieval.run.commands.exporting import export_run

    with stdout_kept_clean():
        manifest = export_run(run, folder, formats or ["torch"], texts=texts, runs=runs)
    if as_json:
        print_json(json.loads((folder / "bundle.json").read_text(encoding="utf8")))
        return
    say(f"{folder}: {manifest.documents:,} documents, {manifest.dims} dims, {', '.join(manifest.formats)}")
    for name, near in manifest.agreement.items():
        say(f"{name}: lowest cosine with torch {near.cosine:.4f}, top hits in common {near.shared:.1%}")
    say(f"check it at any time: sdretrieval verify {folder}")


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="an exported folder", show_default=False)],
    as_json: Json = False,
) -> None:
    """Compute an exported folder's canary vectors and hits again; exits with 1 where they differ."""
    from sdretrieval.export.verify import verify_bundle

    with stdout_kept_clean():
        found = verify_bundle(folder)
    if as_json:
        print_json(found.to_json())
    else:
        rows = [["ok" if check.ok else "FAILED", check.name, check.detail] for check in found.checks]
        print_table(["", "check", "found"], rows)
    if not found.ok:
        failed = ", ".join(check.name for check in found.checks if not check.ok)
        raise DamagedArtifact(f"bundle {folder} is not as it was exported: {failed}; export the run again")
