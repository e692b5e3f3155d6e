"""The prompts of a model are found, kept, and put before the same text alike on every way that it can take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from sdretrieval.cli.evaluate import evaluate_models
from sdretrieval.cli.export import export_run
from sdretrieval.cli.lookup import Serving
from sdretrieval.cli.search import search
from sdretrieval.config import Config, parse_config
from sdretrieval.corpus import Corpus, load_corpus, open_corpus, write_beir
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.prompts import Prompts
from sdretrieval.export.encoders import torch_encoder
from sdretrieval.export.searcher import Searcher
from sdretrieval.ragged import Array
from sdretrieval.run.api import plan_config, run_config
from sdretrieval.store import Store
from sdretrieval.teachers.ema import LiveEma
from sdretrieval.training.distillation import ListwiseDistillation
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, keys_of

QUERY, DOCUMENT = "where is: ", "dust: "
LIVE = {"kind": "ema", "mode": "live", "view": {"windows": "first"}, "weight": 0.5}
ONE_BY_ONE = ("student.batch_tokens=1", "train.queries_per_batch=1", "train.epochs=0.1")
"""Batches of one text: in a batch of another size the last bits of a vector differ, whatever the prompt."""

Seen = dict[str, list[tuple[str, Array]]]


def one_test_query(folder: Path, target: Path) -> Path:
    """A copy of a collection with a single test query, so that `evaluate` has a batch of one as well."""
    copy = Path(shutil.copytree(folder, target))
    lines = (copy / "qrels" / "test.tsv").read_text().splitlines()
    (copy / "qrels" / "test.tsv").write_text("\n".join(lines[:2]) + "\n")
    return copy


def with_prompts(folder: Path, target: Path, **card: Any) -> Path:
    """A copy of a model whose files say `card` of prompts."""
    copy = Path(shutil.copytree(folder, target))
    path = copy / "config_sentence_transformers.json"
    said = {name: value for name, value in json.loads(path.read_text()).items() if name != "prompts"}
    path.write_text(json.dumps(said | card))
    return copy


class Watch:
    """Notes what training gives to student and live teacher: the query of each batch, as the untrained model sees it.

    It computes with the very features that they get.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.student: dict[int, Array] = {}
        self.live: list[Array] = []
        forward, matrix = ListwiseDistillation.forward, LiveEma.matrix

        def watched_forward(loss: Any, features: list[dict[str, Any]], labels: dict[str, torch.Tensor]) -> Any:
            if not self.student:  # before the first update
                loss.model.eval()
                with torch.no_grad():
                    vectors = loss.model(dict(features[0]))["sentence_embedding"].numpy()
                self.student[int(labels["queries_B"][0])] = vectors[0]
                loss.model.train()
            return forward(loss, features, labels)

        def watched_matrix(teacher: LiveEma, queries: list[dict[str, Any]], documents: Any) -> Any:
            if not self.live:
                with torch.no_grad():
                    self.live.append(teacher.network(dict(queries[0]))["sentence_embedding"].numpy()[0])
            return matrix(teacher, queries, documents)

        monkeypatch.setattr(ListwiseDistillation, "forward", watched_forward)
        monkeypatch.setattr(LiveEma, "matrix", watched_matrix)


def query_of(folder: Path, address: str, row: int) -> Array:
    """A query's vector in an encode stage, which mining, probe and evaluation read."""
    return np.asarray(Embeddings.load(artifact(folder, address) / "queries").vectors_WD[row])


