"""Rerankers of every make: scored as the library's own `predict` does, and cut in the document alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdretrieval.encode.model_files import check_is_reranker
from sdretrieval.errors import ModelError
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher, load_cross_encoder
from sdretrieval.teachers.pair_windows import BORDERS, PairWindows
from sdretrieval.teachers.pairs import PairCache
from tests.helpers import tiny

Model = Any

QUERY = "where is the dough oven aberdeen?"
SHORT = [(QUERY, "loaf dough"), (QUERY, ""), ("mast?", "the anchor is in the harbour near bergen."), (" x ", " crew ")]
DOCUMENT_FIRST = (
    "<|start|>{% for role in ['document', 'query', 'system'] %}"
    "{{ messages | selectattr('role', 'eq', role) | map(attribute='content') | first | default('-') }}<|end|>"
    "{% endfor %}<|start|>answer\n"
)


def write_pooled(folder: Path, outputs: int = 1) -> Path:
    """A ModernBERT with a pooled vector that a dense layer turns into scores, as the Ettin rerankers are."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertTokenizer, ModernBertConfig, ModernBertModel

    raw = folder.with_name(f"{folder.name}-raw")
    raw.mkdir()
    entries = tiny.vocabulary()
    (raw / "vocab.txt").write_text("\n".join(entries) + "\n", encoding="utf8")
    config = ModernBertConfig(
        vocab_size=len(entries), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ModernBertModel(config).save_pretrained(raw)
        BertTokenizer(vocab=str(raw / "vocab.txt"), model_max_length=128).save_pretrained(raw)
        words = Transformer(str(raw))
        head = Dense(32, outputs, activation_function=torch.nn.Identity(), module_input_name="sentence_embedding",
                     module_output_name="scores")  # fmt: skip
        pooling = Pooling(words.get_embedding_dimension(), pooling_mode="mean")
        CrossEncoder(modules=[words, pooling, head], device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_cross_encoder: Path) -> dict[str, Path]:
    import shutil

    folder = tmp_path_factory.mktemp("rerankers")
    prompted = Path(shutil.copytree(tiny_cross_encoder, folder / "prompted"))
    card = prompted / "config_sentence_transformers.json"
    settings = card.read_text().replace('"prompts": {}', '"prompts": {"query": "the storm in "}')
    card.write_text(settings.replace('"default_prompt_name": null', '"default_prompt_name": "query"'))
    made = {
        "classifier": Path(shutil.copytree(tiny_cross_encoder, folder / "classifier")),
        "prompted": prompted,
        "pooled": write_pooled(folder / "pooled"),
        "yes or no": tiny.write_yes_no_reranker(folder / "yes_no"),
        "instructed": tiny.write_yes_no_reranker(folder / "instructed", prompt="Find the harbour."),
        "document first": tiny.write_yes_no_reranker(folder / "first", DOCUMENT_FIRST, prompt="Find the harbour."),
    }
    for made_folder in made.values():
        opinionated(made_folder)
    return made


def opinionated(folder: Path) -> None:
    """A random model's scores hardly differ from pair to pair: ten times its weights make them differ."""
    from safetensors.torch import load_file, save_file

    for file in folder.rglob("*.safetensors"):
        weights = load_file(file)
        larger = {name: 10 * one if one.dim() == 2 and "embed" not in name else one for name, one in weights.items()}
        save_file(larger, file, {"format": "pt"})


@cache
def loaded_once(folder: Path) -> Model:
    return load(folder)


def load(folder: Path, max_tokens: int = 128) -> Model:
    return load_cross_encoder(str(folder), max_tokens=max_tokens, device="cpu")[0]


def scores(model: Model, pairs: list[tuple[str, str]], folder: Path, **settings: Any) -> np.ndarray[Any, Any]:
    teacher = CrossEncoderTeacher(
        model,
        name="judge",
        query_text=str,
        document_text=str,
        cache=PairCache(folder),
        **{"max_tokens": 128} | settings,
    )
    return teacher.score_texts(pairs)


def by_library(folder: Path, pairs: list[tuple[str, str]], max_tokens: int) -> np.ndarray[Any, Any]:
    import torch
    from sentence_transformers import CrossEncoder

    library = CrossEncoder(str(folder), device="cpu", max_length=max_tokens)
    return library.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)


MAKES = ["classifier", "prompted", "pooled", "yes or no", "instructed", "document first"]


