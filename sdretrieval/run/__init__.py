"""A run: the loop over stages (loop.py), what is refused before it (preflight.py), the Python interface (api.py)."""
