"""Bytes to text as browsers decode them (WHATWG Encoding Standard), and how much of it could not be read.

A byte order mark decides; then UTF-8, if most of what is not ASCII is valid in it, whatever a page declares; then what
a page declares; then the guess of Firefox's detector, which is reported.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import NamedTuple

from sdretrieval.corpus.read.documents.blocks import load_parser

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WITHOUT_MARK = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
REPLACEMENT = "\ufffd"
BEYOND_ASCII = re.compile(r"[^\x00-\x7f\ufffd]")
XML_DECLARATION = re.compile(r"\s*<\?xml\b[^>]*\bencoding\s*=\s*[\"']([\w.:-]+)", re.IGNORECASE)
CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
CODECS = {
    "gbk": "gb18030", "utf-16le": "utf-8", "utf-16be": "utf-8", "x-user-defined": "cp1252", "replacement": "utf-8",
}  # fmt: skip
"""Encodings of the standard that `webencodings` decodes otherwise. (What declares itself in ASCII is not UTF-16.)"""
SWITCHES_TO_KANJI = b"\x1b$"
"""ISO-2022-JP is ASCII to the eye of a decoder."""
LOOKED_AT, DECLARED_WITHIN = 1 << 14, 1 << 16
NO_TEXT = 0.1
"""A larger share of characters that no text holds means binary data."""


class Decoded(NamedTuple):
    """A text, and the number of its characters that stand for bytes which meant nothing in its encoding."""

    text: str
    replaced: int
    guessed: str = ""
    """The encoding, if the bytes alone tell it and it is no form of Unicode."""


def decode(data: bytes, may_declare: bool = False) -> Decoded | None:
    """The text of a file (`may_declare`: of a page), with plain line ends; None for binary data.

    Raises MissingPackageError if a file is not in a form of Unicode and a package that knows the others is missing.
    """
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "")
    if not encoding and b"\0" in data:
        shares = {name: _share_of_no_text(data, name) for name in WITHOUT_MARK}
        # Two letters of ASCII are a character of Chinese in UTF-16: a few zeros do not turn a text into one.
        encoding = "utf-8" if shares["utf-8"] < NO_TEXT / 2 else min(shares, key=lambda name: shares[name])
        if shares[encoding] > NO_TEXT:
            return None
    text, guessed = data.decode(encoding or "utf-8", "replace"), ""
    already = data.count(REPLACEMENT.encode()) if encoding in ("", "utf-8", "utf-8-sig") else 0
    replaced = text.count(REPLACEMENT) - already
    if not encoding and (SWITCHES_TO_KANJI in data or replaced > len(BEYOND_ASCII.findall(text)) + already):
        declared = _declared(data) if may_declare else ""
        guess = "" if declared else load_parser("chardetng_py", "non-UTF-8").detect(data)
        name = declared or _codec(guess) or guess
        if replaced or name.startswith("iso2022"):
            text, guessed = data.decode(name, _from_shift_jis.__name__ if name == "euc_jp" else "replace"), guess
            replaced = text.count(REPLACEMENT) - (already if name == "utf-8" else 0)
    replaced += text.count("\0")
    return Decoded(text.replace("\0", REPLACEMENT).replace("\r\n", "\n").replace("\r", "\n"), replaced, guessed)


def _share_of_no_text(data: bytes, encoding: str) -> float:
    """Share of characters, at a file's beginning, that are control characters or none at all."""
    text = data[:LOOKED_AT].decode(encoding, "replace")
    return sum((unicodedata.category(c)[0] == "C" and not c.isspace()) or c == REPLACEMENT for c in text) / len(text)


def _declared(data: bytes) -> str:
    """The codec of the first encoding in a page's `meta` elements or its XML declaration that the standard knows."""
    page = data[:DECLARED_WITHIN].decode("latin-1")
    labels = []
    for meta in load_parser("selectolax.lexbor", ".html").LexborHTMLParser(page).css("meta"):
        content = CHARSET.search(meta.attributes.get("content") or "")
        labels.append(meta.attributes.get("charset"))
        if content and (meta.attributes.get("http-equiv") or "").lower() == "content-type":
            labels.append(content[1])
    if xml := XML_DECLARATION.match(page):
        labels.append(xml[1])
    return next((codec for label in labels if label and (codec := _codec(label))), "")


def _codec(label: str) -> str:
    """The codec that decodes what the standard means by a label; empty if it knows none of that name."""
    encoding = load_parser("webencodings", "non-UTF-8").lookup(label)
    return CODECS.get(encoding.name, encoding.codec_info.name) if encoding else ""


def _from_shift_jis(error: UnicodeError) -> tuple[str, int]:
    """Characters of NEC and IBM that are in EUC-JP as in Shift_JIS, but not in Python's EUC-JP."""
    assert isinstance(error, UnicodeDecodeError)
    try:
        row, cell = (byte - 0xA1 for byte in error.object[error.start : error.start + 2])
        pair = (row // 2 + (0x81 if row < 62 else 0xC1), cell + (0x9F if row % 2 else 0x40 + (cell > 62)))
        return bytes(pair).decode("cp932"), error.start + 2
    except ValueError:
        return REPLACEMENT, error.start + 1


codecs.register_error(_from_shift_jis.__name__, _from_shift_jis)
