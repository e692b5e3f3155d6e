"""`evaluate`: any models on any corpus, beside BM25 and hybrid search, with paired tests.

Vectors and the BM25 index are kept in the store under what they were made from, so that a second call is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdretrieval.config import IndexConfig, identity_fields, settings_from
from sdretrieval.corpus import Corpus, open_corpus, require_split
from sdretrieval.corpus.language import AUTO, ENGLISH, detect, sample
from sdretrieval.corpus.sources import STDLIB
from sdretrieval.encode.prompts import find_prompts
from sdretrieval.evaluation import Measured, Run, evaluate, family, fuse, paired_test, run_from_hits
from sdretrieval.evaluation.measures import Measure
from sdretrieval.indexes.auto import choose
from sdretrieval.run.commands.lookup import FoundModel, find_model, load_found
from sdretrieval.store import Store, Work, check_disk, key_of
from sdretrieval.store.run_folder import runs_folder

if TYPE_CHECKING:
    from sdretrieval.encode.encoder import Precision
    from sdretrieval.encode.student import Student
    from sdretrieval.encode.views import Specials, View
    from sdretrieval.indexes import LexicalIndex, VectorIndex
    from sdretrieval.ragged import Array

LEXICAL = "bm25"
HYBRID = "hybrid:"
"""Before a model's name: that model and BM25, evenly mixed."""
MEASURES = ("nDCG@10", "Recall@100")
LEAST_DEPTH = 100
VERSION = 1
SEED = 13
"""Of the paired tests."""


def evaluate_models(
    model: str,
    source: str,
    *,
    against: Sequence[str] = (),
    split: str = "test",
    measures: Sequence[str] = MEASURES,
    max_tokens: int | None = None,
    index: IndexConfig | None = None,
    runs: Path | None = None,
) -> dict[str, Any]:
    """Measure `model`, BM25, the two evenly mixed, and each of `against` over a split, and test `model` against them.

    A system is a MODEL (see `find_model`), `bm25`, or `hybrid:MODEL`. `max_tokens` holds for every model. `index`: the
    models' vectors are searched through such an index instead of exactly. The answer has the shape of report.json:
    corpus, split, n_queries, systems, measures, tests (a is always `model`; p adjusted by Holm over the rows).
    Raises ModelError, CorpusError, ConfigError (measure), RequestError (an index that a model's vectors do not fit)
    before that model encodes anything.
    """
    depth = max([LEAST_DEPTH, *(Measure.parse(name).cutoff for name in measures)])
    systems = systems_of(model, against)
    models = {name: find_model(name, runs, max_tokens) for name in _model_names(systems)}
    corpus = open_corpus(source)
    require_split(corpus, split)
    store = Store(runs_folder(runs) / "store")
    splits_identifiers = source == STDLIB or any(found.split_identifiers for found in models.values())
    languages = [found.language for found in models.values() if found.language != AUTO]
    language = languages[0] if languages else AUTO
    bench = Bench(corpus, split, depth, store, models, splits_identifiers, language, index or IndexConfig())
    with store.lock("evaluate", exclusive=False):
        measured = {name: evaluate(corpus.qrels[split], bench.run_of(name), measures) for name in systems}
    return {
        "schema": 1,
        "corpus": corpus.name,
        "split": split,
        "n_queries": measured[model].n_queries,
        "model": model,
        "max_tokens": {name: found.max_tokens for name, found in models.items()},
        "prompts": {name: asdict(find_prompts(found.folder).prompts) for name, found in models.items()},
        "index": identity_fields(bench.index),
        "systems": systems,
        "measures": {name: found.means() for name, found in measured.items()},
        "tests": tests_against(model, measured, measures[0]),
    }


def systems_of(model: str, against: Sequence[str]) -> list[str]:
    """The rows of the table, each once: BM25, the model, the model with BM25, then what it is compared with."""
    plain = model != LEXICAL and not model.startswith(HYBRID)
    return list(dict.fromkeys([LEXICAL, model, *([HYBRID + model] if plain else []), *against]))


def tests_against(model: str, measured: dict[str, Measured], measure: str) -> list[dict[str, Any]]:
    """The model against every other system by `measure`, Holm's correction over the rows."""
    mine = measured[model].of(measure)
    others = {name: found.of(measure) for name, found in measured.items() if name != model}
    return family({(model, name): paired_test(mine, theirs, SEED) for name, theirs in others.items()}, measure)


def _model_names(systems: Sequence[str]) -> list[str]:
    plain = [name.removeprefix(HYBRID) for name in systems]
    return list(dict.fromkeys(name for name in plain if name != LEXICAL))


