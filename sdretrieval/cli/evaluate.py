"""`evaluate`: any models on any corpus, beside BM25 and hybrid search, with paired tests.

Vectors and the BM25 index are kept in the store under what they were made from, so that a second call is quick.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.live import live_table
from sdretrieval.cli.lookup import FoundModel, find_model, load_found
from sdretrieval.cli.options import Runs
from sdretrieval.cli.output import check_writable, print_json, print_measures, say, stdout_kept_clean
from sdretrieval.errors import RequestError
from sdretrieval.files import write_json
from sdretrieval.formatting import quantity
from sdretrieval.store import Store, Work, check_disk, key_of
from sdretrieval.store.run_folder import runs_folder

if TYPE_CHECKING:
    from sdretrieval.config import IndexConfig
    from sdretrieval.corpus import Corpus
    from sdretrieval.encode.encoder import Precision
    from sdretrieval.encode.student import Student
    from sdretrieval.evaluation import Run
    from sdretrieval.indexes import LexicalIndex

logger = logging.getLogger("sdretrieval")

LEXICAL = "bm25"
HYBRID = "hybrid:"
"""Before a model's name: that model and BM25, mixed (`evaluation.absolute`)."""
MEASURES = ("nDCG@10", "Recall@100")
LEAST_DEPTH = 100
VERSION = 2
SEED = 13
"""Of the paired tests."""


def evaluate_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a hub id, a folder, a run; or bm25; or hybrid:MODEL")],
    corpus: Annotated[str,
        typer.Option(metavar="CORPUS",
            help="whatever `corpus check` reads, with judgements: a BEIR folder, beir:NAME")],
    split: Annotated[str, typer.Option(help="measure on the judged queries of this split")] = "test",
    against: Annotated[list[str] | None,
        typer.Option(metavar="MODEL", help="compare with this one too; may be given several times")] = None,
    measures: Annotated[list[str] | None,
        typer.Option("--measures", metavar="M",
            help="such as MRR@10; may be given several times (default: nDCG@10 Recall@100)")] = None,
    max_tokens: Annotated[int | None,
        typer.Option(min=1,
            help="tokens of a document that a model reads (default: as the run did; else as a run does, 256)")] = None,
    query_tokens: Annotated[int | None,
        typer.Option(min=1, help="the same of a query (default: as the run did; else as a run does, 64)")] = None,
    index: Annotated[str | None,
        typer.Option(metavar="RECIPE",
            help="search through this index: a file such as indexes/pq16.yaml, or '{kind: PQ16}'")] = None,
    json_file: Annotated[str | None,
        typer.Option("--json", metavar="FILE", help="write JSON to FILE, or to stdout if FILE is -")] = None,
    runs: Runs = None,
) -> None:  # fmt: skip
    """Measure a model on a corpus, beside BM25 and hybrid search, with paired tests."""
    from sdretrieval.config import read_index_section

    check_writable("--json", json_file if json_file != "-" else None)
    # `--measures nDCG@10,MRR@10` is understood as well as the option given twice.
    names = [name.strip() for given in measures or () for name in given.split(",") if name.strip()]
    with stdout_kept_clean(), live_table():
        record = evaluate_models(
            model, corpus, against=against or (), split=split, measures=names or MEASURES, max_tokens=max_tokens,
            query_tokens=query_tokens, index=read_index_section(index) if index else None, runs=runs,
        )  # fmt: skip
    if json_file == "-":
        print_json(record)
        return
    _print(record)
    if json_file is not None:
        write_json(Path(json_file), record)
        say(f"written: {json_file}")


def _print(record: dict[str, Any]) -> None:
    model, tests = record["model"], {test["b"]: test for test in record["tests"]}
    measures = list(record["measures"][model])
    say(f"{record['corpus']}, {record['split']}: {quantity(record['n_queries'], 'queries')}")
    for name, tokens in record["max_tokens"].items():
        say(f"{name} reads {tokens} tokens of a document, {record['query_tokens'][name]} of a query")
    for name, prompts in record["prompts"].items():
        if any(prompts.values()):
            say(f"{name} reads query prompt {prompts['query']!r}, document prompt {prompts['document']!r}")
    say(f"difference: {model} minus the system of the row, in {measures[0]}")
    values = record["measures"]
    rows = [([name], [values[name][m] for m in measures], tests.get(name, {})) for name in record["systems"]]
    print_measures(["system"], measures, rows)


