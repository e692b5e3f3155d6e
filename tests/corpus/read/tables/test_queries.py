"""Queries, judgements, topics and query logs: good, broken and large ones, and the text of every error."""

from __future__ import annotations

import html
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus import import_corpus, read_beir, training_queries, write_beir
from sdretrieval.corpus.read.report import Tally
from sdretrieval.corpus.read.tables import (
    Imported,
    QuerySources,
    import_documents,
    read_role,
    split_and_source,
    with_queries,
)
from sdretrieval.corpus.read.tables.queries import read_topics
from sdretrieval.errors import CorpusError
from tests.corpus.read.tables.conftest import WriteFile, WriteRows

QUERIES = "query_id\tquery\nq1\twhat falls\nq2\twhat turns\n"
CLASSIC = """<top>
<num> Number: 301
<title> International Organized
 Crime
<desc> Description:
Identify organizations.
</top>

<top>
<num> 302
<title> Topic: Polio &amp; others
</top>
"""
XML = """<?xml version="1.0"?><topics>
<topic number="1"><query>coronavirus origin</query><question>what is it?</question></topic>
<topic id='2'><title>weather</title></topic>
</topics>
"""


@pytest.fixture
def documents(write: WriteFile) -> Imported:
    return import_documents(write("docs.csv", "id,text\na,It falls.\nb,They turn.\nc d,It lies.\n"))


def counted(found: Imported, which: int = -1) -> dict[str, int]:
    return {trouble.name: met.count for trouble, met in found.reports[which].troubles.items()}


def texts(found: Imported) -> dict[str, str]:
    return dict(zip(found.corpus.query_ids, found.corpus.query_texts(), strict=True))


# --- queries


@pytest.mark.parametrize("name", ["q.tsv", "q.tsv.gz", "q.jsonl.zst", "q.parquet"])
def test_queries_come_from_every_format(
    documents: Imported, write: WriteFile, write_rows: WriteRows, name: str
) -> None:
    rows = [{"_id": "q1", "text": "what falls"}, {"_id": "q2", "text": "what turns"}]
    source = write(name, QUERIES) if "tsv" in name else write_rows(name, rows)
    found = with_queries(documents, QuerySources(queries=source))
    assert texts(found) == {"q1": "what falls", "q2": "what turns"}
    assert (found.reports[-1].read, found.reports[-1].kept, counted(found)) == (2, 2, {})


def test_trouble_with_queries_is_counted(documents: Imported, write_rows: WriteRows) -> None:
    good = [{"id": f"g{n}", "text": f"text {n}"} for n in range(30)]
    bad = [{"id": "g1", "text": "text 1"}, {"id": "g2", "text": "other"}, {"id": "e", "text": ""}, {"text": "no id"}]
    more = [{"id": "same", "text": "TEXT  3"}, {"id": "lacks"}, {"id": "wrong", "text": {}}]
    found = with_queries(documents, QuerySources(queries=write_rows("q.jsonl", [*good, *bad, *more])))
    assert counted(found) == {"BROKEN": 3, "EMPTY": 1, "REPEATED_ID": 2, "REPEATED_TEXT": 1}
    shown = "\n".join(found.reports[-1].lines())
    assert "line 31: 'g1' with the same text; line 32: 'g2' with another text" in shown
    assert "line 34: id is None, expected an id; line 36: no 'text' (found: id); line 37: text is {}, exp" in shown
    assert texts(found)["g2"] == "text 2", "the first one stays"


def test_queries_without_ids_get_stable_ones(documents: Imported, write: WriteFile) -> None:
    one = with_queries(documents, QuerySources(queries=write("a.csv", "query\nwhat falls\n")))
    two = with_queries(documents, QuerySources(queries=write("b.csv", "query\nother\nwhat falls\n")))
    assert set(texts(one)) < set(texts(two))


def test_a_file_of_queries_without_a_text_column(documents: Imported, write: WriteFile) -> None:
    with pytest.raises(
        CorpusError,
        match=r"q\.csv: no column for the queries' text; the columns found are 'id', 'words', expected one of",
    ):
        with_queries(documents, QuerySources(queries=write("q.csv", "id,words\n1,x\n")))


