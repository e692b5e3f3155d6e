"""Settings that are allowed but achieve nothing, or harm."""

from __future__ import annotations

from collections.abc import Iterator

from sdretrieval.chat import ServedModel
from sdretrieval.config.conflicts import knows_labels, member_paths
from sdretrieval.config.index_section import settings_from
from sdretrieval.config.schema import Config, CorpusConfig, FalseNegativesConfig, GenerateConfig, TargetsConfig
from sdretrieval.config.teachers import (
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    Member,
    MultiVectorConfig,
    RerankerApiConfig,
    members_of,
)


def warnings(config: Config) -> list[str]:
    """Settings that are allowed but achieve nothing, or harm: one line each, with the dotted path first."""
    return [
        *_asymmetry(config),
        *_averages(config),
        *_labels(config),
        *_unused(config),
        *_unused_by_loss(config),
        *_later(config),
        *_made_on_codes(config),
        *_language_models(config),
        *_views(config),
    ]


def _asymmetry(config: Config) -> Iterator[str]:
    members = members_of(config.teacher)
    if any(_knows_more(member, config) for member in members):
        return
    live = any(isinstance(member, EmaConfig) and member.mode == "live" for member in members)
    kind = "ema" if any(isinstance(member, EmaConfig) for member in members) else "dense"
    yield (
        "teacher: the teacher sees just what the student sees "
        f"(the first {config.student.max_tokens} tokens of a document): no asymmetry, so nothing is to be gained; "
        f"give the {kind} teacher {'mode: frozen (live reads the batch as the student does) and ' if live else ''}"
        f"view: {{windows: all}}, {'or another model, ' if kind == 'dense' else ''}or add a lexical or cross_encoder "
        "member"
    )


def _knows_more(member: Member, config: Config) -> bool:
    """A live average reads the batch's documents as they were cut for the student, whatever its view."""
    if not isinstance(member, EmaConfig | DenseConfig):
        return True
    wider = member.view.windows == "all" or (member.view.max_tokens or 0) > config.student.max_tokens
    if isinstance(member, EmaConfig):
        return wider and member.mode != "live"
    same = member.model.rstrip("/") == config.student.model.rstrip("/")
    return wider or not same or member.prompts != config.student.prompts


def _averages(config: Config) -> Iterator[str]:
    """A run keeps one average, with the first ema member's half_life, and one live one, with the first live one's."""
    pairs = zip(member_paths(config), members_of(config.teacher), strict=True)
    averages = [(path, member) for path, member in pairs if isinstance(member, EmaConfig)]
    for path, member in averages:
        if member.mode == "base" and member.half_life != EmaConfig.model_fields["half_life"].default:
            yield f"{path}.half_life: {member.half_life:g} has no effect: mode is base, which does not move"
    averages = [(path, member) for path, member in averages if member.mode != "base"]
    live = [(path, member) for path, member in averages if member.mode == "live"]
    for path, _ in live[1:]:
        yield (
            f"{path}.mode: a second live ema adds nothing but its weight: there is one live average, that of "
            f"{live[0][0]}; remove this member"
        )
    deciding = [*averages[:1], *live[:1]]
    for path, member in averages[1:]:
        first, decides = deciding[-1] if member.mode == "live" else deciding[0]
        if path != first and member.half_life != decides.half_life:
            yield (
                f"{path}.half_life: {member.half_life:g} has no effect: one average is kept, with {first}.half_life "
                f"({decides.half_life:g})"
            )


def _labels(config: Config) -> Iterator[str]:
    corpus = config.corpus
    if config.evaluate.hard_label_rates and "hard_labels" not in config.evaluate.controls:
        yield "evaluate.hard_label_rates: has no effect: evaluate.controls does not name hard_labels"
    if corpus.labels and corpus.dev_queries != _default(CorpusConfig, "dev_queries"):
        yield (
            f"corpus.dev_queries: {corpus.dev_queries} has no effect: corpus.labels is true, so dev holds judged "
            "queries, not generated ones"
        )
    if not corpus.labels and corpus.dev_share != _default(CorpusConfig, "dev_share"):
        yield (
            f"corpus.dev_share: {corpus.dev_share:g} has no effect: corpus.labels is false, so dev is generated "
            "(corpus.dev_queries), not carved off train"
        )
    made = not corpus.labels or corpus.generated_queries > 0
    if not made and corpus.generate != GenerateConfig():
        yield (
            "corpus.generate: has no effect: no query is made from documents (corpus.labels is true and "
            "corpus.generated_queries is 0)"
        )
    elif corpus.generate.writer is not None and corpus.generate.written == 0:
        yield (
            "corpus.generate.writer: has no effect: corpus.generate.written is 0, so it writes nothing; 1 has it write "
            "half of all queries, as the other shares add up to 1"
        )
    if not made and corpus.example_queries is not None:
        yield "corpus.example_queries: has no effect: no query is made from documents that could follow them"
    asked = {
        "train.hard_label_weight": config.train.hard_label_weight,
        "targets.label_evidence": config.targets.label_evidence,
    }
    for name, value in asked.items():
        if value > 0 and not knows_labels(config):
            yield (
                f"{name}: {value:g} has no effect: corpus.labels is false and no queries are generated, so no positive "
                "is known"
            )
    if config.targets.false_negatives.rule != "none" and config.train.hard_label_weight == 0:
        yield (
            f"targets.false_negatives.rule: {config.targets.false_negatives.rule} has no effect: it masks only the "
            "hard-label term, and train.hard_label_weight is 0"
        )


