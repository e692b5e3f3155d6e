"""The model card: what the student is, where it comes from, what it gained and on what, and what nobody measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdretrieval.encode.prompts import Prompts
from sdretrieval.export.card_metadata import HUB_ID, Published, front_matter
from sdretrieval.export.layout import Agreement
from sdretrieval.formatting import quantity, seeds_text

PROVEN = 0.05


@dataclass(frozen=True)
class TeacherFact:
    """One member of the teacher: its name, what it sees that the student does not, its share of the mixture."""

    name: str
    asymmetry: str
    weight: float | None = None


@dataclass(frozen=True)
class CardFacts:
    """What the run knows of the student. `report` is report.json; without it the card says so."""

    name: str
    base_model: str
    base_digest: str
    corpus: str
    corpus_digest: str
    command: str
    teachers: Sequence[TeacherFact] = ()
    report: Mapping[str, Any] | None = None
    system: str = "final"
    """What the report calls this student."""
    published: Published = field(default_factory=Published)

    def lineage(self) -> dict[str, Any]:
        """What bundle.json keeps of it."""
        generations = (self.report or {}).get("generations", [])
        return {
            "base_model": self.base_model,
            "base_digest": self.base_digest,
            "corpus": self.corpus,
            "corpus_digest": self.corpus_digest,
            "command": self.command,
            "student": self.system,
            "teachers": [{"name": t.name, "asymmetry": t.asymmetry, "weight": t.weight} for t in self.teachers],
            "generations": [{key: one.get(key) for key in ("generation", "decision", "proven")} for one in generations],
        }


@dataclass(frozen=True)
class Served:
    """How the student is used: prompts, limits, and the formats beside it with how near they come to torch."""

    prompts: Prompts
    max_tokens: int
    query_tokens: int | None
    dims: int
    agreement: Mapping[str, Agreement]
    digest: str = ""
    two_encoders: bool = False
    """Whether queries have an encoder of their own, which alone was trained."""
    system: str = "final"
    """What the report calls this student."""
    half_dims: int = 0
    """Of the lexical half, if there is one."""


def model_card(facts: CardFacts, served: Served) -> str:
    """Markdown with YAML front matter, to lie beside the model."""
    parts = [
        front_matter(facts.name, facts.base_model, facts.report, facts.system, facts.published),
        f"# {facts.name}\n\n{_summary(facts)}",
        _usage(served),
        _mteb(facts, served),
        _results(facts.report, facts.system),
        _probability(facts.report) if facts.system == "final" else "",
        _lineage(facts),
        _limits(facts, served),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _summary(facts: CardFacts) -> str:
    base, report = f"`{_base_name(facts)}`", facts.report
    corpus = _cell(facts.corpus)
    if report is None:
        return f"A bi-encoder that began as {base}, for search over {corpus}. Nothing was measured for this card."
    if facts.system != "final":
        return (
            f"A smaller student (`{facts.system}`) of a larger one that began as {base}, to search {corpus}: "
            f"{next(one['description'] for one in report['smaller'] if one['name'] == facts.system)}."
        )
    own = _generations(report)
    if not any(one["decision"] in ("accepted", "merged") for one in own):
        why = "No generation passed the gate" if own else "Nothing was trained"
        return f"A bi-encoder for search over {corpus}. **{why}: these are the weights of {base}.**"
    return f"A bi-encoder distilled from {base} on the documents of {corpus}, to search them better."


def _usage(served: Served) -> str:
    query_tokens = served.query_tokens or served.max_tokens
    # sentence-transformers imports a module of another package only if it is told to.
    how = ", trust_remote_code=True)  # pip install sdretrieval" if served.half_dims else ")"
    lines = [
        "## Use",
        "```python\nfrom sentence_transformers import SentenceTransformer\n",
        f'model = SentenceTransformer("."{how}',
        'queries = model.encode_query(["a query"])',
        'documents = model.encode_document(["title text"])  # title and text joined by one space\n```',
        f"Vectors have {served.dims} dims and are compared by inner product.",
        f"A text is cut at {served.max_tokens} tokens.",
    ]
    if query_tokens < served.max_tokens:
        lines.append(
            f"All measurements, and this package, cut a query at {query_tokens}: other software gives longer ones "
            "another vector."
        )
    if served.prompts.query or served.prompts.document:
        lines.append(
            f"Prompts (stored in the model): query `{served.prompts.query!r}`, document `{served.prompts.document!r}`."
        )
    if served.half_dims:
        lines.append(
            f"The last {served.half_dims} dims of a vector are its text's words (a lexical half). They are computed by "
            "the package sdretrieval, not by code in this folder; servers such as text-embeddings-inference cannot run "
            "them. The vectors fit any vector store that ranks by inner product. `transformer/` is the model without "
            "them. A plain `encode` is refused, since it cannot know the side."
        )
    if served.two_encoders:
        whose = "base" if served.system == "final" else "final student"
        lines.append(
            "Queries and documents have an encoder each; only that of queries is trained, so that an index of the "
            f"{whose}'s documents stays valid. A plain `encode` is refused, since it cannot know the side."
        )
    for name, near in served.agreement.items():
        lines.append(
            f"Format `{name}`: on the canary texts its lowest cosine with torch is {near.cosine:.4f}, and "
            f"{near.shared:.0%} of the top hits are the same."
        )
    return "\n".join(lines)


def _mteb(facts: CardFacts, served: Served) -> str:
    return f"""## Measure with MTEB

