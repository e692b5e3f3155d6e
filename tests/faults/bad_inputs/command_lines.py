"""Command lines that ask for what cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.bad_inputs.kinds import BadInput, lines

LONG = "x" * 5000
COMMANDS = (
    "run", "plan", "probe", "score", "evaluate", "search", "show", "compare", "report", "doubts", "export",
    "verify", "gc", "corpus convert", "corpus check", "corpus python-stdlib",
)  # fmt: skip
NAMES = ("nobody", "../nobody", "''", ".", "/", LONG, "~nosuchuser/x", "{corpus}", "{config}", "'a\tb'", "--", "store")
"""No run has one of these."""
LINES = (
    "rum {config}", "'' {config}", "run {config} --until 1/mien", "run {config} --until 0/mine",
    "run {config} --until x", "run {config} --until ''", "run {config} --until 9/train",
    "run {config} --until -1/mine", "run {config} --worker", "run {config} --runs {config}",
    "run {config} --runs {config}/deeper", "run {config} --set", "run {config} --set ''",
    "plan {config} --budget-minutes x", "plan {config} --budget-minutes -1", "plan {config} --max-memory lots",
    "plan {config} --max-memory ''", "plan {config} --budget-minutes nan", "plan {config} --budget-minutes 0",
    "plan {config} --max-memory -4GB", "search tiny '' --runs {runs}", "search tiny ' ' --runs {runs}",
    "search tiny x -k 0 --runs {runs}", "search tiny x -k -5 --runs {runs}", "search tiny x -k many --runs {runs}",
    "search tiny x -k 1.5 --runs {runs}", "search {bundle} '' ", "search {bundle} x -k 0", "search {bundle} x --base",
    "search {bundle} x -k -1", "search {bundle} x --min-probability 1.1", "search {bundle} x --min-probability -0.1",
    "search tiny x --min-probability high --runs {runs}", "search tiny x --min-probability nan --runs {runs}",
    "search tiny x --min-probability 0.5 --base --runs {runs}", "evaluate nobody/x --corpus {corpus} --runs {new}",
    "evaluate bm25 --corpus /nowhere --runs {new}", "evaluate bm25 --corpus '' --runs {new}",
    "evaluate '' --corpus {corpus} --runs {new}", "evaluate bm25 --runs {new}",
    "evaluate bm25 --corpus {corpus} --split nosuch --runs {new}",
    "evaluate bm25 --corpus {corpus} --split '' --runs {new}",
    "evaluate bm25 --corpus {corpus} --measures ndcg@10 --runs {new}",
    "evaluate bm25 --corpus {corpus} --measures nDCG@0 --runs {new}",
    "evaluate bm25 --corpus {corpus} --measures nDCG@99999999999 --runs {new}",
    "evaluate bm25 --corpus {corpus} --measures nDCG --runs {new}",
    "evaluate {student} --corpus {corpus} --max-tokens 0 --runs {new}",
    "evaluate {student} --corpus {corpus} --max-tokens 999 --runs {new}",
    "evaluate {student} --corpus {corpus} --index {corpus}/corpus.jsonl --runs {new}",
    "evaluate {student} --corpus {corpus} --index '{{kind: PQ7}}' --runs {new}",
    "evaluate {student} --corpus {corpus} --index '{{kind: [' --runs {new}",
    "evaluate {student} --corpus {corpus} --index /nowhere.yaml --runs {new}",
    "evaluate bm25 --corpus {corpus} --json /nowhere/x.json --runs {new}",
    "evaluate bm25 --corpus {corpus} --json {corpus} --runs {new}",
    "evaluate bm25 --against nobody/x --corpus {corpus} --runs {new}",
    "evaluate {cross_encoder}/nothing --corpus {corpus} --runs {new}",
    "evaluate hybrid: --corpus {corpus} --runs {new}", "evaluate hybrid:bm25 --corpus {corpus} --runs {new}",
    "evaluate {corpus} --corpus {corpus} --runs {new}", f"evaluate {LONG} --corpus {{corpus}} --runs {{new}}",
    f"evaluate bm25 --corpus {LONG} --runs {{new}}", "evaluate ~nosuchuser/m --corpus {corpus} --runs {new}",
    "evaluate bm25 --corpus ~nosuchuser/c --runs {new}", "evaluate bm25 --corpus {corpus} --runs {config}",
    "evaluate bm25 --corpus beir:nosuch --runs {new}", "evaluate bm25 --corpus hf: --runs {new}",
    "evaluate bm25 --corpus python-stdlibb --runs {new}", "evaluate bm25 --corpus {student} --runs {new}",
    "evaluate bm25 --corpus {config} --runs {new}", "evaluate bm25 --corpus {corpus}/qrels --runs {new}",
    "export tiny {corpus} --runs {runs}", "export tiny {config} --runs {runs}", "export tiny '' --runs {runs}",
    "export tiny {new}/b --format tflite --runs {runs}", "export tiny {new}/b --format '' --runs {runs}",
    "export tiny {config}/b --runs {runs}", f"export tiny {{new}}/{LONG} --runs {{runs}}",
    "export tiny / --runs {runs}", "export tiny . --runs {runs}", "export tiny {runs} --runs {runs}",
    "verify {corpus}", "verify {config}", "verify /nowhere", "verify ''", f"verify {LONG}", "verify {runs}/tiny",
    "gc --runs /nowhere", "gc --runs {config}", "gc --runs {corpus}", "gc --runs ''", "gc --runs ~nosuchuser/runs",
    "compare tiny nobody --runs {runs}", "compare tiny --runs {runs}", "compare tiny {corpus} --runs {runs}",
    "score {config} --runs {new}", "score {config} --pairs x.tsv --export y.tsv --runs {new}",
    "score {config} --pairs /nowhere/x.tsv --runs {new}", "score {config} --pairs {new}.doc --runs {new}",
    "score {config} --pairs {corpus} --runs {new}", "score {config} --pairs x.tsv --generation 0 --runs {new}",
    "score {config} --pairs {corpus}/x.tsv --generation 2 --runs {new}",
    "score tiny --export /nowhere/x.tsv --runs {runs}", "score {config} --export x.tsv --teacher-row --runs {new}",
    "score tiny --export {corpus}/x.doc --runs {runs}", "doubts tiny -n 0 --runs {runs}",
    "doubts tiny --rule nosuch --runs {runs}", "doubts tiny --margin nan --runs {runs}",
    "doubts tiny --percent 101 --runs {runs}", "doubts tiny --tsv /nowhere/x.tsv --runs {runs}",
    "doubts tiny --tsv {corpus}/x.doc --runs {runs}", "doubts tiny --html {corpus} --runs {runs}",
    "doubts tiny --margin -1 --runs {runs}", "doubts tiny --of nosuch --runs {runs}",
    "doubts tiny --of queries --percent 90 --runs {runs}",
    "corpus convert {corpus} {corpus}", "corpus convert /nowhere {new}/c",
    "corpus convert {corpus} {config}", "corpus convert {corpus} {new}/c --queries /nowhere.jsonl",
    "corpus convert {corpus} {new}/c --qrels /nowhere.tsv",
    "corpus convert {corpus} {new}/c --topics {corpus}/corpus.jsonl", "corpus convert {corpus} {new}/c --id nosuch",
    "corpus convert {corpus}/corpus.jsonl {new}/c --id nosuch",
    "corpus convert {corpus}/corpus.jsonl {new}/c --text nosuch", "corpus convert {corpus} {new}/c --max-documents 0",
    "corpus convert {corpus} {new}/c --column x=y", "corpus convert {corpus} {new}/c --column nonsense",
    "corpus convert {corpus} ''", "corpus convert '' {new}/c", "corpus convert {corpus} {new}/c --log /nowhere.jsonl",
    "corpus convert {config} {new}/c", "corpus convert {corpus} {new}/c --qrels test={config}",
    "corpus check /nowhere", "corpus check ''", "corpus check {corpus} --max-tokens 9",
    "corpus check {corpus} --model nobody/x", "corpus check {corpus} --model {student} --max-tokens 0",
    "corpus check {corpus} --model {corpus}", "corpus check {config}", "corpus python-stdlib {corpus}",
    "corpus python-stdlib {new}/c --max-documents 0", "corpus nosuch {corpus}",
)  # fmt: skip
"""Each is refused. In braces: corpus, student, cross_encoder, config, runs (finished), bundle, new (no folder)."""


def bad_inputs() -> Iterator[BadInput]:
    """The table; each command with an option and an argument too many; each name of no run."""
    yield from lines("command lines", LINES)
    for command in COMMANDS:
        yield from lines("command lines", [f"{command} --no-such-option", f"{command} a b c d e f"])
    for name in NAMES:
        run_names = [f"show {name} --runs {{runs}}", f"search {name} dough --runs {{runs}}"]
        run_names += [f"export {name} {{new}}/b --runs {{runs}}", f"report {name} --runs {{runs}}"]
        run_names += [f"doubts {name} --runs {{runs}}"] if name != "{config}" else []
        yield from lines("names", run_names)
