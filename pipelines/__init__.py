"""One short script per way of using sdretrieval, each reading top to bottom."""
