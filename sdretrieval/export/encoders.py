"""Texts to vectors from a bundle, in whichever format: the same tokens, prompts and views; only the engine differs.

The engines but torch take a graph, ONNX (also with 8-bit weights) or OpenVINO: inputs input_ids, attention_mask (and
token_type_ids if the model has them), int64 (B, L); output sentence_embedding, float32 (B, D): what the whole
sentence-transformers model gives, pooling and normalising included. Servers that pool by themselves find the tokens'
vectors (B, L, D) as last_hidden_state.

Legend: N texts, D dims, B texts of a batch, L tokens of its longest.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.encode.batches import CPU_BATCH_TOKENS, budget_batches, features_of, is_static, pad
from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.model_files import words_folder
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import Student, TextVectors, load_student
from sdretrieval.encode.tokens import specials_of, tokenize, tokenizer_of
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import DamagedArtifact, MissingPackageError, ModelError
from sdretrieval.export.layout import DOCUMENT_GRAPHS, GRAPHS, Manifest
from sdretrieval.indexes.lexical_half import half_of, with_half
from sdretrieval.ragged import Array

NEEDED = {"onnx": ("onnx", "onnxruntime"), "onnx-int8": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
"""Format -> packages, as pip knows them. To write it takes the engine too: what is written is run before it counts."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
VECTOR, TOKENS = "sentence_embedding", "last_hidden_state"
OPSET = 17

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
    """If documents have an encoder of their own."""
    document_tokenizer: Any = None
    """The same words, but perhaps other special tokens; None: as for queries."""
    half: TextVectors | None = None
    """What stands behind the engine's vectors, if the student has a lexical half."""

    def queries(self, texts: Sequence[str]) -> Array:
        """float32 vectors of queries, shape (N, D)."""
        return self.encode(texts, True)[0]

    def documents(self, texts: Sequence[str]) -> Array:
        """float32 vectors of documents (title and text joined by one space), shape (N, D)."""
        return self.encode(texts, False)[0]

    def encode(self, texts: Sequence[str], are_queries: bool) -> tuple[Array, list[int]]:
        """float32 vectors (N, D) of texts of one side, and how many tokens were read of each."""
        view, specials, engine = (
            (self.query_view, self._query_specials, self.engine)
            if are_queries
            else (self.view, self._document_specials, self.document_engine or self.engine)
        )
        tokens = tokenize(texts, self.tokenizer)
        sequences = [view.cut(tokens[n], specials)[0] for n in range(len(texts))]
        vectors_ND, lengths = engine(sequences, specials), [len(sequence) for sequence in sequences]
        if self.half is None:
            return vectors_ND, lengths
        words_ND = (self.half.queries if are_queries else self.half.documents)(texts)
        return np.concatenate([vectors_ND, words_ND], axis=1), lengths

    @cached_property
    def _query_specials(self) -> Specials:
        return specials_of(self.tokenizer, self.prompts.query)

    @cached_property
    def _document_specials(self) -> Specials:
        return specials_of(self.document_tokenizer or self.tokenizer, self.prompts.document)


def torch_encoder(student: Student) -> TextEncoder:
    """The loaded student itself."""
    return TextEncoder(
        student.tokenizer, student.prompts, student.view, student.query_view,
        partial(encode_sequences, student.model), partial(encode_sequences, student.document_model),
        tokenizer_of(student.document_model), student.half,
    )  # fmt: skip


def open_encoder(folder: Path, manifest: Manifest, format: str, device: str = "cpu") -> TextEncoder:
    """The bundle's encoder in one of its formats; `device` holds for torch, the others run on the CPU.

    Raises MissingPackageError if the format's engine is not installed, ModelError if the student does not load.
    """
    if format == "torch":
        student = load_student(
            str(folder), max_tokens=manifest.max_tokens, query_tokens=manifest.query_tokens,
            prompts=manifest.prompts, device=device,
        )  # fmt: skip
        return torch_encoder(with_half(student, folder))
    need("openvino" if format == "openvino" else "onnxruntime", format)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(words_folder(folder)))
    # Dynamic int8 scales activations over the whole batch, so that a text's vector would depend on its neighbours.
    batch_tokens = 1 if format == "onnx-int8" else CPU_BATCH_TOKENS
    query_view = View(min(manifest.query_tokens or manifest.max_tokens, manifest.max_tokens))
    half = half_of(folder)
    dims = manifest.dims - (half.dims if half else 0)
    engines = [
        _graph_engine(infer, names, tokenizer.pad_token_id or 0, dims, batch_tokens)
        for names, infer in (_open_graph(path, format) for path in graphs_of(folder, manifest, format))
    ]
    documents = engines[1] if len(engines) > 1 else None
    return TextEncoder(
        tokenizer, manifest.prompts, View(manifest.max_tokens), query_view, engines[0], documents, half=half
    )


