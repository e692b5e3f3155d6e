"""Build each index recipe over many vectors, measure it, write its card, and put all cards into one table.

    python -m benchmarks.index_cards [--vectors 100000 1000000] [--recipes pq16,pq32] [--out indexes/cards]
        [--embeddings FILE.npy [--queries FILE.npy]] [--dims 384] [--again]

Vectors: `--embeddings`, a float matrix (a run's: STORE/KEY/documents/vectors.npy), or else drawn ones that look like
text embeddings (`benchmarks/text_like_vectors.py`). Queries that recall is measured on are not those that a breadth
was fitted on. One thread; seconds are this process' own (CPU time), so that other work on the machine does not count.
One card a recipe and size, `OUT/NAME-COUNT.json`, written when it is measured: a call that was stopped goes on after
the last card; `--again` measures anew what is there. The table in `OUT/../README.md` shows all cards there are.

Memory: drawn vectors are memory-mapped; what is held is one index at a time, at most 4 D + 280 bytes a vector (HNSW:
1.8 GB for a million vectors of 384 dims), and some 0.5 GB of samples and blocks.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index_table import update_readme
from benchmarks.machine import commit, processor
from benchmarks.text_like_vectors import write_vectors
from sdretrieval.config import read_index_section, settings_from
from sdretrieval.errors import RequestError
from sdretrieval.files import write_json
from sdretrieval.indexes import Hits, VectorIndex, exact_search
from sdretrieval.indexes.faiss_library import faiss_threads, load_faiss

logger = logging.getLogger("sdretrieval")

RECIPES = Path(__file__).parents[1] / "indexes"
QUERIES = 300
"""That are measured, and at most as many others that a search breadth is fitted on."""
DEPTH = 100
SEED = 13


def run(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure what was asked for and has no card yet; the records of all cards in `asked.out`."""
    recipes = chosen_recipes(asked.recipes)
    asked.out.mkdir(parents=True, exist_ok=True)
    for count in asked.vectors:
        todo = [path for path in recipes if asked.again or not card_path(asked.out, path, count).exists()]
        if todo:
            measure_all(todo, count, asked)
    records = [json.loads(path.read_text(encoding="utf8")) for path in sorted(asked.out.glob("*.json"))]
    update_readme(asked.out.parent / "README.md", records)
    return records


def chosen_recipes(names: str) -> list[Path]:
    """Paths of the recipes named, or of all. Raises SystemExit where one is unknown."""
    known = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(known)
    if unknown := sorted(set(wanted) - set(known)):
        raise SystemExit(f"unknown recipes: {', '.join(unknown)}; expected some of: {', '.join(known)}")
    return [known[name] for name in wanted]


def card_path(out: Path, recipe: Path, count: int) -> Path:
    """Where the card of a recipe at a size lies."""
    return out / f"{recipe.stem}-{count}.json"


def measure_all(recipes: Sequence[Path], count: int, asked: argparse.Namespace) -> None:
    """One card after the other; what all share is made once."""
    vectors_ND, queries_QD, source = vectors_of(count, asked)
    fitting_QD, measured_QD = queries_QD[::2], queries_QD[1::2]
    with faiss_threads(1):
        truth = exact_search(vectors_ND, measured_QD, DEPTH)
        for recipe in recipes:
            logger.info("%s over %s vectors", recipe.stem, f"{count:,}")
            try:
                record = card_of(recipe, vectors_ND, fitting_QD, measured_QD, truth)
            except RequestError as error:
                raise SystemExit(f"{recipe.stem}: {error}") from error
            write_json(card_path(asked.out, recipe, count), {**record, **source, **machine()})


def vectors_of(count: int, asked: argparse.Namespace) -> tuple[NDArray[Any], NDArray[Any], dict[str, str]]:
    """Documents, queries for fitting and measuring, and where they come from. Raises SystemExit where they are none."""
    if asked.embeddings is None:
        drawn = write_vectors(asked.work, count, asked.dims, 2 * QUERIES, SEED)
        return *drawn, {"vectors": "drawn (benchmarks/text_like_vectors.py)"}
    vectors_ND = matrix(asked.embeddings)
    if len(vectors_ND) < count:
        raise SystemExit(
            f"--vectors {count}: {asked.embeddings} holds {len(vectors_ND)}; expected at most as many, such as "
            f"--vectors {len(vectors_ND)}"
        )
    if asked.queries is not None:
        return vectors_ND[:count], matrix(asked.queries)[: 2 * QUERIES], {"vectors": asked.embeddings.name}
    rows = np.sort(np.random.default_rng(SEED).choice(count, min(2 * QUERIES, count), replace=False))
    note = f"{asked.embeddings.name}; documents stand in for queries"
    return vectors_ND[:count], np.asarray(vectors_ND[rows]), {"vectors": note}


def matrix(path: Path) -> NDArray[Any]:
    """A memory-mapped float matrix. Raises SystemExit where the file is none."""
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} cannot be read ({error}); expected a .npy file of floats (vectors, dims)") from None
    if found.ndim != 2 or found.dtype.kind != "f":
        raise SystemExit(f"{path} holds {found.dtype} of shape {found.shape}; expected floats (vectors, dims)")
    return found


def card_of(
    recipe: Path, vectors_ND: NDArray[Any], fitting_QD: NDArray[Any], measured_QD: NDArray[Any], truth: Hits
) -> dict[str, Any]:
    """The card of one recipe, with its recipe's name."""
    settings = settings_from(read_index_section(str(recipe)))
    index = VectorIndex.build(
        vectors_ND, settings, "cpu", queries_QD=fitting_QD, seed=SEED, threads=1, clock=time.process_time
    )
    index.measure(measured_QD, truth, time.process_time)
    return {"recipe": recipe.stem, **asdict(index.card)}


def machine() -> dict[str, Any]:
    """What the figures were measured with."""
    return {
        "cpu": f"{processor()}, 1 of {os.cpu_count()} cores",
        "versions": {"faiss": load_faiss().__version__, "numpy": np.__version__, "sdretrieval": version("sdretrieval")},
        "commit": commit(),
    }


def main() -> None:
    """The command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")  # faiss says much at INFO while it loads
    logger.setLevel(logging.INFO)
    run(_arguments())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, nargs="+", default=[100_000, 1_000_000], help="how many, each its cards")
    parser.add_argument("--recipes", default="", help="names, separated by commas; all where empty")
    parser.add_argument("--out", type=Path, default=RECIPES / "cards")
    parser.add_argument("--embeddings", type=Path, default=None, help="documents' vectors (.npy) instead of drawn ones")
    parser.add_argument("--queries", type=Path, default=None, help="queries' vectors (.npy) to --embeddings")
    parser.add_argument("--dims", type=int, default=384, help="of drawn vectors")
    parser.add_argument("--work", type=Path, default=Path("runs/index-cards"), help="where drawn vectors are kept")
    parser.add_argument("--again", action="store_true", help="measure anew what has a card")
    return parser.parse_args()


if __name__ == "__main__":
    main()
