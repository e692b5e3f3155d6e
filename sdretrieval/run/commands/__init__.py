"""What the commands beside `run` do, as plain functions: look up, evaluate, search, compare, show, export."""