# --- judgements


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("j.qrels", "q1 0 a 1\nq1 0 b 0\n\nq2 Q0 b 2\n"),
        ("j.txt", "\ufeffdoc_id iter query_id rel\r\n  \r\na 0 q1 1\r\nb 0 q1 0\r\nb Q0 q2 2\r\n"),
        ("j.tsv", "score\tcorpus-id\tquery-id\n1\ta\tq1\n \n0\tb\tq1\n2\tb\tq2\n"),
        ("j.qrels", "q1 \t0\t a\t1\nq1\t0\tb\t0\nq2\tQ0\tb\t2\n"),
        ("j.txt.gz", "q1\t0\ta\t1\nq1\t0\tb\t0\nq2\t0\tb\t2\n"),
        ("j.tsv", "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\nq2\tb\t2\n"),
        ("j.tsv", "q1\ta\t1\nq1\tb\t0\nq2\tb\t2\n"),
        ("j.csv", "qid,docid,label\nq1,a,1.0\nq1,b,0\nq2,b,2\n"),
        ("j.jsonl.zst", '{"query_id": "q1", "doc_id": "a", "score": 1}\n{"query_id": "q1", "doc_id": "b", "score": 0}\n'
         '{"query_id": "q2", "doc_id": "b", "score": 2.0}\n'),
    ],
)  # fmt: skip
def test_judgements_come_from_tables_and_from_trec(
    documents: Imported, write: WriteFile, name: str, content: str
) -> None:
    asking = QuerySources(queries=write("q.tsv", QUERIES), qrels=(("dev", write(name, content)),))
    found = with_queries(documents, asking)
    assert found.corpus.qrels == {"dev": {"q1": {"a": 1, "b": 0}, "q2": {"b": 2}}}
    assert (found.reports[-1].what, found.reports[-1].read, found.reports[-1].kept) == ("dev judgements", 3, 3)


def test_without_a_score_every_pair_is_relevant(documents: Imported, write: WriteFile) -> None:
    asking = QuerySources(
        queries=write("q.tsv", QUERIES), qrels=(("train", write("j.csv", "query_id,doc_id\nq1,c d\n")),)
    )
    assert with_queries(documents, asking).corpus.qrels == {"train": {"q1": {"c d": 1}}}


def test_trouble_with_judgements_is_counted(documents: Imported, write: WriteFile) -> None:
    pairs = (
        "".join(f"q1 0 a{n} 0\n" for n in range(30)) + "q1 0 a 1\nq1 0 a 1\nq1 0 a 0\nq9 0 zz 1\nq1 0\nq2 0 b good\n"
        f"q2 0 b {'9' * 30}\n"
    )
    asking = QuerySources(queries=write("q.tsv", QUERIES), qrels=(("test", write("j.qrels", pairs)),))
    found = with_queries(documents, asking)
    assert found.corpus.qrels == {"test": {"q1": {"a": 0}}}, "the last judgement of a pair counts"
    assert counted(found) == {"BROKEN": 3, "REPEATED_PAIR": 2, "NOWHERE": 31}
    shown = "\n".join(found.reports[-1].lines())
    assert "line 32: q1 -> a with the same score; line 33: q1 -> a with 0, before 1" in shown
    assert "line 35: 2 columns, expected query 0 document score" in shown
    assert "line 36: the score is 'good', expected a whole number, at most 10,000; line 37: the score is '999" in shown
    assert "line 1: q1 -> a0 (no such document)" in shown
    assert "published figures compare with a complete corpus alone" in shown


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "j.qrels",
            "q1 a\nq2 b\n",
            r"j\.qrels:1: 2 columns, expected query 0 document score\. 2 of 2 lines are broken",
        ),
        ("j.csv", "qid,docid,score\nq1,a,0.5\n", r"j\.csv:2: the score is '0\.5', expected a whole number"),
        ("j.csv", "qid,docid,score\n,a,1\n", r"j\.csv:2: no qid\. 1 of 1"),
        (
            "j.csv",
            "asked,docid\nq1,a\n",
            r"j\.csv: no column for the query's id; the columns found are 'asked', 'docid'",
        ),
        ("j.csv", "qid,dokid\nq1,a\n", r"no column for the document's id; .* The nearest is 'dokid'\. Name it with"),
    ],
)
def test_judgements_that_are_none(documents: Imported, write: WriteFile, name: str, content: str, message: str) -> None:
    asking = QuerySources(queries=write("q.tsv", QUERIES), qrels=(("test", write(name, content)),))
    with pytest.raises(CorpusError, match=message):
        with_queries(documents, asking)


