"""What a run is made of while it goes on: what all generations share, and what has come of them so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.evaluate import System
from sdretrieval.stages.gate import Generation
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.run import Run, Weights
from sdretrieval.stages.targets import MixtureWeights
from sdretrieval.stages.tokens import Tokens
from sdretrieval.store.runner import Artifact


@dataclass(frozen=True)
class Base:
    """What all generations share: corpus, tokens, BM25, and the base student's vectors with their index."""

    run: Run
    collected: Collection
    collection: Collection
    tokens: Tokens
    lexical: Lexical
    vectors: Vectors
    index: Artifact


@dataclass(frozen=True)
class Final:
    """The student that was accepted, the base if none was."""

    student: Weights
    vectors: Vectors
    index: Artifact
    probability: Artifact


@dataclass
class Results:
    """What a run has made: its systems, in the order of the report, and what came of each generation."""

    run: Run
    base: Base
    weights: MixtureWeights
    """Of the teacher's members."""
    systems: list[System] = field(default_factory=list)
    generations: list[Generation] = field(default_factory=list)
    probe: Artifact | None = None
    """What was known of the teacher before training; None if nobody asked, or could say."""
    checked: Artifact | None = None
    """A language model's grades of what people judged; None if the config names no such judge."""
    final: Final | None = None
    """None until the loop has come to its end."""
