"""Texts to vectors from a bundle, in whichever format: the same tokens, prompts and views; only the engine differs.

Legend: N texts, D dims, B texts of a batch, L tokens of its longest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.encode.batches import CPU_BATCH_TOKENS, budget_batches, pad
from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import Student, load_student, words_folder
from sdretrieval.encode.tokens import specials_of, tokenize
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import DamagedArtifact, MissingPackageError
from sdretrieval.export.layout import DOCUMENT_GRAPHS, GRAPHS, STUDENT, Manifest
from sdretrieval.ragged import Array

PACKAGES = {"onnx": "onnx onnxruntime", "onnx-int8": "onnx onnxruntime", "openvino": "onnx openvino"}
"""What each format but torch needs, as pip knows it: to write a bundle and to search it."""

Engine = Callable[[Sequence[Array], Specials], Array]
"""Ready token sequences -> float32 vectors (N, D), in their order."""
Infer = Callable[[Mapping[str, Array]], Array]
"""Named int64 inputs (B, L) -> float32 vectors (B, D)."""


@dataclass(frozen=True)
class TextEncoder:
    """Encodes texts as mining, training and evaluation did: the prompt first, cut where the view ends."""

    tokenizer: Any
    prompts: Prompts
    view: View
    query_view: View
    engine: Engine
    document_engine: Engine | None = None
    """Where documents have an encoder of their own."""

    def queries(self, texts: Sequence[str]) -> Array:
        """float32 vectors of queries, shape (N, D)."""
        return self._vectors(texts, self.query_view, self._query_specials, self.engine)

    def documents(self, texts: Sequence[str]) -> Array:
        """float32 vectors of documents (title and text joined by one space), shape (N, D)."""
        return self._vectors(texts, self.view, self._document_specials, self.document_engine or self.engine)

    @cached_property
    def _query_specials(self) -> Specials:
        return specials_of(self.tokenizer, self.prompts.query)

    @cached_property
    def _document_specials(self) -> Specials:
        return specials_of(self.tokenizer, self.prompts.document)

    def _vectors(self, texts: Sequence[str], view: View, specials: Specials, engine: Engine) -> Array:
        tokens = tokenize(texts, self.tokenizer)
        return engine([view.cut(tokens[n], specials)[0] for n in range(len(texts))], specials)


def torch_encoder(student: Student) -> TextEncoder:
    """The loaded student itself."""

    return TextEncoder(
        student.model.tokenizer, student.prompts, student.view, student.query_view,
        partial(encode_sequences, student.model), partial(encode_sequences, student.document_model),
    )  # fmt: skip


def open_encoder(folder: Path, manifest: Manifest, format: str, device: str = "cpu") -> TextEncoder:
    """The bundle's encoder in one of its formats; `device` holds for torch, the others run on the CPU.

    Raises MissingPackageError where the format's engine is not installed, ModelError where the student does not load.
    """
    if format == "torch":
        student = load_student(
            str(folder / STUDENT), max_tokens=manifest.max_tokens, query_tokens=manifest.query_tokens,
            prompts=manifest.prompts, device=device,
        )  # fmt: skip
        return torch_encoder(student)
    need("openvino" if format == "openvino" else "onnxruntime", format)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(words_folder(folder / STUDENT)))
    # Dynamic int8 scales activations over the whole batch, so that a text's vector would depend on its neighbours.
    batch_tokens = 1 if format == "onnx-int8" else CPU_BATCH_TOKENS
    query_view = View(min(manifest.query_tokens or manifest.max_tokens, manifest.max_tokens))
    opened = _openvino if format == "openvino" else _onnxruntime
    engines = [
        _graph_engine(infer, names, tokenizer.pad_token_id or 0, manifest.dims, batch_tokens)
        for names, infer in map(opened, graphs_of(folder, manifest, format))
    ]
    return TextEncoder(tokenizer, manifest.prompts, View(manifest.max_tokens), query_view, *engines)


def graphs_of(folder: Path, manifest: Manifest, format: str) -> list[Path]:
    """The queries' graph, and the documents' own where there are two. Raises DamagedArtifact where one is gone: the
    other must not answer for it."""
    own = DOCUMENT_GRAPHS[format]
    paths = [folder / GRAPHS[format], *([folder / own] if own in manifest.files or (folder / own).is_file() else [])]
    for path in paths:
        if not path.is_file():
            raise DamagedArtifact(f"{path} is missing: format {format} needs it; export the run again")
    return paths


def need(package: str, format: str) -> None:
    """Raise MissingPackageError, holding the pip command, where `package` is not installed."""
    if find_spec(package) is None:
        raise MissingPackageError(
            f"format {format} needs the package {package}, which is not installed; run: pip install {PACKAGES[format]}"
        )


def _graph_engine(infer: Infer, names: Sequence[str], pad_id: int, dims: int, batch_tokens: int) -> Engine:
    def engine(sequences: Sequence[Array], specials: Specials) -> Array:
        vectors_ND = np.empty((len(sequences), dims), dtype=np.float32)
        for batch in budget_batches([len(sequence) for sequence in sequences], batch_tokens):
            ids_BL, mask_BL = pad([sequences[i] for i in batch], pad_id)
            inputs = {"input_ids": ids_BL, "attention_mask": mask_BL, "token_type_ids": np.zeros_like(ids_BL)}
            vectors_ND[batch] = infer({name: inputs[name] for name in names})
        return vectors_ND

    return engine


def _onnxruntime(path: Path) -> tuple[list[str], Infer]:
    onnxruntime = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return names, lambda inputs: np.asarray(session.run(None, dict(inputs))[0], dtype=np.float32)


def _openvino(path: Path) -> tuple[list[str], Infer]:
    openvino = import_module("openvino")
    # Without the hint OpenVINO computes in bfloat16 where the CPU can, and the vectors leave torch's.
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [entry.any_name for entry in compiled.inputs]
    return names, lambda inputs: np.asarray(compiled(dict(inputs))[compiled.output(0)], dtype=np.float32)
