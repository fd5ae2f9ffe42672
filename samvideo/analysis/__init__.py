"""From tracks to numbers: presence, motion, contact and use of objects, above all of surgical instruments.

`analyse_run` reads the folder of a run, `Analyser` takes a tracker's results as they come; both in memory that does
not grow with the video. `write_report` puts tables, `analysis.json` and a page into a folder.
"""
