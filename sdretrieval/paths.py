"""Paths as users type them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sdretrieval.errors import RequestError

SHOWN_AT_MOST = 80
"""Characters of a path that no file system takes: a message names no more of it."""


def typed_path(text: str | Path) -> Path:
    """The path that a user typed, with ~ expanded; whether it is there is another question.

    Raises RequestError if none can be there: an unknown user's home, a NUL, a name that is too long, links in a circle.
    """
    try:
        path = Path(text).expanduser()
        path.stat()
        return path
    except RuntimeError:
        reason = f"there is no user {Path(text).parts[0].removeprefix('~')}, whose home it names"
    except ValueError:
        reason = "a NUL or half of a surrogate pair is in it"
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
            return path
        reason = os.strerror(error.errno)
    name = str(text).encode("utf8", "replace").decode("utf8")
    shown = name if len(name) <= SHOWN_AT_MOST else f"{name[:SHOWN_AT_MOST]}..."
    raise RequestError(f"{shown!r}: {reason}; expected the path of a file or folder")
