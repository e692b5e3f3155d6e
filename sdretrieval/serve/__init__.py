"""Serving: an exported folder, or a finished run, behind HTTP. Needs the extra `[serve]`."""
