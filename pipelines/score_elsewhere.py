"""A teacher that runs elsewhere: mine here, score there, train here, through the public Python API.

    python -m pipelines.score_elsewhere [configs/score-elsewhere.yaml] [MODEL] [KEY=VALUE ...]

`score_there` stands for the other machine: it needs sentence-transformers and the file of pairs, nothing of this
project. In its place may stand any model, in any language, behind any API: docs/score_elsewhere.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sdretrieval import RunResult, load_config, pairs_to_score, run_config
from sdretrieval.cli.logs import quiet_libraries, start_logging

READER = "cross-encoder/ms-marco-MiniLM-L12-v2"


def main(path: str = "configs/score-elsewhere.yaml", model: str = READER, *overrides: str) -> RunResult:
    """Write the pairs, have them scored, learn from the scores, print what came of it."""
    config = load_config(path, overrides)
    assert config.teacher.kind == "scores", "this script is for a config with teacher: {kind: scores, file: FILE}"
    scores = Path(config.teacher.file)
    scores.parent.mkdir(parents=True, exist_ok=True)
    pairs = scores.with_name("pairs.tsv")

    asked = pairs_to_score(config, pairs)  # corpus, vectors, index and lists are made for it, and found again below
    print(f"{asked['pairs']} pairs of {asked['queries']} queries to score: {pairs}")

    score_there(pairs, scores, model)

    result = run_config(config)  # a file that lacks a pair is refused here, and the pairs written to be scored
    assert result is not None  # only `until` stops a run early
    for row in result.details["table"]:
        print(f"{row['system']:20} dev {row['dev']['nDCG@10']:.4f}   test {row['test']['nDCG@10']:.4f}")
    print(result.details["headline"])
    print(f"report: {result.folder / 'report.html'}   student: {result.folder / 'student'}")
    return result


def score_there(pairs: Path, scores: Path, model: str) -> None:
    """On the other machine: query, document and raw score of each pair."""
    import torch
    from sentence_transformers import CrossEncoder

    with pairs.open(encoding="utf8") as lines:
        next(lines)  # query, document, query_text, document_text
        rows = [line.rstrip("\n").split("\t") for line in lines]
    reader = CrossEncoder(
        model, activation_fn=torch.nn.Identity()
    )  # raw logits: a sigmoid is nearly 1 for all good ones
    logits = reader.predict([(asked, text) for _, _, asked, text in rows], batch_size=32)
    with scores.open("w", encoding="utf8") as stream:
        stream.writelines(
            f"{query}\t{document}\t{logit:.9g}\n" for (query, document, _, _), logit in zip(rows, logits, strict=True)
        )


if __name__ == "__main__":
    quiet_libraries()
    start_logging(verbose=False)
    main(*sys.argv[1:])
