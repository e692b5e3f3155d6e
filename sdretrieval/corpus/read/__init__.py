"""From every kind of source to one collection: BEIR folders, tables, documents, Python's own library."""
