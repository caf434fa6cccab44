"""The training loop and what it needs; it knows tensors and files, not where the data come from."""