@pytest.mark.parametrize("make", MAKES)
def test_scores_are_those_of_the_librarys_predict(make: str, folders: dict[str, Path], tmp_path: Path) -> None:
    found = scores(load(folders[make]), SHORT, tmp_path)
    np.testing.assert_allclose(found, by_library(folders[make], SHORT, 128), rtol=1e-4, atol=1e-4)
    assert np.ptp(found) > 0.01
    alone = scores(load(folders[make]), SHORT, tmp_path / "alone", batch_tokens=1)
    np.testing.assert_allclose(alone, found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", ["classifier", "prompted", "pooled", "yes or no", "instructed"])
def test_a_long_documents_first_window_is_what_the_library_leaves_of_it(
    make: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    pairs = [(QUERY, record["text"]) for record in tiny.documents()[:4]]
    found = scores(load(folders[make], 96), pairs, tmp_path, max_tokens=96)
    np.testing.assert_allclose(found, by_library(folders[make], pairs, 96), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", ["yes or no", "instructed", "document first"])
@pytest.mark.parametrize("windows", ["first", "all"])
def test_no_template_and_no_query_is_cut_for_a_document(make: str, windows: Any, folders: dict[str, Path]) -> None:
    model, document = load(folders[make]), " ".join(f"storm{number}" for number in range(200))
    read = PairWindows(model, 128, windows, stride=20)
    ((encoded, owners),) = read.blocks([(QUERY, document)])
    texts = [model.tokenizer.decode(one["input_ids"]) for one in encoded]
    uncut = model.tokenizer.decode(model.preprocess([(QUERY, "@")], prompt=read._prompt)["input_ids"][0])
    before, _, after = uncut.partition("@")
    assert all(text.startswith(before) and text.endswith(after) for text in texts)
    assert all(100 < len(one["input_ids"]) <= 128 for one in encoded[:-1]) and set(owners) == {0}
    seen = [text[len(before) : len(text) - len(after)] for text in texts]
    assert document.startswith(seen[0])
    if windows == "all":
        assert len(seen) > 5 and document.endswith(seen[-1])
        assert all(f"storm{number}" in "".join(seen) for number in range(200))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    query=st.lists(st.sampled_from(tiny.PLACES), max_size=12),
    document=st.lists(st.sampled_from([*"abé漢 ", " ", "\n", "oven", "<|end|>", "Dough-9"]), max_size=150),
    max_tokens=st.integers(90, 200),
    stride=st.none() | st.integers(1, 90),
)
def test_windows_of_a_template_show_every_character_within_the_limit(
    query: list[str], document: list[str], max_tokens: int, stride: int | None, folders: dict[str, Path]
) -> None:
    read = PairWindows(loaded_once(folders["instructed"]), max_tokens, "all", stride)
    asked, text = " ".join(query), "".join(document)
    pieces = read._pieces(asked, text)
    too_long = len(read._spans(asked)) > (max_tokens - read._around) // 2
    seen, end = set[int](), 0
    for own, piece in pieces:
        assert own == asked or (too_long and asked.startswith(own)), "only a query of more than half the room is cut"
        start = text.index(piece, max(end - len(piece), 0)) if piece else 0
        assert start <= end, "no gap"
        end = start + len(piece)
        seen |= set(range(start, end))
    assert end == len(text) or text[end:].isspace()
    lengths = [len(one["input_ids"]) for one in read._templated(pieces)]
    assert lengths[0] <= max_tokens + BORDERS and max(lengths[1:], default=0) <= max_tokens, "so cutting leaves no gap"


def test_more_windows_of_a_template_never_lower_a_score(folders: dict[str, Path], tmp_path: Path) -> None:
    model, pairs = load(folders["instructed"]), [(QUERY, record["text"]) for record in tiny.documents()[::3][:5]]
    first = scores(model, pairs, tmp_path / "first")
    every = scores(model, pairs, tmp_path / "all", windows="all", stride=16)
    assert (every - first).min() > -1e-4 and (every - first).max() > 0.01


def test_a_query_that_leaves_no_room_is_cut_with_its_document(folders: dict[str, Path]) -> None:
    model = load(folders["yes or no"])
    ((encoded, _),) = PairWindows(model, 128).blocks([("mast " * 300, "anchor " * 300)])
    text = model.tokenizer.decode(encoded[0]["input_ids"])
    assert len(encoded) == 1 and len(encoded[0]["input_ids"]) <= 128 and text.endswith("<|start|>answer")
    assert text.count("mast") > 5 and text.count("anchor") > 5


def test_what_a_template_leaves_is_checked(folders: dict[str, Path]) -> None:
    with pytest.raises(
        ModelError, match=r"template of \d+ tokens, max_tokens is 40; set max_tokens to at least \d+, and"
    ):
        load(folders["yes or no"], 40)


def test_a_template_without_places_for_a_pair_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    chat = "{% for m in messages if m.role == 'user' %}<|start|>{{ m.content }}<|end|>{% endfor %}"
    tiny.write_yes_no_reranker(tmp_path / "chat", chat)
    with pytest.raises(
        ModelError, match=r"cannot score a pair: The chat template of .* cannot carry a 'query'/'document'"
    ):
        load(tmp_path / "chat")


def test_a_language_model_that_nobody_made_a_reranker_is_refused(folders: dict[str, Path]) -> None:
    raw = folders["yes or no"].with_name("yes_no-raw")
    with pytest.raises(
        ModelError, match=r"is a language model \(Qwen3ForCausalLM\), and nothing in its files says which"
    ):
        check_is_reranker("raw", raw)


def test_a_pooled_model_with_several_classes_is_refused(tmp_path: Path) -> None:
    write_pooled(tmp_path / "three", outputs=3)
    with pytest.raises(ModelError, match=r"three' has 3 outputs, expected 1 relevance logit; choose a reranker"):
        load(tmp_path / "three")
