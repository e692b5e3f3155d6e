"""From lists and targets to new weights: batches, losses, and the trainer of sentence-transformers."""