def graphs_of(folder: Path, manifest: Manifest, format: str) -> list[Path]:
    """The queries' graph, and the documents' own if there are two. Raises DamagedArtifact if one is gone: the
    other must not answer for it."""
    own = DOCUMENT_GRAPHS[format]
    paths = [folder / GRAPHS[format], *([folder / own] if own in manifest.files or (folder / own).is_file() else [])]
    for path in paths:
        if not path.is_file():
            raise DamagedArtifact(f"{path} is missing: format {format} needs it; export the run again")
    return paths


def need(package: str, format: str) -> None:
    """Raise MissingPackageError, holding the pip command, if `package` is not installed."""
    if find_spec(package) is None:
        raise MissingPackageError(
            f"format {format} needs the package {package}, which is not installed; "
            f"run: pip install {' '.join(NEEDED[format])}"
        )


def _open_graph(path: Path, format: str) -> tuple[list[str], Infer]:
    """Names of the graph's inputs, and what computes it."""
    if format == "openvino":
        openvino = import_module("openvino")
        # Without the hint OpenVINO computes in bfloat16 if the CPU can, and the vectors leave torch's.
        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        names = [entry.any_name for entry in compiled.inputs]
        return names, lambda inputs: np.asarray(compiled(dict(inputs))[compiled.output(VECTOR)], dtype=np.float32)
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)  # 0: its own choice, all cores
    # Threads that wait would spin: beside another process they keep it, and then each other, from working.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    return names, lambda inputs: np.asarray(session.run([VECTOR], dict(inputs))[0], dtype=np.float32)


def _graph_engine(infer: Infer, names: Sequence[str], pad_id: int, dims: int, batch_tokens: int) -> Engine:
    def engine(sequences: Sequence[Array], specials: Specials) -> Array:
        vectors_ND = np.empty((len(sequences), dims), dtype=np.float32)
        for batch in budget_batches([len(sequence) for sequence in sequences], batch_tokens):
            ids_BL, mask_BL = pad([sequences[i] for i in batch], pad_id)
            inputs = {"input_ids": ids_BL, "attention_mask": mask_BL, "token_type_ids": np.zeros_like(ids_BL)}
            vectors_ND[batch] = infer({name: inputs[name] for name in names})
        return vectors_ND

    return engine


def check_graph(student: Student, formats: Sequence[str]) -> None:
    """Raise ModelError if the model pools without its prompt, which a graph without a prompt length cannot do, or is
    static: its input is one list of ids, without a batch's rows."""
    if set(formats) & set(GRAPHS) and any(is_static(one) for one in (student.model, student.document_model)):
        raise ModelError(
            "the student, or its one side, is static (a text's vector is the mean of its tokens'), which only format "
            f"torch holds, and {', '.join(f for f in formats if f in GRAPHS)} was asked for; export --format torch"
        )
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

    model, specials = student.model.to("cpu").eval(), student.query_specials
    # Two sequences of unlike length: with no padding in sight the tracer would leave the attention mask out.
    bare = model.tokenizer("a", add_special_tokens=False)["input_ids"]
    lengths = (1, max(2, min(5, student.query_view.max_tokens - specials.count)))
    sample = [np.array([*specials.prefix, *(bare * n)[:n], *specials.suffix], dtype=np.int32) for n in lengths]
    features = features_of(model, sample, specials)
    names = [name for name in INPUTS if name in features]
    axes = {name: {0: "batch", 1: "tokens"} for name in (*names, TOKENS)} | {VECTOR: {0: "batch"}}
    try:
        with _quiet_exporter(), torch.inference_mode(False), torch.no_grad():
            # dynamo=False: the newer exporter needs onnxscript besides; both graphs give the same vectors.
            torch.onnx.export(
                _sentence(model, names), tuple(features[name] for name in names), str(path), dynamo=False,
                opset_version=OPSET, input_names=names, output_names=[VECTOR, TOKENS], dynamic_axes=axes,
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


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "onnx": shutil.copyfile,
    "onnx-int8": quantise,
    "openvino": to_openvino,
}


def _sentence(model: Any, names: Sequence[str]) -> Any:
    """A module that takes the inputs by position and returns the sentence embedding, and the tokens'."""
    import torch

    class Sentence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            made = self.inner(dict(zip(names, inputs, strict=True)))
            return made[VECTOR].float(), made["token_embeddings"].float()

    return Sentence().eval()


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
