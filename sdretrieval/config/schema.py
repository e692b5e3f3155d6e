"""The schema of a run's YAML, section by section, in the order the data flows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator

from sdretrieval.config.chat_section import JudgeConfig, WriterConfig
from sdretrieval.config.fields import MOST, MOST_TEXTS, MOST_WEIGHT, Number, Section, auto_or, cost, identity
from sdretrieval.config.smaller_section import AlsoConfig, SmallerConfig
from sdretrieval.config.teachers import PromptsConfig, TeacherConfig, born_again
from sdretrieval.indexes.settings import KIND as INDEX_KIND
from sdretrieval.indexes.settings import KIND_TEXT as INDEX_KIND_TEXT
from sdretrieval.synthetic_queries.recipe import DEFAULT_SHARES

Device = Literal["auto", "cpu", "cuda"]
LEAST_SCALE, MOST_SCALE = 0.0001, 10_000.0
OVERLAP_TEXT = "a number from 0 to 1, or auto"
SCALE_TEXT = f"a number from {LEAST_SCALE:g} to {MOST_SCALE:g}, or auto"
TEMPERATURE_TEXT = f"a number from {LEAST_SCALE:g} to {MOST_SCALE:g}, auto or student"
AUTO_TEMPERATURE = auto_or(lambda temperature: LEAST_SCALE <= temperature <= MOST_SCALE, TEMPERATURE_TEXT, "student")
AUTO_SCALE = auto_or(lambda scale: LEAST_SCALE <= scale <= MOST_SCALE, SCALE_TEXT)
Overlap = Annotated[float | Literal["auto"], auto_or(lambda share: 0 <= share <= 1, OVERLAP_TEXT)]
Temperature = Annotated[float | Literal["auto", "student"], AUTO_TEMPERATURE]
Scale = Annotated[float | Literal["auto"], AUTO_SCALE]
MEASURE = r"^(nDCG|MAP|Recall|P|MRR)@[1-9][0-9]{0,5}$"
MEASURE_TEXT = "a measure such as nDCG@10, Recall@100, MAP@10, P@5 or MRR@10"
RESERVED_NAMES = ("store",)
"""Folders of RUNS that are no runs."""


def _not_reserved(name: str) -> str:
    if name.lower() in RESERVED_NAMES:
        raise ValueError("reserved")
    return name


SEED_TEXT = "a whole number (at least 0, below 4294967296)"
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"), AfterValidator(_not_reserved)]
Measure = Annotated[str, Field(pattern=MEASURE)]


class GenerateConfig(Section):
    """How queries are made from documents, and which of them are kept. The shares say how often a kind is tried."""

    title: Number = identity("share of titles", DEFAULT_SHARES["title"], ge=0, le=MOST_WEIGHT)
    question: Number = identity("share of headings as questions", DEFAULT_SHARES["question"], ge=0, le=MOST_WEIGHT)
    sentence: Number = identity("share of sentences, as claims", DEFAULT_SHARES["sentence"], ge=0, le=MOST_WEIGHT)
    keywords: Number = identity(
        "share of two to six words that tell a document from the others", DEFAULT_SHARES["keywords"], ge=0,
        le=MOST_WEIGHT,
    )  # fmt: skip
    written: Number = identity("share of queries that a model writes", DEFAULT_SHARES["written"], ge=0, le=MOST_WEIGHT)
    writer: WriterConfig | None = identity("the model that writes queries", None)
    overlap: Overlap = identity(
        "probability that a document keeps a content word of the query made from it; auto: as example queries suggest",
        "auto",
        expects=OVERLAP_TEXT,
    )
    within: int | None = identity(
        "keep a query only if dense search and BM25 together find its document among so many; null sets no rank",
        10,
        ge=1,
        le=100,
    )


class CorpusConfig(Section):
    """Which texts, and which judgements of them may be used."""

    source: str = identity("BEIR folder, beir:NAME, table, saved dataset, hf:NAME or python-stdlib", min_length=1)
    labels: bool = identity("whether judgements of train and dev may be used; if false, dev queries are made", True)
    generated_queries: int = identity(
        "extra training queries made from documents (synthetic queries)", 0, ge=0, le=MOST_TEXTS
    )
    generate: GenerateConfig = identity("how queries are made from documents", GenerateConfig())
    example_queries: str | None = identity(
        "file of queries that people asked, without judgements (one a line, or a table), which synthetic ones follow",
        None,
        min_length=1,
    )
    train_queries: int | None = identity(
        "train on at most so many of the corpus' own queries, chosen by a hash; null takes all",
        None,
        ge=1,
        le=MOST_TEXTS,
    )
    unjudged_queries: bool = identity("whether queries without a judgement, as of a log, are trained on too", False)
    dev_share: Number = identity("share of train carved off as dev if the corpus has no dev split", 0.2, gt=0, le=0.5)
    dev_queries: int = identity("most synthetic dev queries if labels is false", 300, ge=1, le=MOST_TEXTS)
    max_documents: int | None = identity("keep only so many documents; null keeps all", None, ge=1, le=MOST_TEXTS)
    verdicts: str | None = identity(
        "table of (query, document) pairs that a person judged, as `sdretrieval doubts` writes it; truth in training",
        None,
        min_length=1,
    )  # fmt: skip


class LexicalHalfConfig(Section):
    """What stands behind the transformer's dims in a vector: the text in the corpus' own term space."""

    dims: int = identity("dims of the half", 256, ge=8, le=4096)
    strength: Number = identity(
        "what its evidence is worth, in the student's own unit: standard deviations of its 100 best scores", 4.0, gt=0,
        le=100,
    )  # fmt: skip


class StudentConfig(Section):
    """The bi-encoder that is trained and served."""

    model: str = identity("hub id or folder of a sentence-transformers model", min_length=1)
    train: Literal["both", "query", "adapter"] = identity(
        "what learns: queries and documents alike; the query encoder alone, so that a document index stays valid; or a "
        "linear map of all vectors, so that no text is encoded again",
        "both",
    )
    max_tokens: int = identity("tokens of a document that the student sees", 256, ge=1, le=MOST)
    query_tokens: int | None = identity(
        "tokens of a query that the student sees; null: as many as of a document, as wherever it is served",
        None,
        ge=1,
        le=MOST,
    )
    lexical_half: LexicalHalfConfig | None = identity(
        "dims that hold a text's words, so that one index searches both; null: none", None
    )
    trust_remote_code: bool = identity("whether code that comes with the model may run", False)
    prompts: PromptsConfig = identity("texts put before queries and documents", PromptsConfig())
    encode_precision: Literal["auto", "float32", "bfloat16"] = identity(
        "number format in which texts are encoded; auto: the faster one here, decided once a store", "float32"
    )
    license: str | None = cost(
        "the student's licence for its model card, as the hub names it; null takes that of the base model's card", None,
        pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$", expects="a licence as the hub names it, such as apache-2.0 or mit",
    )  # fmt: skip
    device: Device = cost("where the student encodes and trains", "auto")
    batch_tokens: int | None = cost(
        "most tokens in a batch of encoding, padding included; null chooses", None, ge=1, le=MOST_TEXTS
    )


def _index_kind(value: Any) -> str:
    if not isinstance(value, str) or not INDEX_KIND.fullmatch(value):
        raise ValueError(INDEX_KIND_TEXT)
    return value


IndexKind = Annotated[str | Literal["exact", "auto"], PlainValidator(_index_kind, json_schema_input_type=str)]


class IndexConfig(Section):
    """The FAISS index of the student's vectors."""

    kind: IndexKind = identity(
        "exact compares all vectors; auto picks by their number, dims and max_memory; else a FAISS factory string",
        "exact",
        expects=INDEX_KIND_TEXT,
    )
    device: Device = cost("where the index searches", "auto")
    nprobe: int | None = identity(
        "inverted lists visited per query (IVF); null fits them to recall", None, ge=1, le=MOST
    )
    ef_search: int | None = identity(
        "candidates held while searching the graph (HNSW); null fits them to recall", None, ge=1, le=MOST
    )
    ef_construction: int | None = identity(
        "candidates held while building the graph (HNSW); null means 100", None, ge=1, le=MOST
    )
    rescore: int | None = identity(
        "the best rescore x k hits are ranked again by the vectors; null: none", None, ge=1, le=1000
    )
    rescore_storage: Literal["float16", "float32", "int8"] = identity("number format of these vectors", "float16")
    max_memory: str | None = identity(
        "of the index (auto), such as 2GB; null: no limit", None, min_length=1, max_length=40,
        expects="a size such as 2GB, or null",
    )  # fmt: skip


