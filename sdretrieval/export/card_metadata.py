"""The model card's front matter: what a model hub reads of a student, so that it is found and its figures are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
BASE = "student_0"
MEASURE_TYPES = {"nDCG": "ndcg", "MAP": "map", "Recall": "recall", "P": "precision", "MRR": "mrr"}
"""Of a measure's name, as MTEB writes them: `nDCG@10` is of the type `ndcg_at_10`."""
UNKNOWN = "unknown"
"""A dataset's type if no hub has it, as sentence-transformers writes it."""


@dataclass(frozen=True)
class License:
    """As the hub names it, such as `apache-2.0`; `other` has a name and a link."""

    id: str
    name: str | None = None
    link: str | None = None


@dataclass(frozen=True)
class Published:
    """What the world may know of where a student comes from; None and nothing if it is not known."""

    license: License | None = None
    language: str | None = None
    """An ISO 639-1 code."""
    dataset: str | None = None
    """The corpus' hub id."""


def front_matter(
    name: str, base_model: str, report: Mapping[str, Any] | None, system: str, published: Published
) -> str:  # fmt: skip
    """YAML between two lines of dashes, as huggingface_hub reads it. `system`: what the report calls this student."""
    from huggingface_hub import ModelCardData

    license, results = published.license or License(""), _results(report, system, published.dataset)
    data = ModelCardData(
        language=published.language,
        license=license.id or None,
        license_name=license.name,
        license_link=license.link,
        # A local folder means nothing on another machine, and a hub refuses it.
        base_model=base_model if HUB_ID.fullmatch(base_model) else None,
        datasets=[published.dataset] if published.dataset else None,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "retrieval", "self-distillation"],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _results(report: Mapping[str, Any] | None, system: str, dataset: str | None) -> list[EvalResult]:
    """This student's figures; the base student's beside each, as arguments of the metric: a model index holds figures
    of its own model alone."""
    from huggingface_hub import EvalResult

    if report is None:
        return []
    measures: Mapping[str, Mapping[str, float | None]] = report["measures"]
    split = report["split"]
    made = report.get("estimate") if split == "dev" else report.get("split_is_synthetic")
    estimate = " (estimate: its queries were made from documents)" if made else ""
    before = measures.get(BASE, {})
    return [
        EvalResult(
            task_type="retrieval",
            task_name="Retrieval",
            dataset_type=dataset or UNKNOWN,
            dataset_name=f"{' '.join(report['corpus'].split())}{estimate}",
            dataset_split=split,
            metric_type=_type_of(measure),
            metric_name=measure,
            metric_value=round(value, 4),
            metric_args=_before(measure, before, report["n_queries"], report["seeds"]),
        )
        for measure, value in measures.get(system, {}).items()
        if value is not None
    ]


def _before(
    measure: str, before: Mapping[str, float | None], queries: int, seeds: Sequence[int]
) -> dict[str, Any]:  # fmt: skip
    base = before.get(measure)
    known = {} if base is None else {"before_training": round(base, 4)}
    return {**known, "queries": queries, **({} if len(seeds) == 1 else {"average_over_seeds": list(seeds)})}


def _type_of(measure: str) -> str:
    name, _, depth = measure.partition("@")
    return f"{MEASURE_TYPES.get(name, name.lower())}_at_{depth}" if depth else name.lower()
