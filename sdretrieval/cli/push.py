"""`push`: a bundle, or a run's, to the model hub, with a card that the hub takes. Nothing is sent before it is asked
for, and no document's text unless that is asked for too."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.options import Json, Runs
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean
from sdretrieval.errors import DamagedArtifact, RequestError, WorkError
from sdretrieval.formatting import quantity, readable_bytes

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

    from sdretrieval.export.layout import Manifest

WITH_TEXTS = ("documents.", "lexical/", "vectors.parquet")
"""What a bundle's files begin with that hold documents' texts, or their words."""
HIDDEN = [".*", "*/.*"]
REFUSED = (401, 403)


def push_command(
    where: Annotated[
        str, typer.Argument(metavar="RUN_OR_BUNDLE", help="a run's name or folder, or an exported folder")
    ],
    hub_id: Annotated[str, typer.Argument(metavar="HUB_ID", help="where on the hub, such as me/my-student")],
    private: Annotated[bool, typer.Option("--private", help="only for you and your organisation to see")] = False,
    texts: Annotated[
        bool, typer.Option("--texts/--no-texts", help="also the documents' texts, for all who can see the model")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything and list the files; send nothing")
    ] = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Upload a run's student with index and card, or an exported folder, to the model hub."""
    with stdout_kept_clean():
        pushed = push(where, hub_id, private=private, texts=texts, dry_run=dry_run, runs=runs)
    if as_json:
        print_json(pushed.to_json())
        return
    print_table(["file", "size"], [[name, readable_bytes(size)] for name, size in pushed.files.items()], right=["size"])
    say("", f"{quantity(len(pushed.files), 'files')}, {readable_bytes(sum(pushed.files.values()))}", *pushed.notes)
    whose = "private" if private else "public"
    said = f"would be sent to {hub_id}, {whose}; nothing was" if pushed.url is None else f"{whose}: {pushed.url}"
    say(said)


@dataclass(frozen=True)
class Pushed:
    """What was sent, or would be: size by file; what there is to know of it; where it is now (None: nowhere yet)."""

    hub_id: str
    private: bool
    files: dict[str, int]
    notes: list[str]
    url: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        files = [{"path": name, "bytes": size} for name, size in self.files.items()]
        return {"hub_id": self.hub_id, "private": self.private, "files": files, "notes": self.notes, "url": self.url}


