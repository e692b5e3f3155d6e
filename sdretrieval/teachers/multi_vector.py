"""Encoders that have more of a text than one short vector, as teachers: a vector for each of its tokens (ColBERT's
kind), or one over the whole vocabulary, most of it 0 (SPLADE's kind).

A table of such vectors would be a hundred times the student's, so pairs are scored, once each, by the library's own
`similarity`: the sum over the query's tokens of each one's greatest cosine with a token of the document (MaxSim), or an
inner product. Prompts, length of queries and their expansion are the model's own. A document longer than the view's
window is read in overlapping ones; its score is the best window's.

A bi-encoder, such as the student itself, may teach by the token vectors that it pools: the mean over a
query's tokens, weighted by their idf in the corpus, since nothing has taught such a model which words matter
(docs/ablations/multi_vector.md). In BGE-M3 a model's three kinds of scores teach each of them.

Khattab and Zaharia 2020 (ColBERT); Formal et al. 2021 (SPLADE); Chen et al. 2024 (BGE-M3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sdretrieval.encode.batches import usual_batch_tokens
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.loading import (
    UNUSED,
    check_known,
    check_vocabulary,
    check_weights,
    embedded_tokens,
    loaded,
    reason_of,
)
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.model_files import check_has_vectors_of, pools_tokens
from sdretrieval.encode.pace import Pace
from sdretrieval.encode.student import torch_device
from sdretrieval.encode.views import View
from sdretrieval.errors import ModelError
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array
from sdretrieval.teachers.dense import EVERY_WINDOW
from sdretrieval.teachers.pair_teacher import Pair, PairTeacher, check_finite_scores
from sdretrieval.teachers.pairs import PairCache, pair_key

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SparseEncoder

    Model = MultiVectorEncoder | SparseEncoder

logger = logging.getLogger("sdretrieval")

Kind = Literal["multi_vector", "sparse"]
ASYMMETRY: dict[Kind, str] = {
    "multi_vector": "compares each token of the query with every token of the document; the student has a vector each",
    "sparse": "weighs the words of both texts, and words that go with them, over a whole vocabulary",
}
PAIRS_PER_SHARD = 2048
"""A killed run loses at most this many scored pairs. Queries are encoded once a shard, and held."""
WINDOWS_AT_ONCE, COMPARED_AT_ONCE = 64, 512
"""Bound the memory of the vectors of documents, and of the comparisons."""
COUNTED = 20_000
"""Documents that an idf is counted in."""


class MultiVectorTeacher(PairTeacher):
    """A model on this machine. `view`: of documents, never wider than the model's own limit. `idf_V`: weights of the
    tokens of a query; None: all alike. `precision`: of the network's matrix products; scores are summed in float32."""

    def __init__(
        self,
        model: Model,
        *,
        kind: Kind,
        name: str,
        query_text: Callable[[int], str],
        document_text: Callable[[int], str],
        cache: PairCache,
        view: View,
        batch_tokens: int | None = None,
        idf_V: Array | None = None,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(name=name, query_text=query_text, document_text=document_text, cache=cache)
        self._idf_V, self._precision = idf_V, precision
        self.asymmetry = f"{ASYMMETRY[kind]}{f'; {EVERY_WINDOW}' if view.windows == 'all' else ''}"
        self._model = model
        self._view = replace(view, max_tokens=min(view.max_tokens, document_limit(model) or view.max_tokens))
        # An empty document still has its special tokens and its prompt.
        self._around = max(_token_count(model, "a") - 1, 0)
        budget = batch_tokens or usual_batch_tokens(model.device.type)
        self._settings: dict[str, Any] = {
            "batch_size": max(1, budget // self._view.max_tokens), "show_progress_bar": False,
        }  # fmt: skip
        if kind == "sparse":  # a row a text, of which any may be taken: few at a time
            self._settings["convert_to_sparse_tensor"] = False

    def _score_new(self, keys: Sequence[bytes], pair: Callable[[int], Pair]) -> None:
        check_known(
            self.name, self._model.tokenizer, [pair(n)[1] for n in range(min(len(keys), COMPARED_AT_ONCE))],
            "the documents",
        )  # fmt: skip
        # A document is in the lists of many queries: in this order one encoding serves them all.
        order = sorted(range(len(keys)), key=lambda position: pair_key("", pair(position)[1]))
        what = f"score with {self.name}"
        with Progress(what, len(keys), "pairs") as progress, Pace(what, self._model.device.type) as pace:
            for start in range(0, len(order), PAIRS_PER_SHARD):
                shard = order[start : start + PAIRS_PER_SHARD]
                pairs = [pair(position) for position in shard]
                scores = self._scores(pairs, pace)
                check_finite_scores(self.name, scores, pairs)
                self._cache.add([keys[position] for position in shard], scores)
                progress.advance(len(shard))

    def _scores(self, pairs: Sequence[Pair], pace: Pace) -> Array:
        """The best window's score of each pair, float32."""
        queries = {query: place for place, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
        of_queries = self._query_vectors(list(queries))
        asking: dict[str, list[int]] = {}
        for position, (_, document) in enumerate(pairs):
            asking.setdefault(document, []).append(position)
        scores = np.full(len(pairs), -np.inf, dtype=np.float32)
        for windows, owners in self._blocks(list(asking)):
            of_windows = self._encoded(self._model.encode_document, windows)
            compared = [(at, window) for window, document in enumerate(owners) for at in asking[document]]
            for start in range(0, len(compared), COMPARED_AT_ONCE):
                some = compared[start : start + COMPARED_AT_ONCE]
                found = self._model.similarity_pairwise(
                    _some(of_queries, [queries[pairs[at][0]] for at, _ in some]),
                    _some(of_windows, [window for _, window in some]),
                )
                with np.errstate(invalid="ignore"):  # NaN goes on as NaN, and is reported with its pair
                    np.maximum.at(scores, [at for at, _ in some], found.float().cpu().numpy())
            pace.step(sum(map(len, windows)))
        return scores

    def _query_vectors(self, queries: list[str]) -> Any:
        """Of each its tokens' vectors, as long as they count, 1 on average; or a row of the vocabulary's weights."""
        import torch

        if self._idf_V is None:
            return self._encoded(self._model.encode_query, queries)
        idf_V, vectors = torch.from_numpy(self._idf_V).float(), []
        for one in self._encoded(self._model.encode_query, queries, output_value=None):
            read = one["attention_mask"].bool()
            weights = idf_V.to(read.device)[one["input_ids"][read]]
            vectors.append(one["token_embeddings"][read].float() * (weights / weights.mean())[:, None])
        return vectors

    def _encoded(self, encode: Callable[..., Any], texts: list[str], **more: Any) -> Any:
        """What the library makes of texts: a list of matrices or of dictionaries, or one matrix."""
        import torch

        reduced = self._precision == "bfloat16"
        with torch.autocast(self._model.device.type, torch.bfloat16, enabled=reduced):
            vectors = encode(texts, **self._settings, **more)
        if not reduced or more:
            return vectors
        return [one.float() for one in vectors] if isinstance(vectors, list) else vectors.float()

    def _blocks(self, documents: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
        """Windows as texts, and the document of each, some `WINDOWS_AT_ONCE` at a time."""
        windows: list[str] = []
        owners: list[str] = []
        for document in documents:
            for window in self._windows(document):
                windows.append(window)
                owners.append(document)
                if len(windows) == WINDOWS_AT_ONCE:
                    yield windows, owners
                    windows, owners = [], []
        if windows:
            yield windows, owners

    def _windows(self, document: str) -> list[str]:
        """A document that fits stays whole. A window of a longer one may gain a token where a word is cut, and lose its
        last; the next window has that too."""
        found = self._model.tokenizer(document, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans = found["offset_mapping"]
        cuts = self._view.spans(len(spans), self._around)
        if cuts == [(0, len(spans))]:
            return [document]
        return [document[spans[start][0] : spans[end - 1][1]] for start, end in cuts]


def _some(vectors: Any, places: list[int]) -> Any:
    """Of a list of each text's vectors, or of a matrix with a row for each text."""
    return [vectors[place] for place in places] if isinstance(vectors, list) else vectors[places]


def document_limit(model: Model) -> int | None:
    """Tokens of a document that the model reads, all included; None if nothing says so."""
    own = [getattr(model[0], "document_length", None), model.max_seq_length]
    return min((int(one) for one in own if one), default=None)


def _token_count(model: Model, text: str) -> int:
    """Of a document as the model reads it, with what it puts around."""
    prompt = next((model.prompts[name] for name in ("document", "passage", "corpus") if model.prompts.get(name)), None)
    return len(model.preprocess([text], prompt=prompt, task="document")["input_ids"][0])


def token_idf(model: Model, texts: Sequence[str]) -> Array:
    """Inverse document frequency (V,) of each token, as BM25 has it, in at most some `COUNTED` of the texts."""
    rows, df_V = range(0, len(texts), max(1, len(texts) // COUNTED)), np.zeros(len(model.tokenizer))
    for start in range(0, len(rows), WINDOWS_AT_ONCE):
        some = [texts[row] for row in rows[start : start + WINDOWS_AT_ONCE]]
        for ids in model.tokenizer(some, verbose=False)["input_ids"]:
            df_V[list(set(ids))] += 1
    return np.asarray(np.log1p((len(rows) - df_V + 0.5) / (df_V + 0.5)))


def load_multi_vector(
    name: str, kind: Kind, *, device: str = "auto", trust_remote_code: bool = False
) -> tuple[Model, str]:
    """The model in float32 and its digest. Raises ModelError if it is absent, damaged, of another kind, or has another
    model's tokenizer."""
    from sentence_transformers import MultiVectorEncoder, SparseEncoder

    folder, where = locate_model(name), torch_device(device)
    check_has_vectors_of(kind, name, folder)
    make: Callable[..., Model] = SparseEncoder
    if kind == "multi_vector":
        make = _token_vectors if pools_tokens(folder) else MultiVectorEncoder
    model = loaded(
        f"model {name!r} in {folder} does not load as a teacher of kind: {kind}",
        lambda: make(str(folder), device=where, trust_remote_code=trust_remote_code),
        unused=UNUSED,
    )
    check_weights(name, model)
    check_vocabulary(name, model.tokenizer, embedded_tokens(model))
    model = model.float()
    try:  # of unequal length: one is padded
        model.similarity_pairwise(
            model.encode_query(["a", "a"], show_progress_bar=False),
            model.encode_document(["b", "b c d e"], show_progress_bar=False),
        )
    except Exception as problem:
        raise ModelError(f"{kind} teacher {name!r} cannot score a pair: {reason_of(problem)}") from problem
    if limit := document_limit(model):
        logger.info("%s %s reads at most %d tokens of a document at once", kind, name, limit)
    return model, model_digest(folder)


def _token_vectors(folder: str, **settings: Any) -> MultiVectorEncoder:
    """What a bi-encoder pools, each of length 1."""
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    pooled = SentenceTransformer(folder, **settings)
    modules = [pooled[0], MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
    prompts = {side: prompt for side, prompt in pooled.prompts.items() if prompt}
    return MultiVectorEncoder(
        modules=modules, device=settings["device"], prompts=prompts, similarity_fn_name="meanmaxsim"
    )