def test_columns_of_any_name_are_taken_where_they_are_named(documents: Imported, write: WriteFile) -> None:
    asking = QuerySources(
        queries=write("q.csv", "number,text,prompt\nq1,no,how\n"),
        log=write("l.csv", "asked,hits,times,text\nwhere,a,3,no\n"),
        qrels=(("test", write("j.csv", "number,page,useful,score\nq1,b,2,0\n")),),
        roles={
            "query.id": "number", "query.text": "prompt", "qrels.query": "number", "qrels.document": "page",
            "qrels.score": "useful", "log.text": "asked", "log.clicked": "hits", "log.count": "times",
        },
    )  # fmt: skip
    found = with_queries(documents, asking)
    logged = next(iter(found.counts))
    assert dict(zip(found.corpus.query_ids, found.corpus.query_texts(), strict=True)) == {"q1": "how", logged: "where"}
    assert found.corpus.qrels == {"test": {"q1": {"b": 2}}, "train": {logged: {"a": 1}}}
    assert dict(found.counts) == {logged: 3}


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"query.text": "promt"}, r"no column 'promt'; the columns found are 'id', 'prompt'\. Did you mean 'prompt'\?"),
        ({"log.text": "q"}, r"--column log\.text=q: there is no file that it is of; give it with --log"),
    ],
)
def test_named_columns_that_are_not_there(
    documents: Imported, write: WriteFile, roles: dict[str, str], message: str
) -> None:
    with pytest.raises(CorpusError, match=message):
        with_queries(documents, QuerySources(queries=write("q.csv", "id,prompt\nq1,how\n"), roles=roles))


def test_a_column_of_judgements_that_have_no_names_is_refused(documents: Imported, write: WriteFile) -> None:
    asking = QuerySources(
        queries=write("q.tsv", QUERIES), qrels=(("test", write("j.qrels", "q1 0 a 1\n")),), roles={"qrels.query": "qid"}
    )
    with pytest.raises(
        CorpusError, match=r"j\.qrels has no line of names, so that --column qrels\.query=qid names noth"
    ):
        with_queries(documents, asking)


@pytest.mark.parametrize("given", ["query.txt=prompt", "query.text", "query.text=", "=prompt"])
def test_a_role_that_is_none(given: str) -> None:
    with pytest.raises(
        CorpusError, match=r"expected ROLE=COLUMN with one of the roles query\.id, query\.text"
    ) as caught:
        read_role(given)
    assert ("Did you mean query.text=COLUMN?" in str(caught.value)) is given.startswith("query.txt")


def test_judgements_without_queries(documents: Imported, write: WriteFile) -> None:
    with pytest.raises(CorpusError, match=r"Judgements without queries mean nothing: name the queries too \(--queries"):
        with_queries(documents, QuerySources(qrels=(("test", write("j.qrels", "q1 0 a 1\n")),)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("dev=a=b.tsv", ("dev", "a=b.tsv")),
        ("x/train.tsv.gz", ("train", "x/train.tsv.gz")),
        ("x/all.qrels", ("test", "x/all.qrels")),
        ("dir/a=b.tsv", ("test", "dir/a=b.tsv")),
        ("test=hf:a/b:c:d", ("test", "hf:a/b:c:d")),
    ],
)
def test_the_split_of_judgements(given: str, expected: tuple[str, str]) -> None:
    assert split_and_source(given) == expected


# --- topics


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CLASSIC, {"301": "International Organized Crime", "302": "Polio & others"}),
        (CLASSIC.replace("</top>", ""), {"301": "International Organized Crime", "302": "Polio & others"}),
        (XML, {"1": "coronavirus origin", "2": "weather"}),
    ],
)
def test_topics_in_both_forms(
    documents: Imported, write: WriteFile, content: str, expected: dict[str, str], packed: str
) -> None:
    assert texts(with_queries(documents, QuerySources(topics=write(f"topics.txt{packed}", content)))) == expected


TAGGED = """<?xml version="1.0"?>
<!-- <topic number="9"><title>taken out</title></topic> -->
<topics>
<topic
   number="007"><query>role of CO<sub>2</sub> in
<i>greenhouse</i> heating</query></topic>
<topic id="A &amp; B"><title lang="en"><![CDATA[pressure < 5 bar & <b>valves</b>]]></title></topic>
<topic number="3"><title>plain title</title><query>the real question in words</query></topic>
<topic number="4">
  A farmer with a <b>persistent</b> cough.
</topic>
<topic number="5"><query></query><title>if x &lt; 5 and List<String><br/>two</title></topic>
<topic><identifier>10.2452/451-AH</identifier><EN-title><gene>BRCA1</gene> risk</EN-title></topic>
<topic number="7"><description>Description: only this</description><narrative>no query</narrative></topic>
</topics>
"""


