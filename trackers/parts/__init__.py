"""Cheap evidence for where an object went, one kind a file; numpy, OpenCV and SciPy only."""
