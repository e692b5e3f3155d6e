"""Bytes become the text that a browser shows, and what could not be read is counted."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus.read.documents.encodings import Decoded, decode

GERMAN, RUSSIAN, CHINESE = "Prüfgerät für Größen, überall geöffnet", "Предохранительный клапан", "安全阀在六巴时打开"
QUOTED = "It’s the “boiler” – 40 € for the technician’s café visit"


@pytest.mark.parametrize(
    ("data", "text", "replaced"),
    [
        (b"", "", 0),
        ("é".encode(), "é", 0),
        ("é".encode("utf-8-sig"), "é", 0),
        ("é".encode("utf-16"), "é", 0),
        ("é".encode("utf-32"), "é", 0),
        ("é".encode("utf-16") + b"x", "é\ufffd", 1),
        (GERMAN.encode() + b" \xc3", GERMAN + " \ufffd", 1),
        ("\ufffd".encode() + b"\xff", "\ufffd\ufffd", 1),
        (b"a\r\nb\rc\fd", "a\nb\nc\fd", 0),
        (b"a log with \x1b$ and \x1b[31mcolours", "a log with \x1b$ and \x1b[31mcolours", 0),
        (b"words beside a\0zero byte and others", "words beside a\ufffdzero byte and others", 1),
    ],
)
def test_unicode(data: bytes, text: str, replaced: int) -> None:
    assert decode(data) == Decoded(text, replaced)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["plain words\n", GERMAN, RUSSIAN + "\n" + RUSSIAN, CHINESE + ".\n" + CHINESE])
def test_wide_characters_without_their_mark(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == Decoded(text, 0)


@pytest.mark.parametrize("data", [b"\0\1\2", bytes(range(256)) * 8, b"\x7fELF\2\1\1" + bytes(64) + b"\1words" * 9])
def test_binary_data_is_no_text(data: bytes) -> None:
    assert decode(data) is None


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("iso-8859-1", "cp1252", QUOTED),
        ("US-ASCII", "cp1252", QUOTED),
        ("latin1", "cp1252", QUOTED),
        ("iso-8859-9", "cp1254", "ağır iş şöyle – açılır"),
        ("tis-620", "cp874", "วาล์วนิรภัย…"),
        ("gb2312", "gb18030", "朱镕基总理访问了镕厂，喆先生"),
        ("x-sjis", "cp932", "①番の髙橋さんは㈱東京へ"),
        ("euc-kr", "cp949", "펲시콜라와 똠방각하"),
        ("big5", "big5hkscs", "香港嘅啲嘢"),
        ("ISO-8859-2", "iso8859-2", "Žluťoučký kůň"),
        ("koi8-r", "koi8-r", RUSSIAN),
        ("iso-2022-jp", "iso2022_jp", "日本語の文です"),
    ],
)
def test_a_declared_encoding_is_what_browsers_take_it_for(label: str, codec: str, text: str) -> None:
    body = f"<p>{text}".encode(codec)
    for declaration in (
        f"<meta charset='{label}'>",
        f'<!-- charset=utf-7 --><META content="text/html; charset={label}" HTTP-EQUIV=Content-Type>',
        f'<?xml version="1.0" encoding="{label}"?>',
        "<!--" + "-" * 2000 + f"--><meta charset=nonsense><meta charset={label}>",
    ):
        assert decode(declaration.encode() + body, may_declare=True) == Decoded(f"{declaration}<p>{text}", 0)


def test_characters_of_nec_and_ibm_in_euc_jp() -> None:
    page = b"<meta charset=euc-jp>\xad\xa1\xc8\xd6\xa4\xce\xfc\xe2\xb6\xb6" + "さん".encode("euc_jp")
    assert decode(page, may_declare=True) == Decoded("<meta charset=euc-jp>①番の髙橋さん", 0)
    assert decode(page + b"\xa9\xa9\xa4", may_declare=True) == Decoded(
        "<meta charset=euc-jp>①番の髙橋さん\ufffd\ufffd\ufffd", 3
    )


@pytest.mark.parametrize(
    ("declared", "data", "text", "replaced"),
    [
        ("iso-8859-1", GERMAN.encode(), GERMAN, 0),
        ("iso-8859-1", GERMAN.encode() + b" \xc3", GERMAN + " \ufffd", 1),
        ("utf-16", RUSSIAN.encode(), RUSSIAN, 0),
        ("utf-8", GERMAN.encode("cp1252"), GERMAN.encode("ascii", "replace").decode().replace("?", "\ufffd"), 7),
        ("windows-1252", b"caf\xe9 \x81", "café \ufffd", 1),
        ("hex", "café".encode("cp1252"), "café", 0),
    ],
)
def test_a_page_that_declares_something_else(declared: str, data: bytes, text: str, replaced: int) -> None:
    decoded = decode(f"<meta charset={declared}>".encode() + data, may_declare=True)
    assert decoded is not None
    assert (decoded.text.partition(">")[2], decoded.replaced) == (text, replaced)


@pytest.mark.parametrize(
    ("text", "codec", "guess"),
    [
        ("café au lait", "cp1252", "windows-1252"),
        (QUOTED, "cp1252", "windows-1252"),
        (RUSSIAN, "cp1251", "windows-1251"),
        ("Zażółć gęślą jaźń, zawór bezpieczeństwa", "cp1250", "windows-1250"),
        ("安全弁は六バールで開きます。", "cp932", "Shift_JIS"),
        (CHINESE, "gb18030", "gb18030"),
        ("안전 밸브는 6바에서 열립니다.", "cp949", "EUC-KR"),
        ("วาล์วนิรภัยเปิดที่หกบาร์", "cp874", "cp874"),
        ("日本語の文です", "iso2022_jp", "ISO-2022-JP"),
    ],
)
def test_an_undeclared_encoding_is_guessed_and_the_guess_is_told(text: str, codec: str, guess: str) -> None:
    assert decode(text.encode(codec)) == Decoded(text, 0, guess)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=80), may_declare=st.booleans())
def test_no_bytes_make_it_raise(data: bytes, may_declare: bool) -> None:
    for page in (data, b"<meta charset=euc-jp>" + data, b"<meta charset=x-user-defined>\x1b$" + data):
        decoded = decode(page, may_declare)
        assert decoded is None or decoded.text.count("\ufffd") >= decoded.replaced


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.characters(categories=["L", "N", "P", "Zs"]), min_size=1))
def test_every_word_in_unicode_comes_out(text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert decode(text.encode(encoding)) == Decoded(text, 0)


def test_a_large_file_takes_time_by_its_length_alone() -> None:
    assert decode(os.urandom(1 << 18).replace(b"\0", b"x")) is not None
