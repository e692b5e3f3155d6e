"""The student as a graph for other engines: ONNX, ONNX with 8-bit weights, OpenVINO.

The graph takes input_ids, attention_mask (and token_type_ids where the model has them), int64 (B, L), and gives
sentence_embedding, float32 (B, D): what the whole sentence-transformers model gives, pooling and normalising included.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.encode.batches import features_of
from sdretrieval.encode.student import Student
from sdretrieval.errors import ModelError
from sdretrieval.export.encoders import need
from sdretrieval.export.layout import DOCUMENT_GRAPHS, GRAPHS

NEEDED = {
    "onnx": ("onnx", "onnxruntime"),
    "onnx-int8": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
}
"""Format -> packages that writing it takes. The engine too: what is written is run before it counts."""

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 17


def check_packages(formats: Sequence[str]) -> None:
    """Raise MissingPackageError for the first package that one of `formats` needs and that is not installed."""
    for format in formats:
        for package in NEEDED.get(format, ()):
            need(package, format)


def check_graph(student: Student, formats: Sequence[str]) -> None:
    """Raise ModelError where the model pools without its prompt, which a graph without a prompt length cannot do."""
    prompted = student.prompts.query or student.prompts.document
    if set(formats) & set(GRAPHS) and prompted and not all(getattr(m, "include_prompt", True) for m in student.model):
        raise ModelError(
            f"the student leaves its prompt {prompted!r} out of pooling (include_prompt: false), which only format "
            f"torch can do, and {', '.join(f for f in formats if f in GRAPHS)} was asked for; export --format torch"
        )


def write_graphs(student: Student, folder: Path, formats: Sequence[str]) -> None:
    """Write each of `formats` but torch to its place in the bundle `folder`, a graph for each encoder."""
    wanted = [format for format in formats if format in GRAPHS]
    if not wanted:
        return
    encoders = [(student, GRAPHS)]
    if student.document_encoder is not None:
        encoders.append((replace(student, model=student.document_encoder), DOCUMENT_GRAPHS))
    for encoder, places in encoders:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".graph-") as scratch:
            graph = Path(scratch) / "model.onnx"
            write_onnx(encoder, graph)
            for format in wanted:
                target = folder / places[format]
                target.parent.mkdir(exist_ok=True)
                WRITERS[format](graph, target)


def write_onnx(student: Student, path: Path) -> None:
    """Trace the whole model into an ONNX graph with free batch size and length; the model stays in evaluation mode."""
    import torch

    model = student.model.to("cpu").eval()
    features = features_of(model, _sample(student), student.query_specials)
    names = [name for name in INPUTS if name in features]
    axes = {name: {0: "batch", 1: "tokens"} for name in names} | {"sentence_embedding": {0: "batch"}}
    try:
        with _quiet_exporter(), torch.inference_mode(False), torch.no_grad():
            # dynamo=False: the newer exporter needs onnxscript besides; both graphs give the same vectors.
            torch.onnx.export(
                _sentence(model, names), tuple(features[name] for name in names), str(path), dynamo=False,
                opset_version=OPSET, input_names=names, output_names=["sentence_embedding"], dynamic_axes=axes,
            )  # fmt: skip
    finally:
        # The export leaves the modules in training mode: with dropout on, every later vector would be wrong.
        model.eval()


def quantise(graph: Path, target: Path) -> None:
    """8-bit weights, one scale a channel; activations are scaled while running (dynamic)."""
    quantization = import_module("onnxruntime.quantization")
    with _quiet_exporter():
        quantization.quantize_dynamic(
            str(graph), str(target), per_channel=True, weight_type=quantization.QuantType.QInt8
        )


def to_openvino(graph: Path, target: Path) -> None:
    """OpenVINO's own files (model.xml, model.bin), in float32."""
    openvino = import_module("openvino")
    openvino.save_model(openvino.convert_model(str(graph)), str(target), compress_to_fp16=False)


def _keep(graph: Path, target: Path) -> None:
    target.write_bytes(graph.read_bytes())


WRITERS = {"onnx": _keep, "onnx-int8": quantise, "openvino": to_openvino}


def _sentence(model: Any, names: Sequence[str]) -> Any:
    """A module that takes the inputs by position and returns the sentence embedding alone."""
    import torch

    class Sentence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            embedding: torch.Tensor = self.inner(dict(zip(names, inputs, strict=True)))["sentence_embedding"]
            return embedding.float()

    return Sentence().eval()


def _sample(student: Student) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
    """Two sequences of unlike length: with no padding in sight the tracer would leave the attention mask out."""
    bare = student.model.tokenizer("a", add_special_tokens=False)["input_ids"]
    specials = student.query_specials
    lengths = (1, max(2, min(5, student.query_view.max_tokens - specials.count)))
    return [np.array([*specials.prefix, *(bare * n)[:n], *specials.suffix], dtype=np.int32) for n in lengths]


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Tracing warns of every shape it reads; what matters, that the vectors agree, is measured on the canaries."""
    root = logging.getLogger()
    level = root.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            root.setLevel(level)
