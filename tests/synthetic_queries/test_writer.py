"""A seq2seq model of a few weights writes queries: repeatable, one for each text."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdretrieval.errors import ModelError
from sdretrieval.synthetic_queries import load_writer


@pytest.fixture(scope="module")
def tiny_writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("writer")
    words = ["<pad>", "</s>", "<unk>", *(f"w{n}" for n in range(40))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = T5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_one_query_a_text_and_the_same_each_time(tiny_writer: Path) -> None:
    texts = [f"w{n} w{n + 1} w{n + 2}" for n in range(20)]
    writer = load_writer(tiny_writer, "w3 ", seed=5, device="cpu")
    written = writer(texts)
    assert len(written) == 20 and len(set(written)) > 1
    assert load_writer(tiny_writer, "w3 ", seed=5, device="cpu")(texts) == written
    assert load_writer(tiny_writer, "w3 ", seed=6, device="cpu")(texts) != written


def test_a_folder_that_holds_no_writer(tiny_student: Path) -> None:
    with pytest.raises(ModelError, match=r"corpus\.generate\.writer\.model: .* does not load as a seq2seq model"):
        load_writer(tiny_student, "", seed=1, device="cpu")
