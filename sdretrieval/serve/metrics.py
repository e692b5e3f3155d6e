"""What Prometheus asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from sdretrieval.serve.batching import Batcher
    from sdretrieval.serve.opened import Current

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Of one application: a registry of its own, so that two of them in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ["route", "status"]
        self._requests = Counter("sdretrieval_requests", "Requests answered", names, registry=self.registry)
        self._seconds = Histogram(
            "sdretrieval_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=self.registry
        )
        self._batches = Histogram(
            "sdretrieval_batch_texts", "Texts encoded together", buckets=TEXTS, registry=self.registry
        )
        self._waiting = Gauge("sdretrieval_waiting_texts", "Texts that wait or are encoded", registry=self.registry)
        self._swaps = Gauge("sdretrieval_swaps", "Bundles that took another's place", registry=self.registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, texts: int) -> None:
        """So many texts are encoded together."""
        self._batches.observe(texts)

    def follow(self, batcher: Batcher, current: Current) -> None:
        """Read these when somebody asks."""
        self._waiting.set_function(lambda: batcher.waiting)
        self._swaps.set_function(lambda: current.swaps)

    def text(self) -> tuple[bytes, int, dict[str, str]]:
        """Body, status and headers of the answer."""
        return generate_latest(self.registry), 200, {"Content-Type": CONTENT_TYPE_LATEST}
