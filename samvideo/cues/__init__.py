"""Cues for where an object is, one kind per file; numpy, OpenCV and SciPy only."""
