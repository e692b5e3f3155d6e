"""`python -m sdretrieval` is `sdretrieval`."""

from __future__ import annotations

from sdretrieval.cli import main

if __name__ == "__main__":
    main()