MTEB keeps results by name and revision. `mteb.get_model` asks the hub for both, so give it the loaded model, named:

```python
import mteb

model.model_card_data.model_name = "local/{facts.name}"
model.model_card_data.base_model_revision = "{served.digest}"
results = mteb.evaluate(model, mteb.get_tasks(tasks=["SciFact"]))
```"""


def _results(report: Mapping[str, Any] | None, system: str) -> str:
    if report is None:
        return ""
    names = list(dict.fromkeys(measure for values in report["measures"].values() for measure in values))
    rows = []
    for name_of in report.get("systems") or report["measures"]:
        if name_of in report["measures"]:
            values = [report["measures"][name_of].get(name) for name in names]
            rows.append([name_of, *("" if value is None else f"{value:.4f}" for value in values)])
    averaged = "" if len(report["seeds"]) == 1 else f" (seed {report['seeds'][0]}), measured as the seeds' average"
    parts = [
        f"## Results\n\n{_cell(report['corpus'])}, {_split(report)}, {quantity(report['n_queries'], 'queries')}, "
        f"{seeds_text(report['seeds'])}. `student_0` is the base before training, `{system}` is this model"
        f"{averaged if system == 'final' else ', made smaller from `final`'}.",
        _table(["system", *names], rows),
    ]
    if report.get("tests"):
        rows = []
        for test in report["tests"]:
            (low, high), p = test["interval95"], test.get("p_holm", test["p"])
            # A gain or a loss only if both the interval and p say so.
            noise = p >= PROVEN or low <= 0 <= high
            verdict = "no gain within noise" if noise else "gain" if test["difference"] > 0 else "loss"
            holm = f"{test['p_holm']:.2g}" if "p_holm" in test else ""
            difference, interval = f"{test['difference']:+.4f}", f"{low:+.4f} to {high:+.4f}"
            compared = f"{test['a']} - {test['b']}"
            rows.append(
                [compared, str(test["measure"]), difference, interval, f"{test['p']:.2g}", holm,
                 test.get("verdict") or verdict]
            )  # fmt: skip
        parts.append(_table(["compared", "measure", "difference", "95 % interval", "p", "p (Holm)", "verdict"], rows))
    if report.get("estimate"):
        judge = report.get("judge")
        judged = f", and judged by {judge['model']}" if judge and judge["dev"] else ""
        parts.append(
            f"**estimate**: no labels were used, the dev queries were made from documents{judged}, so every dev "
            "figure, the gate's too, is an estimate."
        )
    return "\n\n".join(parts)


def _split(report: Mapping[str, Any]) -> str:
    made = report.get("estimate") if report["split"] == "dev" else report.get("split_is_synthetic")
    return f"split `{report['split']}`" + (" (**estimate**: its queries were made from documents)" if made else "")


def _probability(report: Mapping[str, Any] | None) -> str:
    """How true the probabilities come that `search` prints."""
    found = (report or {}).get("probability")
    if report is None or not found:
        return ""
    taught = f"was fitted on {quantity(found['queries'], 'judged dev queries')}"
    if found["estimate"]:
        taught = "is what other collections taught, so every probability is an **estimate**"
    lines = [
        "## Probability of relevance\n",
        f"`sdretrieval search` turns a hit's score into the probability that it is relevant; the map {taught}.",
    ]
    measured = found["figures"].get(report["split"])
    if measured is None:
        return "\n".join([*lines, "Nobody has measured how true it comes on this corpus."])
    hits, first = measured["error"], measured["first_error"]
    lines.append(
        f"On {_split(report)}, {quantity(measured['queries'], 'queries')}, its expected calibration error is "
        f"{hits['probability']:.3f} over the best hits and {first['probability']:.3f} over first hits alone (the "
        f"score's, cut to 0..1: {hits['score']:.3f} and {first['score']:.3f}). These figures are of the map that knows "
        "documents' words too; without BM25 (`--no-texts`) a plainer one is used, which was not measured."
    )
    return "\n".join(lines)


def _lineage(facts: CardFacts) -> str:
    lines = [
        "## Lineage\n",
        f"* Base model: `{_base_name(facts)}`, digest `{facts.base_digest}`",
        f"* Corpus: {_cell(facts.corpus)}, digest `{facts.corpus_digest}`",
    ]
    for teacher in facts.teachers:
        weight = "" if teacher.weight is None else f", weight {teacher.weight:g}"
        lines.append(f"* Teacher `{_cell(teacher.name)}`{weight}: {_cell(teacher.asymmetry)}")
    if facts.report and facts.report.get("pretrained"):
        lines.append(f"* Pretraining on documents: {_cell(facts.report['pretrained']['reason'])}")
    for one in _generations(facts.report) if facts.report else ():
        # The reason begins with the decision.
        lines.append(f"* Generation {one['generation']}: {_cell(one.get('reason') or one['decision'])}")
    return "\n".join([*lines, f"\nMade by\n\n```\n{facts.command}\n```"])


def _generations(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those that this model comes from: the first seed's."""
    return [one for one in report.get("generations", []) if one["seed"] == report["seeds"][0]]