def evaluate_models(
    model: str, source: str, *, against: Sequence[str] = (), split: str = "test", measures: Sequence[str] = MEASURES,
    max_tokens: int | None = None, query_tokens: int | None = None, index: IndexConfig | None = None,
    runs: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure `model`, BM25, the two mixed, and each of `against` over a split, and test `model` against them.

    A system is a MODEL (see `find_model`), `bm25`, or `hybrid:MODEL`. `max_tokens` and
    `query_tokens` hold for every model. `index`: the models' vectors are searched through such an index instead of
    exactly. The answer has the shape of report.json:
    corpus, split, n_queries, systems, measures, tests (a is always `model`; p adjusted by Holm over the rows).
    Raises ModelError, CorpusError, ConfigError (measure), RequestError (an index that a model's vectors do not fit)
    before that model encodes anything.
    """
    from sdretrieval.config import IndexConfig, identity_fields
    from sdretrieval.corpus import open_corpus, require_positives
    from sdretrieval.corpus.language import AUTO
    from sdretrieval.corpus.sources import STDLIB
    from sdretrieval.encode.prompts import find_prompts
    from sdretrieval.evaluation import evaluate, family, paired_test
    from sdretrieval.evaluation.measures import Measure

    depth = max([LEAST_DEPTH, *(Measure.parse(name).cutoff for name in measures)])
    # The rows of the table, each once: BM25, the model, the model with BM25, then what it is compared with.
    plain = model != LEXICAL and not model.startswith(HYBRID)
    systems = list(dict.fromkeys([LEXICAL, model, *([HYBRID + model] if plain else []), *against]))
    names = dict.fromkeys(name.removeprefix(HYBRID) for name in systems)
    for system in systems:
        if system.startswith(HYBRID) and system.removeprefix(HYBRID) in ("", LEXICAL):
            raise RequestError(f"{system}: BM25 is mixed with a model; expected {HYBRID}MODEL")
    models = {name: find_model(name, runs, max_tokens, query_tokens) for name in names if name != LEXICAL}
    corpus = open_corpus(source)
    require_positives(corpus, split)
    bench = Bench(
        corpus, split, depth, Store(runs_folder(runs) / "store"), models,
        split_identifiers=source == STDLIB or any(model.split_identifiers for model in models.values()),
        language=next((model.language for model in models.values() if model.language != AUTO), AUTO),
        index=index or IndexConfig(),
    )  # fmt: skip
    with bench.store.lock("evaluate", exclusive=False):
        measured = {name: evaluate(corpus.qrels[split], bench.run_of(name), measures) for name in systems}
    of_model = measured[model].of(measures[0])
    others = {name: one.of(measures[0]) for name, one in measured.items() if name != model}
    return {
        "schema": 1,
        "corpus": corpus.name,
        "split": split,
        "n_queries": measured[model].n_queries,
        "model": model,
        "max_tokens": {name: model.max_tokens for name, model in models.items()},
        "query_tokens": {name: model.query_tokens for name, model in models.items()},
        "prompts": {name: asdict(find_prompts(model.folder).prompts) for name, model in models.items()},
        "index": identity_fields(bench.index),
        "systems": systems,
        "measures": {name: one.means() for name, one in measured.items()},
        "tests": family(
            {(model, name): paired_test(of_model, other, SEED) for name, other in others.items()}, measures[0]
        ),
    }


@dataclass
class Bench:
    """One corpus and split on which systems are run, each once."""

    corpus: Corpus
    split: str
    depth: int
    store: Store
    models: dict[str, FoundModel]
    split_identifiers: bool
    language: str
    index: IndexConfig

    def __post_init__(self) -> None:
        self.rows: list[int] = self.corpus.split_rows(self.split)
        # One spare hit a query: its own document is left out.
        self._k = min(self.depth + 1, len(self.corpus.documents))
        self._dense: dict[str, Run] = {}

    def run_of(self, system: str) -> Run:
        """The best `depth` documents of each judged query."""
        from sdretrieval.evaluation import absolute

        if system == LEXICAL:
            return self.lexical
        name = system.removeprefix(HYBRID)
        if name not in self._dense:
            self._dense[name] = self._dense_run(self.models[name])
        if name == system:
            return self._dense[name]
        norm_Q = self.lexical_index.norm(self.corpus.query_texts(self.rows)).tolist()
        norm = dict(zip((self.corpus.query_ids[row] for row in self.rows), norm_Q, strict=True))
        return absolute(self._dense[name], self.lexical, norm, depth=self.depth)

    @cached_property
    def lexical(self) -> Run:
        """BM25's best documents of each judged query."""
        return self._run(*self.lexical_index.search(self.corpus.query_texts(self.rows), self._k))

    @cached_property
    def lexical_index(self) -> LexicalIndex:
        """BM25 over whole documents."""
        from sdretrieval.corpus.language import AUTO, ENGLISH, detect, sample
        from sdretrieval.indexes import LexicalIndex
        from sdretrieval.stages.lexical import build_lexical

        language = self.language
        if language == AUTO:
            detected = detect(sample(self.corpus.document_texts()))
            # A text in no known language (code, very short ones) is stemmed as English.
            language = detected.stemmer if detected.name else ENGLISH
        identity = {"split_identifiers": self.split_identifiers, "language": language, "terms": 2}

        def build(work: Work) -> None:
            build_lexical(self.corpus.document_texts(), self.split_identifiers, language).save(work.folder)

        return LexicalIndex.load(self._made("evaluate-lexical", identity, [self.corpus.digest], build))

    def _dense_run(self, model: FoundModel) -> Run:
        import numpy as np

        from sdretrieval.config import settings_from
        from sdretrieval.encode.encoder import Embeddings
        from sdretrieval.indexes import VectorIndex
        from sdretrieval.indexes.auto import choose

        student, wanted = load_found(model), self.index
        count = len(self.corpus.documents)
        chosen = choose(settings_from(wanted), count, student.dims)
        chosen.settings.check(student.dims, count, unit=student.unit_length)
        documents_WD, queries_WD = (
            Embeddings.load(self._vectors(student, side, model.precision)).vectors_WD
            for side in ("documents", f"queries:{self.split}")
        )
        if student.half is not None:
            words_ND = student.half.documents(self.corpus.document_texts())
            documents_WD = np.concatenate([documents_WD, words_ND], axis=1)
            words_QD = student.half.queries(self.corpus.query_texts(self.rows))
            queries_WD = np.concatenate([queries_WD, words_QD], axis=1)
        # Fitted on documents alone: the queries measure.
        index = VectorIndex.build(
            documents_WD, settings_from(wanted), wanted.device, unit=student.half is None, seed=SEED, repeatable=True
        )
        return self._run(*index.search(queries_WD, self._k))

    def _vectors(self, student: Student, side: str, precision: Precision) -> Path:
        if side == "documents":
            model, view, specials = student.document_model, student.view, student.document_specials
            prompt = student.prompts.document
        else:
            model, view, specials = student.model, student.query_view, student.query_specials
            prompt = student.prompts.query
        identity = {"side": side, "max_tokens": view.max_tokens, "prompt": prompt, "precision": precision}

        def build(work: Work) -> None:
            from sdretrieval.encode.encoder import encode_texts
            from sdretrieval.encode.loading import check_known
            from sdretrieval.encode.reuse import ReusableArtifact
            from sdretrieval.encode.tokens import tokenize

            texts = self.corpus.document_texts() if side == "documents" else self.corpus.query_texts(self.rows)
            check_known(student.name, student.tokenizer, texts, f"the {side.partition(':')[0]}")
            check_disk(self.store.root, 4 * student.dims * len(texts))
            tokens = tokenize(texts, student.tokenizer, f"tokenize {side}")
            embeddings, reused = encode_texts(
                model, tokens, view, specials, work.folder, precision=precision, description=f"encode {side}",
                reusable=[ReusableArtifact(one.path, one.sound) for one in work.reusable()],
            )  # fmt: skip
            cut = int((tokens.lengths > view.max_tokens - specials.count).sum())
            work.counts.update(windows=len(embeddings.vectors_WD), windows_reused=reused, cut=cut)

        made = self._made("evaluate-vectors", identity, [self.corpus.digest, student.digest], build)
        counts = self.store.manifest(made.name).counts
        if counts["cut"]:
            logger.info(
                "%s: %s of %s %s are longer than the %d tokens that it reads",
                student.name, f"{counts['cut']:,}", f"{counts['windows']:,}", side.partition(":")[0], view.max_tokens,
            )  # fmt: skip
        return made

    def _made(self, stage: str, identity: dict[str, Any], inputs: list[str], build: Callable[[Work], None]) -> Path:
        describe = {"version": VERSION, "identity": identity, "inputs": inputs}
        return self.store.ensure(key_of(stage, VERSION, identity, inputs), stage, describe, build).path

    def _run(self, rows_Qk: Any, scores_Qk: Any) -> Run:
        from sdretrieval.evaluation import run_from_hits

        ids = [self.corpus.query_ids[row] for row in self.rows]
        run = run_from_hits(ids, self.corpus.document_ids, rows_Qk, scores_Qk)
        return {query: dict(list(hits.items())[: self.depth]) for query, hits in run.items()}