Stemming = Literal[
    "english", "auto", "none", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "finnish", "french",
    "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian",
    "portuguese", "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
]  # fmt: skip


class MineConfig(Section):
    """Which documents are in a query's list."""

    depth: int = identity("how many documents to retrieve per query", 100, ge=2, le=MOST)
    keep: int = identity("how many documents a query's list keeps", 16, ge=2, le=MOST)
    lexical: bool = identity("whether BM25's documents join the index's", True)
    top_share: Number = identity("share of the list taken from the top; the rest is sampled deeper", 0.5, ge=0, le=1)
    split_identifiers: bool = identity("whether BM25 splits camelCase and snake_case (for code)", False)
    language: Stemming = identity("what BM25 stems as; auto recognises it, none stems nothing", "english")


class PretrainConfig(Section):
    """What the student learns from documents alone before anybody teaches it: two pieces of a document find each other
    among those of a batch's other documents. `train` says how else: precision, temperature, freeze and so on."""

    updates: int = identity("updates of the optimiser", 100, ge=1, le=MOST)
    documents_per_batch: int = identity("documents in a batch, two pieces of each", 48, ge=2, le=100_000)
    learning_rate: Number = identity("highest learning rate", 2e-5, gt=0, le=1000)


class ProbeConfig(Section):
    """What is measured before any training: does the teacher rank the student's candidates better than the student?"""

    guard: bool = identity("whether nothing is trained if the probe finds no teacher better than the student", True)