def assert_every_way_agrees(config: Config, runs: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run and export `config`; the same text must have the same vector, to the bit, on every way. Gives the report."""
    watch = Watch(monkeypatch)
    result = run_config(config, runs=runs)
    assert result is not None
    corpus = load_corpus(artifact(result.folder, "0/corpus") / "corpus")
    ((row, trained),) = watch.student.items()
    base = query_of(result.folder, "1/encode", row)
    np.testing.assert_array_equal(trained, base, err_msg="training")
    np.testing.assert_array_equal(watch.live[0], base, err_msg="live teacher")
    serving = Serving.of(result.folder)
    text = corpus.query_texts([row])[0]
    np.testing.assert_array_equal(
        torch_encoder(serving.student(base=True)).queries([text])[0], base, err_msg="search --base"
    )
    assert_served_alike(result.folder, runs, corpus)
    return dict(result.report)


def assert_served_alike(folder: Path, runs: Path, corpus: Corpus) -> None:
    """The final student in the store, in `search`, `evaluate`, a bundle, and sentence-transformers alone."""
    (row,) = corpus.split_rows("test")
    query, document = corpus.query_texts([row])[0], corpus.document_texts([0])[0]
    final = query_of(folder, "final/encode", row)
    documents = Embeddings.load(artifact(folder, "final/encode") / "documents").vectors_WD
    bundle = folder.parent / "bundle"
    export_run(folder.name, bundle, runs=runs)
    opened = Searcher.open(bundle, device="cpu")
    ways = {
        "search": torch_encoder(Serving.of(folder).student()).queries([query])[0],
        "evaluate": evaluated_query(folder, runs),
        "bundle": opened.encoder.queries([query])[0],
    }
    for where in (folder / "student", bundle):
        plain = SentenceTransformer(str(where), device="cpu")
        ways[f"{where}, sentence-transformers"] = plain.encode_query([query])[0]
        found = plain.encode_document([document])[0]
        np.testing.assert_array_equal(found, documents[0], err_msg="document")
    for way, vector in ways.items():
        np.testing.assert_array_equal(vector, final, err_msg=way)
    np.testing.assert_array_equal(opened.encoder.documents([document])[0], documents[0])
    best = search(folder.name, query, 1, runs=runs).hits[0]
    assert [best.document_id, best.score] == [opened.search(query, 1)[0].document_id, opened.search(query, 1)[0].score]


def evaluated_query(folder: Path, runs: Path) -> Array:
    """The vector that `evaluate RUN` kept of the only test query."""
    config = parse_config(json.loads((folder / "serving.json").read_text())["config"])
    evaluate_models(folder.name, config.corpus.source, runs=runs)
    store = Store(runs / "store")
    made = [
        path.parent
        for path in sorted(store.root.glob("artifacts/*/*/manifest.json"))
        if json.loads(path.read_text()).get("identity", {}).get("side") == "queries:test"
    ]
    assert len(made) == 1
    return np.asarray(Embeddings.load(made[0]).vectors_WD[0])


@pytest.mark.parametrize("train", ["both", "query"])
def test_the_same_text_has_the_same_vector_on_every_way(
    make_config: MakeConfig, tiny_corpus: Path, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    train: str,
) -> None:  # fmt: skip
    source = one_test_query(tiny_corpus, tmp_path / "corpus")
    card = {"prompts": {"search_query": QUERY, "passage": DOCUMENT}, "default_prompt_name": "passage"}
    model = with_prompts(tiny_student, tmp_path / "prompted", **card)
    members = [LIVE, {"kind": "lexical", "weight": 0.5}]
    config = make_config(
        f"corpus.source={source}", f"student.model={model}", f"student.train={train}", *ONE_BY_ONE,
        teacher={"kind": "ensemble", "members": members},
    )  # fmt: skip
    assert_every_way_agrees(config, tmp_path / "runs", monkeypatch)
    assert json.loads((tmp_path / "runs" / "tiny" / "serving.json").read_text())["prompts"] == {
        "query": QUERY,
        "document": DOCUMENT,
    }
    settings = ['student.prompts.query=""', 'student.prompts.document=""', "name=bare"]
    bare = run_config(
        make_config(f"corpus.source={source}", f"student.model={model}", *settings),
        runs=tmp_path / "runs", until="1/encode",
    )  # fmt: skip
    assert bare is None
    folder = tmp_path / "runs" / "bare"
    assert keys_of(folder)["0/tokens"] == keys_of(tmp_path / "runs" / "tiny")["0/tokens"]
    others = [query_of(tmp_path / "runs" / name, "1/encode", 0) for name in ("bare", "tiny")]
    assert np.abs(others[0] - others[1]).max() > 1e-3


def test_published_prompts_reach_later_generations(make_config: MakeConfig, tiny_student: Path, tmp_path: Path) -> None:
    model = with_prompts(tiny_student, tmp_path / "e5-small-v2")
    config = make_config(f"student.model={model}", "generations=2", "train.epochs=0.4", "train.later_epochs=0.2")
    assert run_config(config, runs=tmp_path / "runs") is not None
    folder = tmp_path / "runs" / "tiny"
    for place in (folder, artifact(folder, "1/train"), artifact(folder, "2/train")):
        card = json.loads((place / "student" / "config_sentence_transformers.json").read_text())
        assert card["prompts"] == {"query": "query: ", "document": "passage: "}


def test_the_prompts_themselves_are_in_the_keys_wherever_they_come_from(
    make_config: MakeConfig, tiny_student: Path, tmp_path: Path
) -> None:
    def prompts_in_key(model: Path) -> Any:
        runs = tmp_path / f"runs-{model.name}"
        run_config(make_config(f"student.model={model}"), runs=runs, until="1/encode")
        ledger = [json.loads(line) for line in (runs / "tiny" / "ledger.jsonl").read_text().splitlines()]
        return next(line["identity"]["prompts"] for line in ledger if line["stage"] == "1/encode")

    named = with_prompts(tiny_student, tmp_path / "named", prompts={"query": QUERY})
    assert prompts_in_key(tiny_student) == ["", ""]
    assert prompts_in_key(named) == [QUERY, ""]
    other = with_prompts(tiny_student, tmp_path / "other", prompts={"passage": DOCUMENT})
    assert prompts_in_key(other) == ["", DOCUMENT]
    published = with_prompts(tiny_student, tmp_path / "nomic-embed-text-v1.5")
    assert prompts_in_key(published) == ["search_query: ", "search_document: "]


def test_a_plan_says_which_prompts_are_used_and_which_are_left_unused(
    make_config: MakeConfig, tiny_student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import logging

    monkeypatch.setattr(logging.getLogger("sdretrieval"), "propagate", True)
    used = with_prompts(tiny_student, tmp_path / "bge-small-en-v1.5")
    unused = with_prompts(tiny_student, tmp_path / "again" / "e5-base-v2", prompts={"query": "", "document": ""})
    with caplog.at_level(logging.INFO, logger="sdretrieval"):
        plan_config(make_config(f"student.model={used}"), runs=tmp_path)
        plan_config(make_config(f"student.model={unused}"), runs=tmp_path)
        said = list(caplog.messages)
        caplog.clear()
        plan_config(make_config(), runs=tmp_path)
    assert any("query 'Represent this sentence for searching relevant passages: ' (published" in line for line in said)
    assert any("e5-base-v2 was published with query prompt 'query: '" in line for line in said)
    assert not any("prompt" in line for line in caplog.messages)


def cut_scifact(corpus: Corpus, folder: Path) -> Path:
    """20 dev queries, 2 of train and one of test with their documents, and others up to 24."""
    judged = corpus.qrels["test"]
    asked = [query for query in judged if any(d in corpus.document_row for d in judged[query])][:23]
    wanted = [d for query in asked for d in judged[query]]
    kept = list(dict.fromkeys([*wanted, *corpus.document_ids]))[:24]
    parts = {"dev": asked[:20], "train": asked[20:22], "test": asked[22:]}
    qrels = {split: {query: judged[query] for query in queries} for split, queries in parts.items()}
    documents = corpus.documents.select(sorted(corpus.document_row[d] for d in kept))
    queries = corpus.queries.select([corpus.query_row[query] for query in asked])
    write_beir(Corpus("cut", documents, queries, qrels), folder)
    return folder


@pytest.mark.real
def test_bge_small_with_its_published_prompt(
    real_model: Callable[[str], Path], real_data: Callable[[str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its query prompt changes the figure, and mining, training, evaluation and the exported student agree."""
    source = cut_scifact(open_corpus(str(real_data("scifact"))), tmp_path / "cut")
    settings = {
        "name": "bge",
        "corpus": {"source": str(source)},
        "student": {
            "model": str(real_model("bge-small-en-v1.5")),
            "max_tokens": 32,
            "query_tokens": 32,
            "device": "cpu",
        },
        "mine": {"depth": 12, "keep": 6},
        "teacher": {"kind": "ensemble", "members": [LIVE, {"kind": "lexical", "weight": 0.5}]},
        "train": {"candidates_per_query": 4, "precision": "float32"},
        "probe": {"guard": False},
        "gate": {"tolerance": 1},  # the student is taken as it is: no merges to encode
        "evaluate": {"controls": []},
    }
    report = assert_every_way_agrees(parse_config(settings, ONE_BY_ONE), tmp_path / "runs", monkeypatch)
    recorded = json.loads((tmp_path / "runs" / "bge" / "serving.json").read_text())["prompts"]
    assert Prompts(**recorded) == Prompts("Represent this sentence for searching relevant passages: ", "")
    bare = parse_config(settings, ['student.prompts.query=""', "name=bare"])
    run_config(bare, runs=tmp_path / "runs", until="1/evaluate:dev")
    measured = json.loads((artifact(tmp_path / "runs" / "bare", "1/evaluate:dev") / "measured.json").read_text())
    without = np.mean(list(measured["per_query"]["nDCG@10"].values()))
    assert abs(without - report["dev_measures"]["student_0"]["nDCG@10"]) > 1e-6
