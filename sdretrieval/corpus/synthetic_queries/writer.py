"""A seq2seq model that writes a query for a document (docT5query, Nogueira and Lin 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sdretrieval.corpus.synthetic_queries.recipe import Writer
from sdretrieval.errors import ModelError

MOST_INPUT_TOKENS, MOST_QUERY_TOKENS = 384, 48
TOP_K = 10
"""Sampled from the best ten words at each step, as docT5query does: the single best query of a document is dull."""
TEXTS_AT_ONCE = 16


def load_writer(folder: Path, prompt: str, seed: int, device: str) -> Writer:
    """A function from document texts to one query each; `prompt` is put before every text, as the model was trained.

    What it writes depends on `seed` and the texts alone. Raises ModelError where `folder` holds no seq2seq model.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        model = AutoModelForSeq2SeqLM.from_pretrained(str(folder)).to(device).eval()
    except (OSError, ValueError, KeyError) as problem:
        raise ModelError(
            f"corpus.generate.model: {folder} does not load as a seq2seq model that writes queries: {problem}; choose "
            "one such as doc2query/msmarco-t5-small-v1"
        ) from problem

    def write(texts: Sequence[str]) -> list[str]:
        found: list[str] = []
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                block = [prompt + text for text in texts[start : start + TEXTS_AT_ONCE]]
                features = tokenizer(
                    block, truncation=True, max_length=MOST_INPUT_TOKENS, padding=True, return_tensors="pt"
                ).to(device)
                written = model.generate(**features, max_new_tokens=MOST_QUERY_TOKENS, do_sample=True, top_k=TOP_K)
                found += [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
        return found

    return write