class FalseNegativesConfig(Section):
    """Which candidates the hard-label term must not push away; the soft targets keep them."""

    rule: Literal["none", "margin", "percent_of_positive"] = identity("how likely false negatives are found", "none")
    margin: Number = identity(
        "a candidate scored above the positive less this is left out (margin)", 0.05, ge=0, le=1000
    )
    percent: Number = identity(
        "a candidate above this percentage of the positive's score is left out", 95.0, gt=0, le=100
    )


class TargetsConfig(Section):
    """How raw teacher scores become distributions."""

    calibrate: Literal["absolute", "zscore", "minmax", "log_odds", "none"] = identity(
        "how a member's scores are made comparable", "absolute"
    )
    temperature: Temperature = identity(
        "of the targets; auto fits target_perplexity, student keeps train.student_temperature for a bi-encoder's "
        "cosines, so that the target is the student's own distribution plus evidence",
        "auto",
        expects=TEMPERATURE_TEXT,
    )
    target_perplexity: Number = identity("median perplexity that temperature auto aims at", 3.0, gt=1, le=MOST)
    label_evidence: Number = identity(
        "nats that a label adds to its document's log-probability in the target; 0 leaves labels out of it",
        0.0, ge=0, le=100,
    )  # fmt: skip
    false_negatives: FalseNegativesConfig = identity("rule for the hard-label term", FalseNegativesConfig())


class TrainConfig(Section):
    """One generation's training."""

    loss: Literal["listwise_kl", "margin_mse", "embedding"] = identity(
        "follow the teacher's distribution, its differences of scores, or its vectors", "listwise_kl"
    )
    margin_scale: Scale = identity(
        "cosines for one unit of the teacher's score (margin_mse); auto keeps the spread of the student's lists",
        "auto",
        expects=SCALE_TEXT,
    )
    scope: Literal["auto", "list", "batch"] = identity(
        "KL over the query's list, or over all documents of the batch", "auto"
    )
    hard_label_weight: Number = identity(
        "weight of InfoNCE on known positives beside the divergence", 0.0, ge=0, le=MOST_WEIGHT
    )
    student_temperature: Number = identity("divides the student's cosine scores", 0.05, ge=LEAST_SCALE, le=MOST_SCALE)
    epochs: Number = identity("passes over the training queries, fractions allowed", 1.0, gt=0, le=10_000)
    later_epochs: Number | None = identity(
        "passes of each generation after the first; null means as many as epochs", None, gt=0, le=10_000
    )
    queries_per_batch: int = identity("queries in a batch", 16, ge=1, le=100_000)
    candidates_per_query: int = identity("documents of a query's list that enter a batch", 10, ge=2, le=MOST)
    document_tokens: int | None = identity(
        "tokens of a document in training; null means the student's max_tokens", None, ge=1, le=MOST
    )
    learning_rate: Number = identity("highest learning rate", 5e-5, gt=0, le=1000)
    warmup: Number = identity("share of updates in which the learning rate rises", 0.1, ge=0, le=1)
    weight_decay: Number = identity("decoupled weight decay", 0.01, ge=0, le=100)
    max_grad_norm: Number = identity("gradients are scaled down to this norm", 1.0, gt=0, le=MOST)
    freeze: tuple[str, ...] = identity("parts of the student that stay as they are", ("word_embeddings",), strict=False)
    lora_rank: int | None = identity("rank of matrices that learn in place of weights (LoRA)", None, ge=1, le=MOST)
    dropout: Number = identity("dropout while training", 0.0, ge=0, lt=1)
    also: AlsoConfig | None = identity(
        "earlier layers and fewer dims that learn along, each a student that can be served; null: none", None
    )
    precision: Literal["auto", "float32", "bfloat16"] = identity(
        "number format of training; auto: the faster one here, decided once a store", "auto"
    )
    gradient_accumulation: int = identity(
        "batches summed into one update; a query only meets the documents of its own batch", 1, ge=1, le=10_000
    )
    batch_tokens: int | None = cost(
        "most tokens of a batch held at once, each encoded twice; null holds them all", None, ge=1, le=MOST_TEXTS
    )
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = cost(
        "who gets each training's figures, update by update, beside the run's report", (), strict=False
    )
    save_every: int | None = cost("updates between two checkpoints; null chooses", None, ge=1, le=MOST_TEXTS)

    def epochs_of(self, generation: int) -> float:
        """Passes of one generation, counted from 1."""
        return self.epochs if generation == 1 or self.later_epochs is None else self.later_epochs


