"""Passages: what they may hold, where they end, and that an edit changes no far ones."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus.read.documents.blocks import WORD, Block, Kind, Parsed, word_count
from sdretrieval.corpus.read.documents.cut import Passage, cut, cut_blocks
from sdretrieval.corpus.read.documents.markdown import parse_markdown


def passages(text: str, max_words: int = 160, overlap_words: int = 32) -> list[Passage]:
    return list(cut(parse_markdown(text), "name", max_words, overlap_words))


def sentence(words: int, start: int = 0) -> str:
    return "S " + " ".join(f"w{start + number}" for number in range(words - 1)) + "."


def prose(paragraphs: int, seed: int = 13) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(sentence(rng.randint(5, 20), rng.randrange(10**6)) for _ in range(rng.randint(1, 5)))
        for _ in range(paragraphs)
    ]


WORDS = st.lists(st.sampled_from(["a", "bc", "def.", "g!", "日本。", "H"]), min_size=1, max_size=40).map(" ".join)
BLOCKS = st.lists(
    st.one_of(
        st.builds(Block, st.just(Kind.HEADING), WORDS, st.integers(1, 4)),
        st.builds(Block, st.sampled_from([Kind.PARAGRAPH, Kind.LIST_ITEM, Kind.TABLE_ROW]), WORDS),
        st.builds(Block, st.just(Kind.CODE), st.lists(WORDS, max_size=5).map("\n".join)),
    ),
    max_size=20,
)


@settings(max_examples=300, deadline=None)
@given(blocks=BLOCKS, max_words=st.integers(1, 60), share=st.floats(0, 0.5))
def test_every_word_is_in_a_passage_and_none_is_too_long(blocks: list[Block], max_words: int, share: float) -> None:
    found = list(cut(Parsed(blocks), "name", max_words, int(share * max_words)))
    held = " ".join(f"{passage.title} {passage.text}" for passage in found)
    assert {word for block in blocks for word in WORD.findall(block.text)} <= set(WORD.findall(held))
    assert all(0 < word_count(passage.text) <= max_words for passage in found)
    assert len({passage.key for passage in found}) == len(found)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(WORDS, min_size=1, max_size=12), max_words=st.integers(2, 60))
def test_without_overlap_the_passages_are_the_text(texts: list[str], max_words: int) -> None:
    cuts = list(cut_blocks([Block(Kind.PARAGRAPH, text) for text in texts], max_words, 0))
    assert "".join("".join(cuts).split()) == "".join("".join(texts).split())


def test_neighbours_share_whole_sentences_up_to_the_overlap() -> None:
    text = " ".join(sentence(10, start) for start in range(0, 600, 10))
    found = [passage.text for passage in passages(text)]
    assert len(found) > 3
    for left, right in pairwise(found):
        shared = next(size for size in range(len(right), -1, -1) if left.endswith(right[:size].strip()))
        assert word_count(right[:shared]) == 30, "three sentences of ten words: a fourth would be over 32"


def test_no_passage_crosses_a_heading_and_the_title_is_the_path() -> None:
    long = sentence(60)
    text = f"# Book\n\nIntro {long}\n\n## One\n\n{long}\n\n### Inner\n\nDeep {long}\n\n## Two\n\nOther {long}"
    assert [passage.title for passage in passages(text)] == ["Book", "Book > One", "Book > One > Inner", "Book > Two"]


def test_small_sections_stay_with_the_sections_in_them() -> None:
    text = "# Book\n\n" + sentence(50) + "\n\n## Small\n\na b\n\n### Inner\n\nc d\n\n## Next\n\ne f"
    assert [(passage.title, passage.text) for passage in passages(text)][1:] == [
        ("Book > Small", "a b\nInner\nc d"),
        ("Book > Next", "e f"),
    ]


def test_headings_with_nothing_below_are_said_by_the_section_above() -> None:
    text = "# Book\n\n" + sentence(50) + "\n\n## 1.0\n\n## 0.9\n\n## 0.8\n\nold things"
    assert [(passage.title, passage.text[-7:]) for passage in passages(text)] == [
        ("Book", "1.0\n0.9"),
        ("Book > 0.8", "old things"[-7:]),
    ]


def test_without_one_top_heading_the_title_is_the_metadatas_or_the_files() -> None:
    blocks = parse_markdown("# A\n\n" + sentence(50) + "\n\n# B\n\n" + sentence(50, 100)).blocks
    titles = [[p.title for p in cut(Parsed(blocks, title), "file", 160, 32)] for title in ("", "Meta")]
    assert titles == [["file > A", "file > B"], ["Meta > A", "Meta > B"]]


def test_equal_passages_are_numbered() -> None:
    long = sentence(50)
    keys = [passage.key for passage in passages(f"# A\n\n{long}\n\n# B\n\nx\n\n# A\n\n{long}\n\n# A\n\n{long}")]
    assert keys[2:] == [f"{keys[0]}-2", f"{keys[0]}-3"]


def test_code_is_cut_at_lines_and_keeps_its_indentation() -> None:
    lines = [f"    x{number} = call({number})" for number in range(100)]
    found = passages("# Code\n\n```\nif x:\n" + "\n".join(lines) + "\n```", 60, 0)
    assert (
        "\n".join(passage.text for passage in found).split("\n").count("    x50 = call(50)")
        + sum(passage.text.startswith("x50") for passage in found)
        == 1
    )


def test_an_edit_changes_only_passages_nearby() -> None:
    before = prose(400)
    for place in (0, 100, 200):
        after = [*before[:place], "A new paragraph that says something.", *before[place:]]
        old, new = ({p.key for p in passages("\n\n".join(text))} for text in (before, after))
        assert len(new - old) <= 0.06 * len(new), f"{len(new - old)} of {len(new)} changed"


def test_an_edit_of_a_section_changes_no_other_section_and_a_new_title_none() -> None:
    long = sentence(60)
    text = f"# Book\n\n## One\n\n{long}\n\n## Two\n\n{long}"
    one, two = (passage.key for passage in passages(text))
    assert [passage.key for passage in passages(text.replace("# Book", "# Novel", 1))] == [one, two]
    assert passages(text.replace("w7 ", "seven ", 1))[1].key == two


def test_a_sentence_too_long_for_a_passage_is_cut_between_words() -> None:
    found = passages(sentence(1000), 160, 32)
    assert all(word_count(passage.text) <= 160 for passage in found)
    assert len(found) < 10
