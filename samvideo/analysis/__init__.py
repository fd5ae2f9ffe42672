"""Measurements of tracked objects: presence, motion, contact and usage, above all of surgical instruments.

`analyse_run` reads the folder of a run, `Analyser` takes the results of a tracker one by one; the memory of both is
independent of the length of the video. `write_analysis` writes tables, `analysis.json` and an HTML page into a
folder.
"""
