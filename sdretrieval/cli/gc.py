"""`gc`: remove from the store what no run refers to."""

from __future__ import annotations

from typing import Annotated

import typer

from sdretrieval.cli.options import Json, Runs
from sdretrieval.cli.output import print_json, print_table, say
from sdretrieval.errors import RequestError
from sdretrieval.formatting import quantity, readable_bytes
from sdretrieval.store import Store, keys_in_ledgers
from sdretrieval.store.run_folder import runs_folder


def gc_command(
    runs: Runs = None,
    pretend: Annotated[bool, typer.Option("--pretend", help="only say what would be removed")] = False,
    as_json: Json = False,
) -> None:
    """Remove from the store what no run refers to."""
    root = runs_folder(runs)
    if not (root / "store").is_dir():
        found = "there is no such folder" if not root.is_dir() else f"there is no store in it ({root / 'store'})"
        raise RequestError(f"--runs {root}: {found}; name the folder of runs whose store is to be cleared")
    removed = Store(root / "store").gc(lambda: keys_in_ledgers(root), pretend=pretend)
    if as_json:
        print_json({"pretend": pretend, "removed": [one._asdict() for one in removed]})
        return
    if removed:
        print_table(["artifact", "size"], [[one.key, readable_bytes(one.bytes)] for one in removed], right=["size"])
    total = readable_bytes(sum(one.bytes for one in removed))
    say(f"{quantity(len(removed), 'artifacts')} {'to be removed' if pretend else 'removed'}: {total}")