def _unused(config: Config) -> Iterator[str]:
    targets = config.targets
    if targets.temperature != "auto" and targets.target_perplexity != _default(TargetsConfig, "target_perplexity"):
        yield (
            f"targets.target_perplexity: {targets.target_perplexity:g} has no effect: targets.temperature is "
            f"{_shown(targets.temperature)}, not auto"
        )
    yield from _unused_thresholds(targets.false_negatives)


def _unused_by_loss(config: Config) -> Iterator[str]:
    train, targets = config.train, config.targets
    if train.margin_scale != "auto" and train.loss != "margin_mse":
        yield f"train.margin_scale: {train.margin_scale:g} has no effect: train.loss is {train.loss}, not margin_mse"
    if train.loss == "embedding" and train.scope != "auto":
        yield f"train.scope: {train.scope} has no effect: train.loss is embedding, which follows vectors, not lists"
    if train.loss == "embedding" and targets.label_evidence > 0:
        yield (
            f"targets.label_evidence: {targets.label_evidence:g} has no effect: train.loss is embedding, which follows "
            "vectors, not distributions; train.hard_label_weight has labels beside them"
        )
    heated = targets.temperature != "auto" or targets.target_perplexity != _default(TargetsConfig, "target_perplexity")
    heated = heated and not (train.loss == "margin_mse" and targets.label_evidence > 0)  # nats times T are scores
    if train.loss != "listwise_kl" and heated:
        name = "temperature" if targets.temperature != "auto" else "target_perplexity"
        value = _shown(getattr(targets, name))
        yield (
            f"targets.{name}: {value} has no effect: train.loss is {train.loss}, which follows "
            f"{'scores' if train.loss == 'margin_mse' else 'vectors'}, not the tempered distribution"
        )


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _later(config: Config) -> Iterator[str]:
    """What tells later generations from the first has a part only if there are some."""
    later = config.train.later_epochs
    if config.generations == 1 and later is not None:
        yield (
            f"train.later_epochs: {later:g} has no effect: generations is 1; set generations to 2 or more, or leave it "
            "out"
        )
    for path, member in zip(member_paths(config), members_of(config.teacher), strict=True):
        if config.generations == 1 and isinstance(member, EmaConfig) and member.mode == "born_again":
            yield (
                f"{path}.mode: born_again has no effect: generations is 1, and the first starts from the base anyway; "
                "set generations to 2 or more, or leave it out"
            )


def _made_on_codes(config: Config) -> Iterator[str]:
    """A made query's own document is scored exactly, without the query; the others by what the index holds of them."""
    if not config.corpus.labels and config.index.rescore is None and settings_from(config.index).lossy:
        yield (
            f"index.kind: {config.index.kind} scores documents by codes, but each made dev query's own document is "
            "scored by its vector, so that dev may flatter the student; set index.rescore to 4, or take kind exact"
        )


def _language_models(config: Config) -> Iterator[str]:
    writer, judge = config.corpus.generate.writer, config.evaluate.judge
    rerankers = [
        (path, member)
        for path, member in zip(member_paths(config), members_of(config.teacher), strict=True)
        if isinstance(member, RerankerApiConfig)
    ]
    for path, chat in (("corpus.generate.writer", writer), ("evaluate.judge", judge), *rerankers):
        url = chat.url if chat is not None else None
        if chat is None or url is None:
            continue
        model = ServedModel(url, chat.model)
        if chat.key_variable is not None and url.startswith("http://") and not model.is_local:
            yield f"{path}.url: {url} is not encrypted: the key and all texts can be read on their way; use https"
    if writer is not None and judge is not None and writer.url is not None and writer.model == judge.model:
        yield (
            f"evaluate.judge.model: {judge.model} judges queries that it wrote itself; a model is kind to its own "
            "words: name another one"
        )


def _unused_thresholds(rule: FalseNegativesConfig) -> Iterator[str]:
    for name, owner in {"margin": "margin", "percent": "percent_of_positive"}.items():
        value = getattr(rule, name)
        if rule.rule != owner and value != _default(FalseNegativesConfig, name):
            yield f"targets.false_negatives.{name}: {value:g} has no effect: the rule is {rule.rule}, not {owner}"


def _default(section: type[CorpusConfig | TargetsConfig | FalseNegativesConfig], name: str) -> object:
    return section.model_fields[name].default


def _views(config: Config) -> Iterator[str]:
    for prefix, member in zip(member_paths(config), members_of(config.teacher), strict=True):
        if (
            isinstance(member, CrossEncoderConfig | DenseConfig | EmaConfig | MultiVectorConfig)
            and member.view.windows == "first"
            and member.view.stride is not None
        ):
            yield f"{prefix}.view.stride: {member.view.stride} has no effect: view.windows is first"
    cut = config.train.document_tokens
    if cut is not None and config.student.train != "both":
        yield (
            f"train.document_tokens: {cut} has no effect: student.train is {config.student.train}, so training reads "
            "documents' vectors and encodes no document"
        )
    elif cut is not None and cut > config.student.max_tokens:
        yield (
            f"train.document_tokens: {cut} is more than student.max_tokens ({config.student.max_tokens}), where "
            "documents are cut in training too: it has no effect"
        )
