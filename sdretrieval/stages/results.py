"""What a run is made of while it goes on: what all generations share, and what has come of them so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.evaluate import System
from sdretrieval.stages.gate import Generation
from sdretrieval.stages.guard import Forgotten
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.lexical_half import Half
from sdretrieval.stages.run import Run, Weights
from sdretrieval.stages.targets import MixtureWeights
from sdretrieval.stages.tokens import Tokens
from sdretrieval.store.runner import Artifact


@dataclass(frozen=True)
class Base:
    """What all generations share: corpus, tokens, BM25, and the vectors, with their index, of the student that they
    begin with: the base, or what pretraining made of it."""

    run: Run
    collected: Collection
    collection: Collection
    tokens: Tokens
    lexical: Lexical
    vectors: Vectors
    index: Artifact
    guard: Artifact | None = None
    """The sample of another collection, on which no significant loss is accepted."""
    half: Half | None = None
    """The words' half of every student's vectors, if the config asks for one; `vectors` and `index` have it."""
    plain_index: Artifact | None = None
    """Of the untrained student's vectors without it."""


@dataclass(frozen=True)
class Final:
    """The student that was accepted, the base if none was."""

    student: Weights
    vectors: Vectors
    index: Artifact
    probability: Artifact


@dataclass(frozen=True)
class Smaller:
    """A smaller student, fitted to the final one's vectors. `documents`: what encodes these, if it encodes queries
    alone. `cost`: the artifact of what it costs beside the final student."""

    name: str
    system: System
    student: Weights
    documents: Weights | None
    vectors: Vectors
    index: Artifact
    cost: Artifact


@dataclass
class Results:
    """What a run has made with one of its seeds: systems, and what came of each generation."""

    run: Run
    base: Base
    weights: MixtureWeights
    """Of the teacher's members."""
    systems: list[System] = field(default_factory=list)
    pretrained: Mapping[str, Any] | None = None
    """What the gate decided on the pretrained student; None if the config wants none."""
    generations: list[Generation] = field(default_factory=list)
    probe: Artifact | None = None
    """What was known of the teacher before training; None if nobody asked, or could say."""
    checked: Artifact | None = None
    """A language model's grades of what people judged; None if the config names no such judge."""
    final: Final | None = None
    """None until the loop has come to its end."""
    forgotten: Forgotten | None = None
    """What the final students have lost on the guard; None without a guard, or before the end."""
    smaller: list[Smaller] = field(default_factory=list)
    """Fitted to the first seed's final student."""
    repeats: list[Results] = field(default_factory=list)
    """What the other seeds made: the systems that training has a part in, generations, final."""

    @property
    def seeds(self) -> list[Results]:
        """These results and the repeats, in the order of the config's seeds."""
        return [self, *self.repeats]

    @property
    def by_name(self) -> dict[str, list[System]]:
        """The systems in the order of the report, each as often as there are seeds that have it."""
        named: dict[str, list[System]] = {}
        for system in sorted((one for seed in self.seeds for one in seed.systems), key=lambda system: system.place):
            named.setdefault(system.name, []).append(system)
        return named
