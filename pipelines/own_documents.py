"""A folder of documents becomes a search engine that knows them: no queries, no labels, one command.

    python -m pipelines.own_documents FOLDER ["a question" ...]

FOLDER holds .txt, .md, .rst, .html, .pdf, .docx or .pptx files. What comes of it is `sdretrieval run
configs/own-documents.yaml --set corpus.source=FOLDER`: a report, and a student that `sdretrieval search` and `export`
take.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from sdretrieval import RunResult, load_config, run_config
from sdretrieval.cli.logs import quiet_libraries, start_logging
from sdretrieval.cli.search import search

HITS = 3


def main(
    folder: str,
    questions: Sequence[str] = (),
    config: str = "configs/own-documents.yaml",
    overrides: Sequence[str] = (),
) -> RunResult:
    """Passages from files, queries from passages, a teacher from both, a student; then a search or two."""
    asked = load_config(config, [f"corpus.source={json.dumps(str(folder))}", *overrides])

    result = run_config(asked)
    assert result is not None  # only `until` stops a run early

    for split, made in result.report["synthetic_queries"].items():
        print(f"queries made for {split}: {made['kept']} kept of {made['wanted']} wanted")
    for row in result.details["table"]:
        print(f"{row['system']:20} estimated nDCG@10 {row['test']['nDCG@10']:.4f}")
    print(result.details["headline"])
    for question in questions:
        print(f"\n{question}")
        for hit in search(str(result.folder), question, HITS).hits:
            print(f"  {hit.title or hit.text[:70]}")
    print(f"\nreport: {result.folder / 'report.html'}   student: {result.folder / 'student'}")
    return result


if __name__ == "__main__":
    quiet_libraries()
    start_logging(verbose=False)
    if len(sys.argv) < 2:
        raise SystemExit('usage: python -m pipelines.own_documents FOLDER ["a question" ...]')
    main(sys.argv[1], sys.argv[2:])
