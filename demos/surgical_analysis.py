"""Track and measure a surgical video in one pass, and write tables and a report page.

`python demos/surgical_analysis.py VIDEO --prompt box=220,110,470,400#1 --label 1=grasper [--model NAME]` writes CSV
files, analysis.json and report.html into `VIDEO_analysis/`.
"""

import argparse
from pathlib import Path

from samvideo import open_video
from samvideo.analysis.analyser import Analyser
from samvideo.analysis.page import write_page
from samvideo.analysis.pictures import PictureWatch
from samvideo.analysis.report import prepare
from samvideo.analysis.settings import Settings
from samvideo.analysis.tables import TableFiles, write_tables
from samvideo.cli.analyze import parse_labels
from samvideo.prompts import parse_prompts
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.loop import run


def analyse(video: str, prompts: list[str], model: str, settings: Settings, out: Path) -> None:
    """Track one video and write its report."""
    prepare(out, overwrite=True)
    with open_video(video) as source, TableFiles(out, settings.scale) as tables:
        analyser, watch = Analyser(source.info, settings, tables), PictureWatch()
        for frame, result in run(source, create_tracker(model), parse_prompts(prompts)):
            flag = watch.look(frame.rgb)
            if not flag:
                analyser.see(frame.rgb)
            analyser.add(result, flag)
        findings = analyser.conclude()
    write_tables(out, findings, settings)
    write_page(out / "report.html", findings, settings)
    for entry in findings.objects:
        print(f"{entry.label}: in view {entry.time_in_view:.1f} s, path {entry.path_length:.0f} {findings.unit}")
    print(out / "report.html")


def main() -> None:
    """Analyse one video."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--prompt", action="append", required=True)
    parser.add_argument("--label", action="append", default=[])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--mm-per-pixel", type=float)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    settings = Settings(labels=parse_labels(options.label), mm_per_pixel=options.mm_per_pixel)
    out = options.out or Path(f"{Path(options.video).stem}_analysis")
    analyse(options.video, options.prompt, options.model, settings, out)


if __name__ == "__main__":
    main()
