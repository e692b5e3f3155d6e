"""BM25 weights are those of bm25s, to the bit, whatever the size of a block."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.indexes import bm25
from sdretrieval.indexes.bm25 import bm25_weights, numbered

TERMS = 12
DOCUMENTS = st.lists(st.lists(st.integers(0, TERMS - 1), max_size=20), min_size=1, max_size=15).filter(any)


@settings(max_examples=40, deadline=None)
@given(documents=DOCUMENTS, k1=st.sampled_from([0.0, 0.9, 1.5]), b=st.sampled_from([0.0, 0.4, 1.0]))
@pytest.mark.parametrize("block", [2, 8192])
def test_weights_are_those_of_bm25s(block: int, documents: list[list[int]], k1: float, b: float) -> None:
    model = bm25s.BM25(method="lucene", k1=k1, b=b)
    model.index((documents, {str(n): n for n in range(TERMS)}), create_empty_token=False, show_progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bm25, "DOCUMENTS_AT_ONCE", block)
        found = bm25_weights(numbered(documents), TERMS, k1, b).tocsc()
    assert found.shape == (len(documents), TERMS)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found, name), model.scores[name])


def test_weights_stand_by_document_and_then_by_term() -> None:
    found = bm25_weights(numbered([[3, 1, 1], [], [2]]), 5, 0.9, 0.4)
    assert found.has_canonical_format and found.indices.tolist() == [1, 3, 2] and found.indptr.tolist() == [0, 2, 2, 3]
    assert (found.indices.dtype, found.indptr.dtype, found.dtype) == (np.int32, np.int32, np.float32)
