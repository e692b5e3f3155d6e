"""The clients that people have, unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.export.bundle import export_bundle
from sdretrieval.export.searcher import Searcher

TEXTS = ["the ore in oslo", "dough and yeast"]


def need(package: str, install: str) -> Any:
    return pytest.importorskip(package, reason=f"{install} is not installed: pip install {install}")


@pytest.fixture(scope="module")
def address(serve: Any, folder: Path) -> str:
    return str(serve(folder, key="secret").base_url).rstrip("/") + "/v1"


@pytest.fixture(scope="module")
def wanted(folder: Path) -> Any:
    return Searcher.open(folder, device="cpu").encoder.documents(TEXTS)


def test_openai(address: str, wanted: Any) -> None:
    openai = need("openai", "openai")
    with openai.OpenAI(base_url=address, api_key="secret", max_retries=0) as client:
        made = client.embeddings.create(input=TEXTS, model="tiny")  # it asks for base64
        np.testing.assert_allclose([one.embedding for one in made.data], wanted, atol=1e-6)
        assert made.usage.total_tokens > 4
        short = client.embeddings.create(input=TEXTS[0], model="tiny", dimensions=4)
        assert len(short.data[0].embedding) == 4
        with pytest.raises(openai.UnprocessableEntityError, match="expected at most that"):
            client.embeddings.create(input="x", model="tiny", dimensions=4000)
    other = openai.OpenAI(base_url=address, api_key="wrong", max_retries=0)
    with other, pytest.raises(openai.AuthenticationError, match="the key is missing or wrong"):
        other.embeddings.create(input="x", model="tiny")


def test_langchain(address: str, wanted: Any) -> None:
    langchain = need("langchain_openai", "langchain-openai")
    made = langchain.OpenAIEmbeddings(
        base_url=address, api_key="secret", model="tiny", check_embedding_ctx_length=False
    ).embed_documents(TEXTS)
    np.testing.assert_allclose(made, wanted, atol=1e-6)


def test_llama_index(address: str, wanted: Any) -> None:
    llama = need("llama_index.embeddings.openai_like", "llama-index-embeddings-openai-like")
    client = llama.OpenAILikeEmbedding(model_name="tiny", api_base=address, api_key="secret")
    np.testing.assert_allclose(client.get_text_embedding_batch(TEXTS), wanted, atol=1e-6)


def test_qdrant_with_the_exported_vectors(given: dict[str, Any], tmp_path: Path) -> None:
    qdrant = need("qdrant_client", "qdrant-client")
    from pyarrow import parquet

    export_bundle(tmp_path / "out", **given, vectors=["parquet"])
    table = parquet.read_table(tmp_path / "out" / "vectors.parquet")
    client = qdrant.QdrantClient(":memory:")
    size, models = len(table["vector"][0]), qdrant.models
    client.create_collection("mine", vectors_config=models.VectorParams(size=size, distance=models.Distance.DOT))
    points = [
        models.PointStruct(id=n, vector=row["vector"], payload={"id": row["id"], "title": row["title"]})
        for n, row in enumerate(table.to_pylist())
    ]
    client.upsert("mine", points)
    searcher = Searcher.open(tmp_path / "out", device="cpu")
    vector = searcher.encoder.queries(TEXTS[:1])[0].tolist()
    found = client.query_points("mine", query=vector, limit=5).points
    assert [point.payload["id"] for point in found] == [hit.document_id for hit in searcher.search(TEXTS[0], 5)]
    client.close()
