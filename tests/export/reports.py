"""A report.json as a run writes it, small."""

from __future__ import annotations

from typing import Any


def _test(a: str, b: str, difference: float, interval95: tuple[float, float], p: float) -> dict[str, Any]:
    return {"a": a, "b": b, "measure": "nDCG@10", "difference": difference, "interval95": list(interval95), "p": p}


REPORT: dict[str, Any] = {
    "schema": 1,
    "corpus": "tiny",
    "split": "test",
    "n_queries": 24,
    "seeds": [13],
    "systems": ["bm25", "student_0", "hybrid_0", "final"],
    "measures": {
        "bm25": {"nDCG@10": 0.81, "Recall@100": 1.0},
        "student_0": {"nDCG@10": 0.21, "Recall@100": 0.9},
        "hybrid_0": {"nDCG@10": 0.84, "Recall@100": 1.0},
        "final": {"nDCG@10": 0.53, "Recall@100": 0.95},
    },
    "dev_measures": {"student_0": {"nDCG@10": 0.2}, "final": {"nDCG@10": 0.5}},
    "tests": [
        _test("final", "student_0", 0.32, (0.2, 0.44), 0.0001),
        _test("final", "hybrid_0", -0.31, (-0.4, -0.2), 0.001),
        _test("hybrid_final", "hybrid_0", 0.01, (-0.1, 0.1), 0.8),
    ],
    "generations": [
        {
            "generation": 1,
            "seed": 13,
            "decision": "accepted",
            "proven": True,
            "reason": "accepted, a proven gain: +0.3",
            "seconds": 3.0,
        },
        {
            "generation": 2,
            "seed": 13,
            "decision": "rejected",
            "proven": False,
            "reason": "rejected: a loss: -0.1",
            "seconds": 3.0,
        },
    ],
}
