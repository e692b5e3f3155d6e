"""The study of the student's token vectors: what it measures is what the teacher scores, and half of the queries judge
what the others choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import multi_vector
from benchmarks.multi_vector import Reader, maxsim
from benchmarks.search_teachers import load
from sdretrieval.encode.views import View
from sdretrieval.teachers.multi_vector import MultiVectorTeacher, load_multi_vector, token_idf
from sdretrieval.teachers.pairs import PairCache
from tests.helpers.tiny import write_random_vectors


def test_the_study_scores_as_the_teacher_does(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> None:
    write_random_vectors(tiny_corpus, tmp_path / "random" / tiny_corpus.name)
    case, reader = load(tiny_corpus, "random", tmp_path, 3), Reader(str(tiny_student))
    documents = list(case.document_texts[:9])
    own, _ = load_multi_vector(str(tiny_student), "multi_vector", device="cpu")
    idf_V = token_idf(own, case.document_texts)
    np.testing.assert_allclose(reader.idf(case.document_texts), idf_V)
    teacher = MultiVectorTeacher(
        own, kind="multi_vector", name="own", query_text=str, document_text=str, cache=PairCache(tmp_path / "pairs"),
        view=View(multi_vector.TOKENS), idf_V=idf_V,
    )  # fmt: skip
    for text in case.texts:
        found = maxsim(reader, text, documents, idf_V)["last layer, own tokens by idf"]
        expected = teacher.score_texts([(text, document) for document in documents])
        assert found == pytest.approx(expected, abs=0.02), "bfloat16, and without special tokens"
        assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_half_of_the_queries_judge_what_the_others_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, values = np.random.default_rng(0), []
    plain = chance.random(40)
    for system, pays in (("helps", 0.1), ("is luck", 0.0)):
        for share in (0.0, 0.5):
            ndcg = plain + (pays if share else 0) + 0.2 * (share > 0) * (not pays) * chance.normal(size=40)
            values += [{"system": system, "share": share, "weight": w, "ndcg": ndcg.tolist()} for w in (0.0, 0.5, 0.75)]
        values += [{"system": system, "share": 1.0, "weight": 0.0, "ndcg": plain.tolist()}]
    monkeypatch.setattr(multi_vector, "SAMPLES", 200)
    monkeypatch.setattr(multi_vector, "beside", lambda found: iter(()))
    table = multi_vector.tables([{"collection": "one", "model": "m", "values": values}])
    lines = {line.split(" | ")[0]: line for line in table.splitlines()}
    assert "+0.100*" in lines["| helps"].split("\n")[-1]
    assert abs(float(lines["| is luck"].split(" | ")[-1].strip(" |"))) < 0.1
