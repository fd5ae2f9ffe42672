"""Smaller and faster models: quantisation, pruning and search, each an operation on any model."""