def test_topics_with_tags_cdata_and_comments_give_their_whole_text(documents: Imported, write: WriteFile) -> None:
    found = with_queries(documents, QuerySources(topics=write("topics.xml", TAGGED)))
    assert texts(found) == {
        "007": "role of CO2 in greenhouse heating",
        "A & B": "pressure < 5 bar & <b>valves</b>",
        "3": "the real question in words",
        "4": "A farmer with a persistent cough.",
        "5": "if x < 5 and List<String> two",
        "10.2452/451-AH": "BRCA1 risk",
        "7": "only this",
    }
    assert found.reports[-1].lines()[1:] == [
        "  their queries are the text of <title> (3), <query> (2), the topic itself (1), <description> (1); other "
        "elements are not read"
    ]


@given(
    words=st.lists(st.text("aZ09&.,é<x>", min_size=1, max_size=6), min_size=1, max_size=8),
    tags=st.lists(st.sampled_from(["", "sub", "i", "b", "gene"]), min_size=8, max_size=8),
    closed=st.booleans(),
    cdata=st.booleans(),
)
@settings(max_examples=40)
def test_every_word_of_a_topic_is_in_its_query(words: list[str], tags: list[str], closed: bool, cdata: bool) -> None:
    parts = [
        f"<{tag}>{html.escape(word)}</{tag}>" if tag else f"<![CDATA[{word}]]>" if cdata else html.escape(word)
        for word, tag in zip(words, tags, strict=False)
    ]
    title = f"<title> {' '.join(parts)}{'</title>' if closed else chr(10)}<desc> Description: other"
    with TemporaryDirectory() as folder:
        (Path(folder) / "t.txt").write_text(f"<top>\n<num> Number: 1\n{title}\n</top>\n", encoding="utf8")
        [query] = read_topics(Path(folder) / "t.txt", Tally("t", "topics"))
    assert query.text == " ".join(words)


