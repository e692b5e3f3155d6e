"""The corpus from Python's own library: what a document and a query are, and that nothing leaks across splits."""

from __future__ import annotations

import textwrap
from itertools import combinations
from pathlib import Path

import pytest

from sdretrieval.corpus import Corpus, build_stdlib, normalised, repeated_queries
from sdretrieval.corpus.read.python_stdlib import fragments, summary, unit_of
from sdretrieval.corpus.text import jaccard, shingles_of, words_of
from sdretrieval.errors import CorpusError


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build_stdlib(max_documents=300)


def source_of(text: str) -> dict[str, str]:
    return {fragment.qualified_name: fragment.text for fragment in fragments(textwrap.dedent(text))}


def test_docstrings_are_cut_and_bodies_dedented() -> None:
    documents = source_of('''
        class Box:
            """A box that
            holds things."""
            size = 3

            @property
            def height(self):
                "How high it is."
                def inner():
                    """Inner words, é."""
                    return "é"

                return inner()

            def empty(self): """Nothing."""; return 0
    ''')
    assert documents["Box"] == "class Box:\n    size = 3\n\n    @property\n    def height(self):\n    def empty(self):"
    assert documents["Box.height"] == (
        '@property\ndef height(self):\n    def inner():\n        return "é"\n\n    return inner()'
    )
    assert documents["Box.empty"] == "def empty(self): return 0"


def test_definitions_under_conditions_are_found_and_those_in_functions_are_not() -> None:
    documents = source_of("""
        try:
            import fast
        except ImportError:
            def slow():
                def helper(): pass
        else:
            async def quick(): pass
    """)
    assert list(documents) == ["slow", "quick"]


@pytest.mark.parametrize(
    ("docstring", "name", "expected"),
    [
        (
            "Return the ``length`` of a :class:`Box`.  More here.\n\nAnd a paragraph.",
            "f",
            "Return the length of a Box.",
        ),
        (
            "raw_decode(s, idx=0) -> (object, end)\n\nDecode the start of a string.",
            "D.raw_decode",
            "Decode the start of a string.",
        ),
        ("L.insert(i, x) -- put x in before i", "L.insert", "put x in before i"),
        ("Add them up. Then return the sum.", "f", "Add them up. Then return the sum."),
        ("Split at every comma\n>>> f('a,b')\n['a', 'b']", "f", "Split at every comma"),
        ("Make things of two words.\n:param x: first", "f", "Make things of two words."),
        ("Too short.", "f", ""),
        ("Get the raw value of the header.", "Header.get_raw_value", ""),
        ("atext = <matches _atext_matcher> or so", "f", ""),
    ],
)
def test_the_summary_of_a_docstring(docstring: str, name: str, expected: str) -> None:
    assert summary(docstring, name) == expected


def test_a_private_twin_belongs_to_the_unit_of_the_public_module() -> None:
    assert [unit_of(m) for m in ("json.decoder", "_pyio", "io", "_pydecimal", "_py_abc")] == [
        "json",
        "io",
        "io",
        "decimal",
        "abc",
    ]


def test_counts_shares_and_titles(corpus: Corpus) -> None:
    assert len(corpus.documents) == 300
    sizes = {split: len(judged) for split, judged in corpus.qrels.items()}
    share = {split: size / sum(sizes.values()) for split, size in sizes.items()}
    assert share == pytest.approx({"train": 0.6, "dev": 0.15, "test": 0.25}, abs=0.08)
    for identifier, title in zip(corpus.document_ids, corpus.documents["title"], strict=True):
        assert title == identifier.partition("#")[0].replace(":", " ", 1)


def test_no_document_tells_its_own_query(corpus: Corpus) -> None:
    for split in corpus.qrels:
        for row in corpus.split_rows(split):
            [query] = corpus.query_texts([row])
            assert len(query.split()) >= 4
            for text in corpus.documents.select(corpus.positives(split, row))["text"]:
                assert normalised(query) not in normalised(text)


