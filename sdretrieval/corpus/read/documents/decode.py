"""Bytes to text, and how many characters were lost on the way."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
REPLACEMENT = "\ufffd"
CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
CHARSET_WITHIN = 2048
"""Bytes in which a page must declare its charset: browsers look no further than 1024."""


class Decoded(NamedTuple):
    """A text, and the number of its characters that stand for bytes which meant nothing in its encoding."""

    text: str
    replaced: int


def decode(data: bytes, may_declare: bool = False) -> Decoded:
    """By byte order mark, else as UTF-8, else (HTML: `may_declare`) by the declared charset; never by a guess.

    A wrong guess would give words that look right and are not; a replaced character is counted and can be reported.
    """
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return Decoded(_plain_line_ends(data.decode(encoding)), 0)
    except UnicodeDecodeError:
        if may_declare and encoding == "utf-8":
            encoding = _declared(data) or encoding
    text = data.decode(encoding, "replace")
    already = data.count(REPLACEMENT.encode()) if encoding.startswith("utf-8") else 0
    return Decoded(_plain_line_ends(text), text.count(REPLACEMENT) - already)


def _declared(data: bytes) -> str:
    found = CHARSET.search(data[:CHARSET_WITHIN])
    try:
        name = codecs.lookup(found[1].decode("ascii")).name if found else ""
        "".encode(name or "utf-8")  # codecs such as hex are no text encodings
    except (LookupError, UnicodeError):
        return ""
    return name


def _plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