def push(
    where: str, hub_id: str, *, private: bool = False, texts: bool = False, dry_run: bool = False,
    runs: Path | None = None,
) -> Pushed:  # fmt: skip
    """Upload a bundle, or the one that a run's export makes, as the model repository `hub_id`.

    `texts`: whether documents' texts may go with it. `dry_run`: everything but that; needs no network and no token.

    Raises RequestError for a hub id that is none, no token, HF_HUB_OFFLINE, a token that may not write there, a bundle
    with texts without `texts`, a repository that is public though `private` was asked for; DamagedArtifact for a bundle
    that is not as it was exported; WorkError if the hub cannot be reached or takes something else amiss.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    from sdretrieval.export.layout import MANIFEST

    try:
        validate_repo_id(hub_id)
    except HFValidationError as problem:
        raise RequestError(f"HUB_ID {hub_id}: {problem}; expected OWNER/NAME, such as me/my-student") from None
    if not dry_run:
        _require_hub()
    with _bundle(where, texts, runs) as (folder, manifest):
        card, notes = check_card(folder)
        notes += _texts_in(where, manifest, texts)
        names = sorted([*manifest.files, MANIFEST])
        pushed = Pushed(hub_id, private, {name: (folder / name).stat().st_size for name in names}, notes)
        if dry_run:
            return pushed
        url = _upload(folder, card, hub_id, private, f"sdretrieval export of {manifest.name}")
        return Pushed(hub_id, private, pushed.files, notes, url)


@contextmanager
def _bundle(where: str, texts: bool, runs: Path | None) -> Iterator[tuple[Path, Manifest]]:
    """A bundle, whole, and its manifest: the folder that was named, or one that is made of a run and goes again."""
    from sdretrieval.cli.export import export_run
    from sdretrieval.export.layout import differences, is_bundle, read_manifest

    if not is_bundle(Path(where)):
        with tempfile.TemporaryDirectory(prefix="sdretrieval-push-") as place:
            yield Path(place, "bundle"), export_run(where, Path(place, "bundle"), texts=texts, runs=runs)
        return
    manifest = read_manifest(Path(where))
    _, faults = differences(Path(where), manifest)
    if faults:
        raise DamagedArtifact(f"{where} is not as it was exported: {faults}; export the run again")
    yield Path(where), manifest


def _texts_in(where: str, manifest: Manifest, texts: bool) -> list[str]:
    """What of the corpus a reader will see. Raises RequestError if that is more than was asked for."""
    held = [name for name in manifest.files if name.startswith(WITH_TEXTS)]
    if held and not texts:
        raise RequestError(
            f"{where} holds the texts of {quantity(manifest.documents, 'documents')} ({', '.join(held[:3])}), for all "
            "to see who see the model; to publish them too say --texts, else export again with --no-texts"
        )
    canaries = manifest.canaries
    few = f"{quantity(len(canaries.queries), 'queries')} and {quantity(len(canaries.documents), 'documents')}"
    with_texts = f"the texts of {quantity(manifest.documents, 'documents')} and " if held else ""
    return [f"with {with_texts}all documents' ids; bundle.json holds {few} to check vectors by"]


def check_card(folder: Path) -> tuple[ModelCard, list[str]]:
    """The model card as the hub's library reads it, and what it says. Raises WorkError for one that it cannot read."""
    from huggingface_hub import ModelCard, ModelCardData

    path = folder / "README.md"
    try:
        card = ModelCard(path.read_text(encoding="utf8"))
    except (OSError, ValueError, TypeError) as problem:
        raise WorkError(f"{path} is no model card that the hub reads ({problem}); export the run again") from problem
    data = card.data
    if not isinstance(data, ModelCardData) or data.library_name is None:
        raise WorkError(f"{path} has no metadata; expected the card of an export: export the run again")
    said = [
        f"{what} {', '.join(value) if isinstance(value, list) else value}"
        for what, value in (
            ("base model", data.base_model), ("language", data.language), ("licence", data.license),
            ("data sets", data.datasets),
        )
        if value
    ]  # fmt: skip
    missing = "" if data.license else "; no licence: say one with --set student.license=... and run again"
    figures = quantity(len(data.eval_results or ()), "figures")
    return card, [f"card: {', '.join([figures, *said])}{missing}"]


def _require_hub() -> None:
    """Raise RequestError without a token, or if the hub is not to be asked: before a run is exported."""
    from huggingface_hub import get_token, is_offline_mode

    if is_offline_mode():
        raise RequestError(
            "HF_HUB_OFFLINE is set, so nothing can be sent; unset it, or say --dry-run to see what would be sent"
        )
    if get_token() is None:
        raise RequestError(
            "no token of the model hub: found none in HF_TOKEN, and nobody is logged in; expected one that may write: "
            "run `hf auth login`, or say --dry-run to see what would be sent"
        )


def _upload(folder: Path, card: ModelCard, hub_id: str, private: bool, message: str) -> str:
    """The address of the model on the hub, after the hub's own check of the card."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        _validate(card)
        url = api.create_repo(hub_id, private=private, exist_ok=True)
        if private and not api.model_info(url.repo_id).private:
            raise RequestError(
                f"{hub_id} is there and public, expected a private one (--private): make it private on the hub, or "
                "name another. Nothing was sent"
            )
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message=message, ignore_patterns=HIDDEN)
        return str(url)
    except HfHubHTTPError as problem:
        status = getattr(problem.response, "status_code", None)
        if status in REFUSED:
            raise RequestError(
                f"the hub refuses the token for {hub_id} ({status}): {_line(problem)}; expected one that may write "
                "there: run `hf auth login`"
            ) from problem
        raise WorkError(f"the hub refuses {hub_id} ({status}): {_line(problem)}; run the same again later") from problem
    except Exception as problem:
        # The library's client for HTTP is another from version to version: known by its package.
        if not (isinstance(problem, OSError) or type(problem).__module__.startswith("http")):
            raise
        raise WorkError(
            f"the hub cannot be reached ({type(problem).__name__}: {_line(problem)}); run the same again, files that "
            "arrived are not sent twice"
        ) from problem


def _validate(card: ModelCard) -> None:
    """By the hub itself, which knows its licences, languages and data sets."""
    try:
        card.validate(repo_type="model")
    except ValueError as problem:
        raise WorkError(f"the hub refuses the model card: {_line(problem)}. Nothing was sent") from problem


def _line(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300]
