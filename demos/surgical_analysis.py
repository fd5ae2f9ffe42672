"""Track and measure a surgical video in one pass, and write tables and a report page.

`python demos/surgical_analysis.py VIDEO --prompt box=220,110,470,400#1 --label 1=grasper [--model NAME]` writes CSV
files, analysis.json and report.html into `VIDEO_analysis/`.
"""

import argparse
from pathlib import Path

from samvideo import open_video
from samvideo.analysis.analyser import Analyser
from samvideo.analysis.html import write_html
from samvideo.analysis.image_faults import ImageFaultDetector
from samvideo.analysis.settings import AnalysisSettings
from samvideo.analysis.tables import TableWriter, write_tables
from samvideo.cli.analyze import parse_labels
from samvideo.io.files import check_new
from samvideo.prompt_syntax import parse_prompts
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.schedule import PromptSchedule, propagate


def analyse(video: str, prompts: list[str], model: str, settings: AnalysisSettings, out: Path) -> None:
    """Track one video and write its report."""
    check_new(out, overwrite=False)
    out.mkdir(parents=True)
    with open_video(video) as source, TableWriter(out, settings.scale) as tables:
        analyser, detector = Analyser(source.info, settings, tables), ImageFaultDetector()
        for frame, result in propagate(source, create_tracker(model), PromptSchedule(parse_prompts(prompts))):
            flag = detector.detect(frame.rgb)
            if not flag:
                analyser.keep_background(frame.rgb)
            analyser.add(result, flag)
        findings = analyser.finish()
    write_tables(out, findings, settings)
    write_html(out / "report.html", findings, settings)
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
    settings = AnalysisSettings(labels=parse_labels(options.label), mm_per_pixel=options.mm_per_pixel)
    out = options.out or Path(f"{Path(options.video).stem}_analysis")
    analyse(options.video, options.prompt, options.model, settings, out)


if __name__ == "__main__":
    main()