def _limits(facts: CardFacts, served: Served) -> str:
    report = facts.report
    measured = (
        "Nothing was measured: compare it with the base on your own queries before you use it."
        if report is None
        else f"Measured on {_cell(report['corpus'])} ({_split(report)}) only; on other collections it may be worse "
        "than the base."
    )
    lines = [
        "## Limits\n",
        f"* {measured}",
        *([f"* On another collection: {_cell(report['guard']['text'])}."] if report and report.get("guard") else []),
        f"* It sees the first {served.max_tokens} tokens of a document and no more.",
    ]
    if report is not None and (behind := _hybrid_ahead(report, facts.system)):
        lines.append(f"* {behind}")
    return "\n".join(lines)


def _hybrid_ahead(report: Mapping[str, Any], system: str) -> str:
    """What a reader must know if search without any training does as well or better."""
    measures = report["measures"]
    if not {system, "hybrid_0"} <= set(measures):
        return ""
    name = next(iter(measures[system]), "")
    final, hybrid = measures[system].get(name), measures["hybrid_0"].get(name)
    if final is None or hybrid is None or hybrid <= final:
        return ""
    return f"The base mixed with BM25, untrained, reaches {name} {hybrid:.4f}, this model alone {final:.4f}."


def _base_name(facts: CardFacts) -> str:
    return (
        facts.base_model
        if HUB_ID.fullmatch(facts.base_model)
        else re.split(r"[/\\]", facts.base_model.rstrip("/\\"))[-1]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text that stays on one line and within its cell."""
    return " ".join(str(text).split()).replace("|", "\\|")