@dataclass
class Bench:
    """One corpus and split on which systems are run, each once."""

    corpus: Corpus
    split: str
    depth: int
    store: Store
    models: dict[str, FoundModel]
    split_identifiers: bool
    language: str = AUTO
    index: IndexConfig = field(default_factory=IndexConfig)

    def run_of(self, system: str) -> Run:
        """The best `depth` documents of each judged query."""
        if system == LEXICAL:
            return self.lexical
        if system.startswith(HYBRID):
            return fuse([self.lexical, self.run_of(system.removeprefix(HYBRID))], [0.5, 0.5], self.depth)
        return self._dense[system]

    @cached_property
    def lexical(self) -> Run:
        """BM25 over whole documents."""
        hits = self._lexical_index().search(self.corpus.query_texts(self.rows), self._asked)
        return self._run(*hits)

    @cached_property
    def _dense(self) -> dict[str, Run]:
        return {name: self._dense_run(found) for name, found in self.models.items()}

    @cached_property
    def rows(self) -> list[int]:
        """Query rows of the split."""
        return self.corpus.split_rows(self.split)

    @property
    def _asked(self) -> int:
        return min(self.depth + 1, len(self.corpus.documents))  # one spare: a query's own document is left out

    def _run(self, rows_Qk: Any, scores_Qk: Any) -> Run:
        ids = [self.corpus.query_ids[row] for row in self.rows]
        run = run_from_hits(ids, self.corpus.document_ids, rows_Qk, scores_Qk)
        return {query: dict(list(hits.items())[: self.depth]) for query, hits in run.items()}

    def _lexical_index(self) -> LexicalIndex:
        from sdretrieval.indexes import LexicalIndex
        from sdretrieval.stages import wording

        language = self.language
        if language == AUTO:
            found = detect(sample(self.corpus.document_texts()))
            # A text that is no known language (code, very short ones) is read as it always was.
            language = found.stemmer if found.name else ENGLISH
        identity = {"split_identifiers": self.split_identifiers, "language": language, "terms": 2}

        def build(work: Work) -> None:
            wording.build_index(self.corpus.document_texts(), self.split_identifiers, language).save(work.folder)

        return LexicalIndex.load(self._made("evaluate-lexical", identity, [self.corpus.digest], build))

    def _dense_run(self, found: FoundModel) -> Run:
        from sdretrieval.encode.encoder import Embeddings

        student = load_found(found)
        count = len(self.corpus.documents)
        choose(settings_from(self.index), count, student.dims).settings.check(student.dims, count)
        documents = self._vectors(student, "documents", found.precision)
        queries = self._vectors(student, f"queries:{self.split}", found.precision)
        index = self._vector_index(Embeddings.load(documents).vectors_WD)
        return self._run(*index.search(Embeddings.load(queries).vectors_WD, self._asked))

    def _vector_index(self, vectors_ND: Array) -> VectorIndex:
        """Fitted on documents alone: the queries measure."""
        from sdretrieval.indexes import VectorIndex

        asked = self.index
        return VectorIndex.build(vectors_ND, settings_from(asked), asked.device, seed=SEED, repeatable=True)

    def _vectors(self, student: Student, side: str, precision: Precision) -> Path:
        view, prompt, specials = _seen(student, side)
        model = student.document_model if side == "documents" else student.model
        identity = {"side": side, "max_tokens": view.max_tokens, "prompt": prompt}
        if precision != "float32":  # left out before there was a choice: what was encoded then is still found
            identity["precision"] = precision

        def build(work: Work) -> None:
            from sdretrieval.encode.encoder import encode_texts
            from sdretrieval.encode.tokens import tokenize
            from sdretrieval.stages.inputs import donors_among

            texts = self.corpus.document_texts() if side == "documents" else self.corpus.query_texts(self.rows)
            check_disk(self.store.root, 4 * student.dims * len(texts))
            tokens = tokenize(texts, model.tokenizer, f"tokenize {side}")
            found, reused = encode_texts(
                model, tokens, view, specials, work.folder, precision=precision, description=f"encode {side}",
                donors=donors_among(work.kin()),
            )  # fmt: skip
            work.counts.update(windows=len(found.vectors_WD), windows_reused=reused)

        return self._made("evaluate-vectors", identity, [self.corpus.digest, student.digest], build)

    def _made(self, stage: str, identity: dict[str, Any], inputs: list[str], build: Any) -> Path:
        describe = {"version": VERSION, "identity": identity, "inputs": inputs}
        return self.store.ensure(key_of(stage, VERSION, identity, inputs), stage, describe, build).path


def _seen(student: Student, side: str) -> tuple[View, str, Specials]:
    """View, prompt and special tokens of one side."""
    if side == "documents":
        return student.view, student.prompts.document, student.document_specials
    return student.query_view, student.prompts.query, student.query_specials
