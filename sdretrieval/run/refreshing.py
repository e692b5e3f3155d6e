"""The vectors that a later generation mines from: all new, or, as `index.refresh` asks, in part those of before.

Only students between two generations are concerned: the base, the last generation's candidate, what is final and the
controls are always encoded whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sdretrieval.encode.views import View
from sdretrieval.run.shared import Weights, precision_of
from sdretrieval.run.teaching import Teaching
from sdretrieval.stages import refresh
from sdretrieval.store import Work
from sdretrieval.store.run_folder import read_json
from sdretrieval.store.runner import Artifact


@dataclass
class Refreshing(Teaching):
    """Adds vectors that are refreshed in part."""

    refreshed: dict[str, Artifact] = field(default_factory=dict)
    """By key of a student: its refreshed vectors, in the order in which they were asked for."""
    judged_on_stale: dict[int, list[str]] = field(default_factory=dict)
    """By generation: which sides its gate measured on partly stale vectors."""
    _before: dict[str, Artifact] = field(default_factory=dict)
    """By key of a student that may be refreshed: the vectors of the one that it was trained from."""
    _same_documents: dict[str, Artifact] = field(default_factory=dict)
    """By key of vectors whose documents were left as they were: the vectors that these are."""

    @property
    def refreshes(self) -> bool:
        """Whether any vectors may be left as they were. `loss: embedding` needs all of the student's own vectors; where
        queries alone learn, documents never move."""
        unmoved = self.query_side or self.config.train.loss == "embedding"
        return self.config.index.refresh != "full" and not unmoved

    def may_refresh(self, number: int, new: Weights, old: Weights) -> None:
        """Note that generation `number` made `new` from `old`; nothing mines from the last generation's students."""
        if self.refreshes and number < self.config.generations:
            self._before[new.key] = self.working_vectors(f"{number}", old)
        else:  # after a rejection the last generation may make the very student that an earlier one did
            self._before.pop(new.key, None)

    def working_vectors(self, prefix: str, weights: Weights) -> Artifact:
        """A student's vectors for mining and for the gate: those of `PREFIX/refresh` where it may be refreshed."""
        old = self._before.get(weights.key)
        if old is None:
            return self.student_vectors(f"{prefix}/encode", weights)
        made = self._refresh(f"{prefix}/refresh", weights, old)
        self.refreshed[weights.key] = made
        if self.refresh_card(made).get("decision") == "skip":
            self._same_documents[made.key] = self._same_documents.get(old.key, old)
        return made

    def refresh_card(self, vectors: Artifact) -> dict[str, Any]:
        """What was decided of refreshed vectors; empty for others, and in a plan."""
        path = vectors.path / refresh.CARD
        return read_json(path) if path.exists() else {}

    def is_stale(self, weights: Weights) -> bool:
        """Whether a student's working vectors are known to be not all its own."""
        made = self.refreshed.get(weights.key) if weights.key in self._before else None
        return made is not None and not self.refresh_card(made).get("exact", True)

    def note_gate(self, number: int, old: Weights, new: Weights, name: str = "the candidate") -> None:
        """Remember which of the two the gate of generation `number` measures on partly stale vectors."""
        sides = {"the student before": old, name: new}
        self.judged_on_stale[number] = [name for name, weights in sides.items() if self.is_stale(weights)]

    def index(self, address: str, vectors: Artifact) -> Artifact:
        """The FAISS index of some vectors; documents that were left as they were are found in the old one."""
        return super().index(address, self._same_documents.get(vectors.key, vectors))

    def _refresh(self, address: str, weights: Weights, old: Artifact) -> Artifact:
        asked, view = self.config, View(self.config.student.max_tokens)
        identity = {
            **self.encoding_identity(view),
            "refresh": asked.index.refresh,
            "lists": [asked.mine.depth, asked.mine.lexical, asked.corpus.labels],
            "measure": asked.gate.measure,
            "depth": asked.evaluate.depth,
            "seed": asked.seed,
        }
        measured = self.measured_precision(asked.student.encode_precision)

        def build(work: Work) -> None:
            refresh.build_refresh(
                work, self.student(weights.student), self.text_tokens, self.prepared,
                self.lexical_index if asked.mine.lexical else None, old.path, asked,
                asked.student.batch_tokens or self.batch_tokens,
                precision_of(asked.student.encode_precision, measured, "encode"), address, self.collected.measuring,
            )  # fmt: skip

        inputs: list[Artifact | str] = [self.tokens, weights.key, old, *self.with_verdicts(self.lexical, self.judged)]
        inputs += [measured] if measured else []
        return self.runner.stage(address, 1, identity, inputs, build, resumable=True)
