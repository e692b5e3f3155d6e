"""The kinds of vector index: each says its FAISS factory string, what it needs of the data, and what it takes."""
