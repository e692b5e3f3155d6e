"""A student with its lexical half as one sentence-transformers model: one folder, one vector a text.

    model = load_with_half(folder)    # or SentenceTransformer(folder, trust_remote_code=True)
    model.encode_query([...]), model.encode_document([...])

sentence-transformers imports a module of another package, as this is, only with `trust_remote_code=True`; the folder
holds no code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule

from sdretrieval.encode.model_files import HALF, PLAIN
from sdretrieval.encode.student import TextVectors, joined_by_side
from sdretrieval.errors import RequestError
from sdretrieval.indexes.lexical_half import LexicalHalf

FEATURE = "lexical_half"


class WithLexicalHalf(InputModule):
    """The transformer's vector of a text, and behind it the text's lexical half, by side: a query's is another than a
    document's."""

    def __init__(self, transformer: SentenceTransformer, half: LexicalHalf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.transformer, self.words = transformer, half  # a module's `half` makes it float16

    @property
    def tokenizer(self) -> Any:  # type: ignore[override]
        """The transformer's."""
        return self.transformer.tokenizer

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, task: str | None = None, **others: Any
    ) -> dict[str, Any]:
        """Token ids, and the halves. Raises RequestError without a side, which only `encode_query` and
        `encode_document` say."""
        if task not in ("query", "document"):
            raise RequestError(
                "a plain encode cannot know whether a text is a query or a document, whose lexical halves differ; call "
                "encode_query or encode_document"
            )
        texts = [str(text) for text in inputs]
        halves = self.words.queries(texts) if task == "query" else self.words.documents(texts)
        features = self.transformer.preprocess(texts, prompt=prompt, task=task, **others)
        return {**features, FEATURE: torch.from_numpy(halves)}

    def forward(self, features: dict[str, Any], **others: Any) -> dict[str, Any]:
        """Joins both halves."""
        halves = features.pop(FEATURE)
        features = self.transformer(features, **others)
        plain = features["sentence_embedding"]
        features["sentence_embedding"] = torch.cat([plain, halves.to(plain)], dim=1)
        return features

    def get_embedding_dimension(self) -> int:
        """Of the whole vector."""
        size: int = self.transformer.get_embedding_dimension() or 0
        return size + self.words.dims

    def save(self, output_path: str, *args: Any, **others: Any) -> None:
        """The transformer's own folder beside that of the half: it can be served alone, as the vector's first dims."""
        self.transformer.save_pretrained(str(Path(output_path) / PLAIN), create_model_card=False)
        self.words.save(Path(output_path) / HALF)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *_: Any, **others: Any) -> WithLexicalHalf:
        """What `save` wrote."""
        folder = Path(model_name_or_path) / subfolder
        return cls(SentenceTransformer(str(folder / PLAIN)), LexicalHalf.load(folder / HALF))


def load_with_half(folder: str | Path, device: str | None = None) -> SentenceTransformer:
    """The model that `save_with_half` wrote, without trusting anything that the folder says of code.

    Raises DamagedArtifact if the folder holds no lexical half that can be read.
    """
    plain = SentenceTransformer(str(Path(folder) / PLAIN), device=device)
    return _whole(plain, LexicalHalf.load(Path(folder) / HALF))


def save_with_half(
    transformer: SentenceTransformer,
    half: TextVectors,
    folder: Path,
    document_encoder: SentenceTransformer | None = None,
) -> None:
    """Write a student and its lexical half as one sentence-transformers folder (safetensors and JSON).

    `document_encoder`: if documents have one of their own.
    """
    assert isinstance(half, LexicalHalf)
    encoders = transformer if document_encoder is None else joined_by_side(transformer, document_encoder)
    _whole(encoders, half).save_pretrained(str(folder), create_model_card=False)


def _whole(transformer: SentenceTransformer, half: LexicalHalf) -> SentenceTransformer:
    return SentenceTransformer(
        modules=[WithLexicalHalf(transformer, half)], device=str(transformer.device), similarity_fn_name="dot",
        prompts={name: text or "" for name, text in transformer.prompts.items()},
    )  # fmt: skip
