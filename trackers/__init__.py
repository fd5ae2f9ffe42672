"""Trackers: `flow` works without weights, the others own a network of the SAM 2 family."""
