"""Search by vectors, by words and by both, from a bundle: what a run's rows measure is what is served."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from sdretrieval.errors import RequestError
from sdretrieval.evaluation import run_from_hits
from sdretrieval.evaluation.fusion import absolute
from sdretrieval.export.bundle import export_bundle
from sdretrieval.export.documents import GROUP, IndexedDocuments, Passages
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.verify import verify_bundle
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.targets.calibrate import mean_spread


@pytest.fixture(scope="module")
def lexical(given: dict[str, Any]) -> LexicalIndex:
    documents = given["documents"]
    return LexicalIndex.build([documents.full_text(row) for row in range(len(documents))])


@pytest.fixture(scope="module")
def searcher(given: dict[str, Any], lexical: LexicalIndex, tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    folder = tmp_path_factory.mktemp("modes") / "bundle"
    export_bundle(folder, **given, lexical=lexical)
    return Searcher.open(folder, device="cpu")


def test_hybrid_search_gives_what_a_runs_hybrid_row_measures(
    searcher: Searcher, given: dict[str, Any], lexical: LexicalIndex
) -> None:
    queries, ids = given["canary_queries"], given["documents"].ids
    names = [str(n) for n in range(len(queries))]
    dense = run_from_hits(names, ids, *given["index"].search(searcher.encoder.queries(queries), 100))
    words = run_from_hits(names, ids, *lexical.search(queries, 100))
    assert searcher.spread == pytest.approx(mean_spread(np.array(list(one.values())) for one in dense.values()))
    wanted = absolute(dense, words, dict(zip(names, lexical.norm(queries).tolist(), strict=True)))
    for name, query in list(zip(names, queries, strict=True))[:20]:
        hits = searcher.search(query, 20, "hybrid")
        best = list(wanted[name].items())[:20]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in best], abs=1e-4)
        assert {hit.document_id for hit in hits[:10]} <= set(list(wanted[name])[:12]), "but for ties"


def test_lexical_search_finds_only_documents_that_share_a_word(searcher: Searcher, lexical: LexicalIndex) -> None:
    hits = searcher.search("ore", 1000, "lexical")
    assert 0 < len(hits) < 120 and all("ore" in f"{hit.title} {hit.text}".lower() for hit in hits)
    assert hits[0].score == pytest.approx(float(lexical.search(["ore"], 1).scores_Qk[0, 0]))
    assert searcher.search("zzz qqq", 5, "lexical") == []
    assert [hit.probability for hit in hits[:2]] == [None, None]


def test_a_vector_that_is_there_already_is_not_made_again(searcher: Searcher) -> None:
    vector_D = searcher.encoder.queries(["the ore in oslo"])[0]
    for mode in ("dense", "hybrid"):
        same = searcher.search("the ore in oslo", 5, mode, vector_D)
        assert same == searcher.search("the ore in oslo", 5, mode)
    assert searcher.search("the ore in oslo", 5, "dense", -vector_D) != searcher.search("the ore in oslo", 5)


def test_modes_that_are_not_there_are_refused(searcher: Searcher, bundle: Path) -> None:
    assert searcher.modes == ("dense", "lexical", "hybrid")
    bare = Searcher.open(bundle, device="cpu")
    assert bare.modes == ("dense",)
    with pytest.raises(RequestError, match=r"mode 'hybrid': expected dense; BM25 is not there: .* without texts"):
        bare.search("ore", 3, "hybrid")
    with pytest.raises(RequestError, match=r"mode 'sparse': expected dense or lexical or hybrid$"):
        searcher.search("ore", 3, "sparse")  # type: ignore[arg-type]


def test_vectors_for_other_stores_are_those_of_the_index(given: dict[str, Any], tmp_path: Path) -> None:
    export_bundle(tmp_path / "out", **given, vectors=["parquet", "npy"])
    matrix_ND = np.load(tmp_path / "out" / "vectors.npy")
    np.testing.assert_array_equal(matrix_ND, given["vectors_ND"])
    table, documents = parquet.read_table(tmp_path / "out" / "vectors.parquet"), given["documents"]
    assert table.column_names == ["id", "title", "text", "vector"]
    assert (
        table.column("id").to_pylist() == list(documents.ids) == json.loads((tmp_path / "out" / "ids.json").read_text())
    )
    assert table.column("text").to_pylist() == list(documents.texts)
    np.testing.assert_array_equal(np.stack(table.column("vector").to_numpy()), matrix_ND)
    assert verify_bundle(tmp_path / "out").ok
    # A search reads neither, so it does not take their digests.
    (tmp_path / "out" / "vectors.npy").write_bytes(b"")
    assert Searcher.open(tmp_path / "out", device="cpu").search("ore", 1)
    assert not verify_bundle(tmp_path / "out").ok
    export_bundle(tmp_path / "bare", **given, vectors=["parquet"], include_texts=False)
    assert parquet.read_table(tmp_path / "bare" / "vectors.parquet").column_names == ["id", "vector"]
    with pytest.raises(RequestError, match="--vectors faiss: expected npy or parquet"):
        export_bundle(tmp_path / "x", **given, vectors=["faiss"])


def test_passages_are_read_in_any_order_by_several_threads(tmp_path: Path) -> None:
    count = 3 * GROUP + 5
    written = IndexedDocuments(
        [f"d{n}" for n in range(count)], [f"title {n}" for n in range(count)], ["text " * n for n in range(count)]
    )
    written.write(tmp_path)
    passages = Passages(tmp_path)
    assert len(passages) == count
    rows = np.random.default_rng(1).permutation(np.repeat(np.arange(count), 5)).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(passages.passage, rows)) == [written.passage(row) for row in rows]
    assert (tmp_path / "documents.parquet").stat().st_size < sum(map(len, written.texts)) / 3, "compressed"
