"""How near mixed vectors come to those of mixed weights, in a finished run whose gate refused a generation.

    python -m benchmarks.mixtures RUN

For each mixture that the run encoded: cosine of a document's mixed vector with its own, and the gate's measure on dev
by both. Nothing is encoded.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.finished import artifact_of, stages_of
from sdretrieval.cli.lookup import Serving
from sdretrieval.encode.movement import cosines
from sdretrieval.stages.inputs import Prepared, Vectors
from sdretrieval.stages.mixtures import FOUND, between, build_mixtures
from sdretrieval.stages.search import read_measured
from sdretrieval.store import Work
from sdretrieval.store.run_folder import find_run
from sdretrieval.store.runner import Artifact

MIXTURE = re.compile(r"(\d+)m([0-9.]+)/encode")


def rows(folder: Path) -> Iterator[tuple[str, float, float, float, float]]:
    """(address, mean and least cosine, dev by encoded vectors, dev by mixed ones) of each mixture."""
    stages = stages_of(folder)
    config = Serving.of(folder).config
    opened = {name: Artifact(record["key"], artifact_of(folder, stages, name)) for name, record in stages.items()}
    prepared = Prepared(opened["0/corpus"])
    for address in stages:
        found = MIXTURE.fullmatch(address)
        if found is None:
            continue
        number, share = int(found[1]), float(found[2])
        own, old, new = (Vectors(opened[name]) for name in (address, f"{number}/encode", f"{number + 1}/encode"))
        parts = [one.documents.vectors_WD for one in (old, new)]
        apart = cosines(own.documents.vectors_WD, between(*parts, share))
        with tempfile.TemporaryDirectory() as scratch:
            build_mixtures(Work(Path(scratch)), prepared, config, old, new, [share])
            mixed = json.loads((Path(scratch) / FOUND).read_text(encoding="utf8"))["means"][str(share)]
        measured = read_measured(opened[address.replace("/encode", "/evaluate:dev")])
        yield address, float(apart.mean()), float(apart.min()), measured.mean(config.gate.measure), mixed


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    print("| mixture | cosine, mean | least | dev, encoded | dev, mixed vectors |\n|---|---|---|---|---|")
    for address, mean, least, encoded, mixed in rows(find_run(parser.parse_args(arguments).run)):
        print(f"| {address.removesuffix('/encode')} | {mean:.4f} | {least:.4f} | {encoded:.4f} | {mixed:.4f} |")


if __name__ == "__main__":
    main()
