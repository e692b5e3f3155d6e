"""Every error that sdretrieval raises on purpose, on one screen.

SdretrievalError
├── RequestError            the request was wrong; exit code 2; raised before long work begins
│   ├── ConfigError         the YAML or a `--set`: unknown key, wrong type, wrong range
│   ├── CorpusError         a corpus that is not there, is not what it claims to be, or lacks what was asked of it
│   ├── ModelError          a model that is not there, or cannot do what was asked (positions, weights)
│   ├── MissingPackageError an optional package is needed; the message holds the pip command
│   └── ResourceError       too little disk or memory, or a store that another run holds
└── WorkError               the work failed; exit code 1; what was finished stays in the store
    ├── NumericError        NaN or infinity where a number was needed; names step and batch
    ├── MissingScores       pairs that a file of scores lacks; holds them, so that they can be written for scoring
    └── DamagedArtifact     a stored artifact's digest does not match its manifest

A message names the thing, the value found, what was expected, and the next step.
"""

from __future__ import annotations

from collections.abc import Sequence


class SdretrievalError(Exception):
    """Root of the tree. `exit_code` is what the command line returns."""

    exit_code = 1


class RequestError(SdretrievalError):
    """The request was wrong: nothing was computed."""

    exit_code = 2


class ConfigError(RequestError):
    """The configuration holds one or more problems, all listed in the message."""


class CorpusError(RequestError):
    """The corpus is missing, broken, or lacks what was asked of it."""


class ModelError(RequestError):
    """The model is missing, or cannot do what was asked of it."""


class MissingPackageError(RequestError):
    """An optional package is needed; the message holds the pip command."""


class ResourceError(RequestError):
    """Disk, memory or the store's lock cannot be had."""


class WorkError(SdretrievalError):
    """The work failed after it began; finished stages stay in the store."""


class NumericError(WorkError):
    """A value that must be finite is not."""


class MissingScores(WorkError):
    """A file of scores lacks pairs that the work needs: `pairs` holds (query id, document id) of each."""

    def __init__(self, message: str, pairs: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.pairs = pairs


class DamagedArtifact(WorkError):
    """A stored artifact does not match the digest in its manifest."""
