"""Layers used by two or more components."""