@pytest.mark.parametrize("part", ["<top ", "<!--", "<![CDATA[", "</", "<query ", "\n \t"])
def test_a_hostile_topic_takes_no_time(part: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_text("<top><num>1<title>x" + part * 30_000)
    began = time.process_time()
    with suppress(CorpusError):
        list(read_topics(tmp_path / "t", Tally("t", "topics")))
    assert time.process_time() - began < 2


def test_broken_topics_are_counted(documents: Imported, write: WriteFile) -> None:
    good = "".join(f"<top>\n<num> {n}\n<title> topic {n}\n</top>\n" for n in range(20))
    found = with_queries(
        documents, QuerySources(topics=write("t", good + "<top>\n<num> 99\n</top>\n<top><num>98<title></top>"))
    )
    assert counted(found) == {"BROKEN": 1, "EMPTY": 1}
    assert "line 81: a topic without a title" in "\n".join(found.reports[-1].lines())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no topics", r"holds no topics: expected <top> \.\.\. </top> or <topic number=\"1\">"),
        ("\n<top><title>x</top>", r"t:2: a topic without a number\. 1 of 1 lines are broken"),
    ],
)
def test_topics_that_are_none(documents: Imported, write: WriteFile, content: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        with_queries(documents, QuerySources(topics=write("t", content)))


# --- query logs


def test_a_log_merges_repeated_texts_counts_them_and_judges_by_clicks(documents: Imported, write: WriteFile) -> None:
    log = "query,clicked,count\nIt rains,a; b,3\nit  RAINS,b,\nsnow,c d,2\nwind,,\n"
    found = with_queries(documents, QuerySources(log=write("log.csv", log)))
    by_text = {text: identifier for identifier, text in texts(found).items()}
    assert list(by_text) == ["It rains", "snow", "wind"]
    assert {text: found.counts[identifier] for text, identifier in by_text.items()} == {
        "It rains": 4,
        "snow": 2,
        "wind": 1,
    }
    assert found.corpus.qrels == {"train": {by_text["It rains"]: {"a": 1, "b": 1}, by_text["snow"]: {"c d": 1}}}
    assert (found.reports[-1].read, found.reports[-1].kept) == (4, 3)
    assert len(training_queries(found.corpus)) == 2


def test_a_log_of_texts_alone(documents: Imported, write: WriteFile) -> None:
    found = with_queries(documents, QuerySources(log=write("log.jsonl", '{"text": "a"}\n{"text": "a"}\n')))
    assert list(found.counts.values()) == [2]
    assert found.corpus.qrels == {}


def test_ids_of_a_log_stay_when_it_grows(documents: Imported, write: WriteFile) -> None:
    before = with_queries(documents, QuerySources(log=write("a.csv", "query\nrain\n")))
    after = with_queries(documents, QuerySources(log=write("b.csv", "query\nsnow\nRain\n")))
    assert set(texts(before)) < set(texts(after))


def test_trouble_with_a_log_is_counted(documents: Imported, write_rows: WriteRows) -> None:
    good = [{"query": f"text {n}", "clicked": ["a"]} for n in range(30)]
    bad = [{"query": "", "count": 7}, {"query": "x", "clicked": ["zz"]}, {"query": "y", "count": -1}]
    rows = [{"count": None, "clicked": None, **row} for row in [*good, *bad]]
    found = with_queries(documents, QuerySources(log=write_rows("log.parquet", rows)))
    assert counted(found) == {"BROKEN": 1, "EMPTY": 1, "NOWHERE": 1}
    assert "'x' -> 'zz' (no such document)" in "\n".join(found.reports[-1].lines())


def test_a_broken_count_is_named(documents: Imported, write: WriteFile) -> None:
    lines = "".join(f"text {n},1\n" for n in range(20))
    found = with_queries(documents, QuerySources(log=write("log.csv", f"query,count\n{lines}x,many\n,7\nz,0\n")))
    shown = "\n".join(found.reports[-1].lines())
    assert "line 22: count is 'many', expected a whole number from 1; line 24: count is '0'" in shown
    assert "1 empty text, left out: line 23: asked 7 times" in shown


def test_a_log_without_texts(documents: Imported, write: WriteFile) -> None:
    with pytest.raises(CorpusError, match=r"log\.csv: no column for the queries' text; the columns found are 'when'"):
        with_queries(documents, QuerySources(log=write("log.csv", "when\n1999\n")))


def test_counts_are_written_beside_the_queries(documents: Imported, write: WriteFile, tmp_path: object) -> None:
    folder = Path(str(tmp_path)) / "beir"
    found = with_queries(documents, QuerySources(log=write("log.csv", "query,clicked,count\nrain,a,3\n")))
    write_beir(found.corpus, folder, found.counts)
    assert '"metadata": {"asked": 3}' in (folder / "queries.jsonl").read_text()
    assert read_beir(folder).digest == found.corpus.digest


# --- large


def test_large_queries_judgements_topics_and_logs_take_seconds(documents: Imported, write: WriteFile) -> None:
    count = 30_000
    asking = QuerySources(
        queries=write("q.csv", "id,text\n" + "".join(f"q{n},query {n}\n" for n in range(count))),
        topics=write("t.gz", "".join(f"<top><num>{n}<title>topic {n}</top>\n" for n in range(count))),
        log=write("log.tsv.zst", "query\tclicked\n" + "".join(f"log {n % 1000}\ta\n" for n in range(count))),
        qrels=(("test", write("j.qrels.gz", "".join(f"q{n} 0 b 1\n" for n in range(count)))),),
    )
    started = time.monotonic()
    found = with_queries(documents, asking)
    assert time.monotonic() - started < 15
    assert len(found.corpus.queries) == 2 * count + 1000
    assert len(found.corpus.qrels["test"]) == count
    assert set(found.counts.values()) == {30}


def test_a_corpus_that_has_queries_keeps_them(tiny_corpus: object, write: WriteFile) -> None:
    held = import_corpus(str(tiny_corpus))
    found = with_queries(held, QuerySources(log=write("log.csv", "query\nsomething new\n")))
    assert len(found.corpus.queries) == len(held.corpus.queries) + 1
    assert found.corpus.qrels == held.corpus.qrels


def test_positives_of_the_querys_own_id_are_named(
    documents: Imported, write: WriteFile, caplog: pytest.LogCaptureFixture
) -> None:
    asking = QuerySources(queries=write("q.csv", "id,text\na,x\n"), qrels=(("test", write("j.qrels", "a 0 a 1\n")),))
    with_queries(documents, asking)
    assert "docs: 1 of 1 test query with a positive document of the same id" in caplog.text


def test_clicked_ids_that_are_numbers(write: WriteFile, write_rows: WriteRows) -> None:
    held = import_documents(write("n.csv", "id,text\n1,x\n2,y\n"))
    for name, clicked in (("a.parquet", [1.0, None]), ("b.parquet", [[1], []]), ("c.jsonl", [1, None])):
        rows = [{"query": text, "clicked": value} for text, value in zip("pq", clicked, strict=True)]
        found = with_queries(held, QuerySources(log=write_rows(name, rows)))
        assert list(found.corpus.qrels["train"].values()) == [{"1": 1}]
        assert counted(found) == {}