def test_splits_share_no_module_and_no_near_duplicates(corpus: Corpus) -> None:
    units = {
        split: {unit_of(document.partition(":")[0]) for judged in qrels.values() for document in judged}
        for split, qrels in corpus.qrels.items()
    }
    assert not repeated_queries(corpus)
    for left, right in combinations(corpus.qrels, 2):
        assert not units[left] & units[right]
        for make, kind in ((words_of, "queries"), (shingles_of, "documents")):
            ours, theirs = ([make(text) for text in texts_of(corpus, split, kind)] for split in (left, right))
            assert all(jaccard(one, other) < 0.8 for one in ours for other in theirs)


def texts_of(corpus: Corpus, split: str, kind: str) -> list[str]:
    rows = corpus.split_rows(split)
    if kind == "queries":
        return corpus.query_texts(rows)
    positives = sorted({document for row in rows for document in corpus.positives(split, row)})
    return list(corpus.documents.select(positives)["text"])


def test_tests_and_generated_and_vendored_code_are_left_out(corpus: Corpus) -> None:
    modules = {identifier.partition(":")[0] for identifier in corpus.document_ids}
    unwanted = {"test", "tests", "site-packages", "encodings", "pydoc_data", "_bundled", "idle_test"}
    assert not [module for module in modules if unwanted & set(module.split("."))]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Forty modules with a function that has a docstring and one that has none, and one module of another's tests."""
    verbs = ("opens", "closes", "paints", "weighs", "counts")
    nouns = ("doors", "boxes", "ships", "apples", "clouds", "letters", "stones", "wheels")
    for number, (verb, noun) in enumerate((verb, noun) for verb in verbs for noun in nouns):
        plain = "def plain():\n    a = 1\n    return a\n"
        docstring = f'"""Something that {verb} {noun} number{number}."""'
        told = f'def told_{number}():\n    {docstring}\n    return "{verb}", "{noun}"\n'
        (tmp_path / f"m{number}.py").write_text(told + plain)
    same = 'def same_{n}():\n    """Says one thing in two modules."""\n    return {n}\n'
    (tmp_path / "m0.py").write_text(same.format(n=1) + same.format(n=2))
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "m99.py").write_text('def f():\n    """A test is no document."""\n')
    (tmp_path / "made.py").write_text(
        '# This file is generated by make.\ndef f():\n    """Made code is no document."""\n'
    )
    (tmp_path / "broken.py").write_text("def f(:\n")
    return tmp_path


def test_the_same_library_gives_the_same_corpus_and_another_seed_another(library: Path) -> None:
    first, again, other = (build_stdlib(30, seed, library) for seed in (1, 1, 2))
    assert first.digest == again.digest != other.digest


def test_documented_definitions_come_first_then_distractors(library: Path) -> None:
    corpus = build_stdlib(60, library=library)
    judged = {d for qrels in corpus.qrels.values() for grades in qrels.values() for d in grades}
    assert len(judged) == 41
    assert len(corpus.documents) == 60
    assert all(identifier.endswith(":plain") for identifier in set(corpus.document_ids) - judged)
    assert not {i for i in corpus.document_ids if i.partition(":")[0] in {"tests.m99", "made", "broken"}}


def test_one_summary_of_two_documents_is_one_query_with_two_positives(library: Path) -> None:
    corpus = build_stdlib(100, library=library)
    row = corpus.query_texts().index("Says one thing in two modules.")
    [positives] = [p for split in corpus.qrels if (p := corpus.positives(split, row))]
    assert [corpus.document_ids[p] for p in positives] == ["m0:same_1", "m0:same_2"]


def test_a_query_told_in_two_splits_is_left_out_of_both(library: Path) -> None:
    twin = '\ndef twin():\n    """Do it all over once more."""\n    return 1, 2\n'
    for path in library.glob("m*.py"):
        path.write_text(path.read_text() + twin)
    assert "Do it all over once more." not in build_stdlib(200, library=library).query_texts()


def test_a_folder_without_source(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no documented Python source to build python-stdlib from"):
        build_stdlib(library=tmp_path)