class GateConfig(Section):
    """When a generation is accepted."""

    measure: Measure = identity("measure on dev that decides", "nDCG@10", expects=MEASURE_TEXT)
    tolerance: Number = identity("loss on dev that the interval of the gain must exclude", 0.01, ge=0, le=1)
    guard: str | None = identity(
        "another judged collection, on which no significant loss is accepted; null: none", None, min_length=1
    )


class EvaluateConfig(Section):
    """What the report measures."""

    split: str = identity(
        "split that the report measures",
        "test",
        pattern=r"^[^/\x00-\x1f]{1,100}$",  # it names files
        expects="text (not empty, at most 100 characters, no /)",
    )
    measures: tuple[Measure, ...] = identity(
        "measures of the report", ("nDCG@10", "Recall@100"), min_length=1, strict=False, expects=MEASURE_TEXT
    )
    baselines: tuple[Literal["hybrid_dev", "hybrid_rrf", "hybrid_log_odds"], ...] = identity(
        "untrained hybrid search mixed in other ways: with a strength chosen on dev, by reciprocal ranks, by log-odds",
        (),
        strict=False,
    )
    controls: tuple[Literal["hard_labels", "shuffled_teacher"], ...] = identity(
        "trainings without a teacher, or with a scrambled one, at equal updates", (), strict=False
    )
    hard_label_rates: tuple[Annotated[Number, Field(gt=0, le=1000)], ...] = identity(
        "learning rates of which the control hard_labels takes the best on dev; empty takes train.learning_rate",
        (),
        strict=False,
        expects="a number above 0, at most 1000",
    )
    teacher_depth: int = identity("how many of the base student's documents the teacher reranks", 20, ge=1, le=MOST)
    depth: int = identity("documents retrieved per query", 100, ge=1, le=MOST)
    judge: JudgeConfig | None = identity("a language model that judges what dev's queries find", None)


class Config(Section):
    """A whole run."""

    name: Slug = identity(
        "names the run's folder",
        expects="letters, digits, '.', '_' or '-' (at most 100, the first a letter or digit; not 'store')",
    )
    seeds: tuple[Seed, ...] = identity(
        "of everything random; every training is repeated for each of them, and the report shows their spread",
        (13,),
        min_length=1,
        strict=False,
        expects=SEED_TEXT,
    )
    corpus: CorpusConfig = identity("texts and judgements")
    student: StudentConfig = identity("the model that is trained")
    pretrain: PretrainConfig | None = identity(
        "what it learns from documents alone first; precision, student_temperature, warmup, weight_decay, "
        "max_grad_norm, freeze, dropout and lora_rank are those of train; null: nothing",
        None,
    )
    index: IndexConfig = identity("nearest-neighbour search", IndexConfig())
    mine: MineConfig = identity("candidates", MineConfig())
    teacher: TeacherConfig = identity("what teaches")
    probe: ProbeConfig = identity("what is measured before any training", ProbeConfig())
    targets: TargetsConfig = identity("scores to distributions", TargetsConfig())
    train: TrainConfig = identity("one generation's training", TrainConfig())
    gate: GateConfig = identity("when a generation is accepted", GateConfig())
    evaluate: EvaluateConfig = identity("what the report measures", EvaluateConfig())
    generations: int = identity("rounds of mining, teaching and training", 1, ge=1, le=10)
    smaller: tuple[SmallerConfig, ...] = identity(
        "smaller students that are fitted to the final one's vectors: a list of sections such as {model: static}",
        (),
        strict=False,
    )

    @property
    def exits(self) -> tuple[SmallerConfig, ...]:
        """What `train.also` teaches, in the report's order."""
        also = self.train.also or AlsoConfig()
        sizes = [(layers, dims) for layers in (None, *also.layers) for dims in (None, *also.dims)]
        return tuple(SmallerConfig(layers=layers, dims=dims) for layers, dims in sizes[1:])

    @property
    def seed(self) -> int:
        """The first: of the splits, of synthetic queries, of the lists, and of the student that is served."""
        return self.seeds[0]

    def epochs_of(self, generations: Sequence[int]) -> float:
        """Passes over the training queries behind a student of these `generations`: one that was born again has only
        those of its last."""
        counted = generations[-1:] if born_again(self.teacher) else generations
        return sum(self.train.epochs_of(number) for number in counted)
