"""Tables show ids and texts as they are, but for what would steer a terminal or cannot be encoded."""

from __future__ import annotations

import io
import json
import logging
import shutil
import sys
from pathlib import Path

import pytest

from sdretrieval.cli.output import check_writable, print_json, print_table, say
from sdretrieval.errors import RequestError
from tests.cli.conftest import Call

HOSTILE = "a\x1b]0;owned\x07\x9b2J\u202egnp.exe\ud800\U000e0041z"
SHOWN = "a\ufffd]0;owned\ufffd\ufffd2J\ufffdgnp.exe\ufffd\ufffdz"


def test_ids_that_look_like_markup_or_emoji_codes_stay(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["id", "text"], [["docs:key:1", "rows[:a:2] [bold]x[/bold]"]])
    out = capsys.readouterr().out
    assert "docs:key:1" in out
    assert "rows[:a:2] [bold]x[/bold]" in out


def test_texts_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    print_table(["id", HOSTILE], [["d1", HOSTILE]])
    said = capsys.readouterr().out
    assert said.count(SHOWN) == 3 and not set("\x1b\x07\x9b\u202e") & set(said)


def test_json_escapes_what_would_steer_and_reads_back_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({HOSTILE: [HOSTILE, "naïve\n文"]})
    said = capsys.readouterr().out
    assert json.loads(said) == {HOSTILE: [HOSTILE, "naïve\n文"]}
    assert not set("\x1b\x07\x9b\u202e\U000e0041") & set(said) and "文" in said


def test_a_table_of_100_columns_breaks_no_word_and_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdretrieval.cli import output

    monkeypatch.setattr(output, "WIDTH_OFF_A_TERMINAL", 100)
    measures = ["dev nDCG@10", "dev Recall@100", "test nDCG@10", "test Recall@100"]
    tested = {"difference": 0.169, "interval95": [0.057, 0.299], "p": 0.0001, "verdict": "gain"}
    output.print_measures(["system"], measures, [(["teacher@student_0"], [0.25, 0.8, 0.3125, 0.9583], tested)])
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 100
    assert " ".join(shown[-1].split()) == (
        "teacher@student_0 0.250 0.800 0.312 0.958 +0.169 +0.057 to +0.299 < 0.001 gain"
    )
    heads = ["system", *measures, "difference", "95 % interval", "p (Holm)", "verdict"]
    assert set("\n".join(shown[:2]).split()) == set(" ".join(heads).split())

    row = ["1/evaluate:hybrid:dev", "an earlier stage has changed " * 5, "3 min 20 s"]
    print_table(["stage", "why", "took"], [row], right=["took"])
    wrapped = capsys.readouterr().out
    assert "1/evaluate:hybrid:dev" in wrapped and "3 min 20 s" in wrapped and max(map(len, wrapped.splitlines())) <= 100
    assert wrapped.split().count("earlier") == 5

    print_table(["id"], [["x" * 250]])  # a word that no terminal holds
    assert "".join(capsys.readouterr().out.split()).count("x") == 250


class Terminal(io.TextIOWrapper):
    """An output that takes ASCII only, as `PYTHONIOENCODING=ascii` makes it."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii")

    def shown(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined, no-any-return]


def test_output_that_is_not_utf8_shows_replaced_characters(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdretrieval.cli import main

    corpus = Path(shutil.copytree(tiny_corpus, tmp_path / "文書"))
    with (corpus / "qrels" / "test.tsv").open("a") as qrels:
        qrels.write("q0\tnirgendwo-ü\t1\n")
    for arguments, expected in (
        (["corpus", "check", str(corpus)], "??: 120 documents"),
        (["corpus", "check", str(corpus), "--json"], '"name": "\\u6587\\u66f8"'),
        (["corpus", "check", str(tmp_path / "ü")], ""),
    ):
        out, err = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        monkeypatch.undo()
        assert ended.value.code == (0 if expected else 2)
        assert expected in out.shown() and ("?" in err.shown())


def test_a_log_line_is_written_once_also_if_a_library_configures_the_root_logger(
    tiny_corpus: Path, tmp_path: Path, call: Call
) -> None:
    corpus = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    with (corpus / "qrels" / "test.tsv").open("a") as qrels:
        qrels.write("q0\tno\x1bwhere\t1\n")
    again = io.StringIO()
    handler = logging.StreamHandler(again)
    logging.getLogger().addHandler(handler)
    try:
        said = call("corpus", "check", corpus).err
    finally:
        logging.getLogger().removeHandler(handler)
    assert "warning: " in said and "no\ufffdwhere" in said and "\x1b" not in said
    assert again.getvalue() == ""
    assert logging.getLogger("sdretrieval").propagate


def test_a_target_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    check_writable("--json", tmp_path / "new.json")
    check_writable("--json", "/dev/stdout")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RequestError, match="--json .*: nothing can be written there .*; name a place"):
        check_writable("--json", "/proc/out.json")  # to root a permission says nothing, a trial does
