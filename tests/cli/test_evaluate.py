"""`evaluate` and `compare`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sdretrieval.cli.lookup import lengths_of
from sdretrieval.encode.common_form import write_common_form
from sdretrieval.encode.student import load_student, save_student
from sdretrieval.files import write_text
from tests.cli.conftest import Call, Finished

MEASURES = ["nDCG@10", "Recall@100", "MAP@10"]


def test_evaluate_gives_what_sentence_transformers_and_beir_give(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path, call: Call
) -> None:
    from beir.retrieval.evaluation import EvaluateRetrieval
    from sentence_transformers import SentenceTransformer

    asked = ["--measures", ",".join(MEASURES), "--runs", tmp_path, "--json", "-"]
    found = call("evaluate", tiny_student, "--corpus", tiny_corpus, *asked).json()
    lines = [json.loads(line) for line in (tiny_corpus / "corpus.jsonl").read_text().splitlines()]
    texts = {line["_id"]: f"{line['title']} {line['text']}" for line in lines}
    asked_of = {q["_id"]: q["text"] for q in map(json.loads, (tiny_corpus / "queries.jsonl").read_text().splitlines())}
    rows = [row.split("\t") for row in (tiny_corpus / "qrels" / "test.tsv").read_text().splitlines()[1:]]
    qrels = {query: {document: int(grade)} for query, document, grade in rows}
    model = SentenceTransformer(str(tiny_student), device="cpu")
    documents = model.encode(list(texts.values()), normalize_embeddings=True)
    results = {}
    for query in qrels:
        scores = documents @ model.encode(asked_of[query], normalize_embeddings=True)
        results[query] = dict(zip(texts, map(float, scores), strict=True))
    ndcg, mean_precision, recall, _ = EvaluateRetrieval.evaluate(qrels, results, [10, 100])
    expected = {"nDCG@10": ndcg["NDCG@10"], "Recall@100": recall["Recall@100"], "MAP@10": mean_precision["MAP@10"]}
    measured = found["measures"][str(tiny_student)]
    assert {name: round(measured[name], 5) for name in MEASURES} == expected
    assert found["n_queries"] == len(qrels)


def test_evaluate_agrees_with_the_run_itself(
    finished: Finished, tiny_corpus: Path, tiny_student: Path, call: Call
) -> None:
    report = json.loads((finished.runs / "tiny" / "report.json").read_text())
    done = call(
        "evaluate", "tiny", "--corpus", tiny_corpus, "--against", f"hybrid:{tiny_student}", "--max-tokens", 64,
        "--runs", finished.runs, "--json", "-",
    )  # fmt: skip
    found = done.json()
    pairs = {"bm25": "bm25", "tiny": "final", "hybrid:tiny": "hybrid_final", f"hybrid:{tiny_student}": "hybrid_0"}
    assert found["systems"] == list(pairs)
    for system, reported in pairs.items():
        assert found["measures"][system] == pytest.approx(report["measures"][reported], abs=1e-9)
    assert [(test["a"], test["b"]) for test in found["tests"]] == [("tiny", b) for b in pairs if b != "tiny"]
    assert all(test["p_holm"] >= test["p"] for test in found["tests"])


def test_evaluate_keeps_vectors_and_writes_json_beside_the_table(
    finished: Finished, tiny_corpus: Path, tmp_path: Path, call: Call
) -> None:
    arguments = ["evaluate", "tiny", "--corpus", tiny_corpus, "--split", "dev", "--runs", finished.runs]
    first = call(*arguments, "--json", tmp_path / "answer.json")
    made = sorted((finished.runs / "store" / "artifacts").glob("*/*"))
    assert call(*arguments, "--json", "-").json() == json.loads((tmp_path / "answer.json").read_text())
    assert sorted((finished.runs / "store" / "artifacts").glob("*/*")) == made
    assert "hybrid:tiny" in first.out
    assert "difference: tiny minus the system of the row, in nDCG@10" in first.out


def test_bm25_alone_needs_no_model(tiny_corpus: Path, tmp_path: Path, call: Call) -> None:
    found = call("evaluate", "bm25", "--corpus", tiny_corpus, "--runs", tmp_path, "--json", "-").json()
    assert found["systems"] == ["bm25"]
    assert found["measures"]["bm25"]["nDCG@10"] > 0.8


def test_compare_is_a_paired_test_whose_sign_follows_the_order(finished: Finished, call: Call) -> None:
    other = ["--set", "name=gentle", "--set", "train.learning_rate=1e-4", "--set", "train.epochs=1"]
    assert call("run", finished.config, "--runs", finished.runs, *other).code == 0
    found = call("compare", "tiny", "gentle", "--runs", finished.runs, "--json").json()
    back = call("compare", "gentle", "tiny", "--runs", finished.runs, "--json").json()
    row = found["tests"][0]
    assert (row["system"], row["measure"]) == ("final", "nDCG@10")
    assert row["difference"] == pytest.approx(row["value_a"] - row["value_b"])
    assert row["difference"] > 0.1
    assert row["verdict"] == "gain"
    assert back["tests"][0]["difference"] == pytest.approx(-row["difference"])
    assert back["tests"][0]["verdict"] == "loss"
    assert "difference: tiny minus gentle" in call("compare", "tiny", "gentle", "--runs", finished.runs).out
    both = ["compare", "tiny", "gentle", "--runs", finished.runs, "--json", "--system"]
    before = call(*both, "student_0").json()["tests"]
    assert {one["system"] for one in before} == {"student_0"} and before[0]["difference"] == 0
    assert "--system student_9: not in both runs; both have: bm25, student_0" in call(*both, "student_9").err


def test_runs_over_other_texts_are_not_compared(
    finished: Finished, tiny_corpus: Path, call: Call, tmp_path: Path
) -> None:
    """The ids are the same, and the judgements."""
    other = Path(shutil.copytree(tiny_corpus, tmp_path / "tiny"))
    texts = (other / "corpus.jsonl").read_text()
    (other / "corpus.jsonl").write_text(texts.replace(" the ", " a ", 1))
    settings = ["--set", f"corpus.source={other}", "--set", "name=edited", "--set", "train.epochs=0.1"]
    assert call("run", finished.config, "--runs", finished.runs, *settings).code == 0
    done = call("compare", "tiny", "edited", "--runs", finished.runs)
    assert done.code == 2
    assert "but their documents or judgements differ: the corpus changed in between" in done.err


def test_what_is_no_plain_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink() and (tmp_path / "real.json").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        write_text(tmp_path / "pipe", "through")
        assert reader.communicate(timeout=30)[0] == "through"
    assert not (tmp_path / "pipe").is_file()


def test_a_folder_is_no_file_for_json(tiny_corpus: Path, call: Call, tmp_path: Path) -> None:
    done = call("evaluate", "bm25", "--corpus", tiny_corpus, "--json", tmp_path)
    assert done.code == 2 and "that is a folder; name a file in it" in done.err


def test_evaluate_through_a_compressed_index(finished: Finished, tiny_corpus: Path, call: Call) -> None:
    common = ("evaluate", "tiny", "--corpus", tiny_corpus, "--runs", finished.runs, "--json", "-")
    exact, coarse = (
        json.loads(call(*common, *more).out) for more in ((), ("--index", "{kind: 'IVF8,Flat', nprobe: 1}"))
    )
    assert exact["index"]["kind"] == "exact" and coarse["index"]["nprobe"] == 1
    name = exact["model"]
    assert coarse["measures"][name]["Recall@100"] < exact["measures"][name]["Recall@100"]
    assert coarse["measures"]["bm25"] == exact["measures"]["bm25"]


def test_an_index_that_the_vectors_do_not_fit_is_refused_before_they_are_made(
    finished: Finished, tiny_corpus: Path, tmp_path: Path, call: Call
) -> None:
    model = finished.runs / "tiny" / "student"
    done = call("evaluate", model, "--corpus", tiny_corpus, "--index", "{kind: PQ7}", "--runs", tmp_path)
    assert done.code == 2 and "32 dims can be cut into 1, 2, 4, 8, 16, 32 parts" in done.err
    kept = [json.loads(file.read_text())["stage"] for file in (tmp_path / "store").rglob("manifest.json")]
    assert not [stage for stage in kept if "vectors" in stage], kept


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("nowhere.yaml", "--index nowhere.yaml: there is no such file; expected a recipe or its text"),
        ("{kind: PQ16, rescored: 4}", "index.rescored"),
        ("{kind: [", "--index, line 1, column 9: broken YAML"),
    ],
)
def test_a_recipe_that_is_none(recipe: str, message: str, tiny_corpus: Path, call: Call) -> None:
    done = call("evaluate", "bm25", "--corpus", tiny_corpus, "--index", recipe)
    assert done.code == 2 and message in done.err


def test_a_base_is_read_as_a_run_reads_it_and_a_saved_student_as_it_was_measured(
    tiny_student: Path, tmp_path: Path
) -> None:
    assert lengths_of(tiny_student) == (128, 128), "its positions, which are fewer than a run's 256"
    save_student(
        load_student(str(tiny_student), max_tokens=40, query_tokens=12, device="cpu").model, tmp_path / "saved"
    )
    write_common_form(tmp_path / "saved")
    assert lengths_of(tmp_path / "saved") == (40, 12)
    assert lengths_of(tmp_path / "saved", 64, 16) == (64, 16)


def test_evaluate_says_how_much_it_reads_and_how_many_texts_are_longer(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path, call: Call
) -> None:
    for _ in range(2):  # the second time, the vectors are there
        done = call(
            "evaluate", tiny_student, "--corpus", tiny_corpus, "--split", "dev", "--max-tokens", 32,
            "--query-tokens", 8, "--runs", tmp_path,
        )  # fmt: skip
        assert f"{tiny_student} reads 32 tokens of a document, 8 of a query" in done.out
        assert "20 of 20 queries are longer than the 8 tokens that it reads" in done.err
        assert "40 of 120 documents are longer than the 32 tokens that it reads" in done.err
