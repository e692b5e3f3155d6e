"""A cross-encoder as a teacher: it reads query and document together, which no bi-encoder can.

Raw logits in float32 (a sigmoid saturates near 1, in bfloat16 it rounds good candidates to exactly 1). On a GPU the
matrix products inside run on its TF32 units, several times as fast: sums stay float32, factors have 10 bits, and logits
differ in the third digit after the point. A document longer than the model's limit is read in overlapping windows; its
logit is the best window's. Nogueira and Cho (2019).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from sdretrieval.encode.batches import budget_batches, usual_batch_tokens
from sdretrieval.encode.loading import (
    check_known,
    check_vocabulary,
    check_weights,
    embedded_tokens,
    loaded,
    reason_of,
)
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.model_files import check_is_reranker, check_one_output
from sdretrieval.encode.pace import Pace
from sdretrieval.encode.student import check_positions, positions_of, torch_device
from sdretrieval.errors import ModelError
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array
from sdretrieval.teachers.pair_teacher import Pair, PairTeacher, check_finite_scores
from sdretrieval.teachers.pair_windows import PairWindows, prompt_of
from sdretrieval.teachers.pairs import PairCache

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

logger = logging.getLogger("sdretrieval")

PAIRS_PER_SHARD = 512
"""A killed run loses at most this many scored pairs."""


class CrossEncoderTeacher(PairTeacher):
    """A model on this machine."""

    asymmetry = "reads query and document together, token against token"

    def __init__(
        self,
        model: CrossEncoder,
        *,
        name: str,
        query_text: Callable[[int], str],
        document_text: Callable[[int], str],
        cache: PairCache,
        max_tokens: int = 512,
        windows: Literal["first", "all"] = "first",
        stride: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        super().__init__(name=name, query_text=query_text, document_text=document_text, cache=cache)
        self._model, self._windows = model, PairWindows(model, max_tokens, windows, stride)
        self._batch_tokens = batch_tokens or usual_batch_tokens(model.device.type)

    def _score_new(self, keys: Sequence[bytes], pair: Callable[[int], Pair]) -> None:
        some = [pair(position)[1] for position in range(min(len(keys), PAIRS_PER_SHARD))]
        check_known(self.name, self._model.tokenizer, some, "the documents")
        what = f"score with {self.name}"
        with Progress(what, len(keys), "pairs") as progress, Pace(what, self._model.device.type) as pace:
            for start in range(0, len(keys), PAIRS_PER_SHARD):
                shard = keys[start : start + PAIRS_PER_SHARD]
                pairs = [pair(position) for position in range(start, start + len(shard))]
                logits = self._logits(pairs, progress.advance, pace)
                check_finite_scores(self.name, logits, pairs)
                self._cache.add(shard, logits)

    def _logits(self, pairs: Sequence[Pair], advance: Callable[[int], None], pace: Pace) -> Array:
        """The best window's logit of each pair."""
        import torch
        from sentence_transformers.util import batch_to_device

        model, device = self._model, self._model.device
        model.eval()
        logits = np.full(len(pairs), -np.inf, dtype=np.float32)
        for encoded, owners in self._windows.blocks(pairs):
            count = int(owners[-1] - owners[0]) + 1
            done = reported = 0
            for batch in budget_batches([len(ids["input_ids"]) for ids in encoded], self._batch_tokens):
                features = batch_to_device(self._windows.features([encoded[i] for i in batch]), device)
                with torch.inference_mode(), tf32_on(device.type):
                    scores = model(features)["scores"].float().reshape(len(batch), -1)[:, 0]
                with np.errstate(invalid="ignore"):  # NaN goes on as NaN, and is reported with its pair
                    np.maximum.at(logits, owners[batch], scores.cpu().numpy())
                # By work: windows of one length share a batch, so that most pairs end in the last batches.
                done, before = done + len(batch), reported
                reported = count * done // len(encoded)
                advance(reported - before)
                pace.step(sum(len(encoded[i]["input_ids"]) for i in batch))
        return logits


@contextmanager
def tf32_on(device: str) -> Iterator[None]:
    """Inside, float32 matrix products of a GPU may use its TF32 units; other devices and code outside are untouched."""
    import torch

    if device != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def load_cross_encoder(
    name: str, *, max_tokens: int, device: str = "auto", trust_remote_code: bool = False
) -> tuple[CrossEncoder, str]:
    """The model in float32 and its digest. Raises ModelError if it is absent, damaged, no reranker, has another model's
    tokenizer, or is too short."""
    import torch
    from sentence_transformers import CrossEncoder

    folder, where = locate_model(name), torch_device(device)
    check_is_reranker(name, folder)
    model = loaded(
        f"model {name!r} in {folder} does not load as a cross-encoder",
        lambda: CrossEncoder(
            str(folder), device=where, activation_fn=torch.nn.Identity(), trust_remote_code=trust_remote_code
        ),
    )
    check_one_output(name, model.num_labels)
    check_positions(name, positions_of(model[0]), max_tokens)
    check_weights(name, model)
    check_vocabulary(name, model.tokenizer, embedded_tokens(model))
    model = model.float()
    try:  # two of unequal length: one is padded
        model.predict([("a", "b"), ("a", "b c d e")], show_progress_bar=False)
    except Exception as problem:
        raise ModelError(f"cross-encoder {name!r} cannot score a pair: {reason_of(problem)}") from problem
    PairWindows(model, max_tokens).check_room(name)
    if prompt := prompt_of(model):
        logger.info("cross-encoder %s reads each pair with its own prompt %r", name, prompt)
    if model.device.type == "cuda":
        logger.info("cross-encoder %s scores in TF32 on %s", name, torch.cuda.get_device_name(model.device))
    return model, model_digest(folder)
