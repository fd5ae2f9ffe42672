"""Write an analysis into a folder: tables, `analysis.json` and an HTML page."""

from pathlib import Path

from samvideo.analysis.findings import Findings
from samvideo.analysis.html import write_html
from samvideo.analysis.saved_run import SavedRun
from samvideo.analysis.settings import AnalysisSettings
from samvideo.analysis.tables import STREAMED, TableWriter, write_tables
from samvideo.io.files import writing
from samvideo.targets import check_target, complete

FILES = (*STREAMED, "objects.csv", "intervals.csv", "events.csv", "heatmap.csv", "analysis.json", "report.html")


def write_analysis(
    folder: Path,
    out: Path,
    settings: AnalysisSettings | None = None,
    *,
    video: Path | str | None = None,
    first: int | None = None,
    overwrite: bool = False,
) -> Findings:
    """Analyse the folder of a run, and write the results into another folder; see `analyse_run`.

    Args:
        folder: of the run.
        out: folder for the results, written once the analysis is complete; see `check_target`.
        settings: defaults if None.
        video: the source, whose images are checked for faults.
        first: index in `video` of the first frame of the run, if the run does not know it.
        overwrite: replace an earlier analysis; other files are kept.

    Raises ConfigError if `out` is not empty and `overwrite` is off, holds what no analysis wrote, or belongs to the
    run; OutputError if it cannot be written.
    """
    settings = settings or AnalysisSettings()
    with SavedRun(folder, video, first) as run:
        settings = run.checked(settings)
        check_target(out, run.path, overwrite, video=video, folder="analysis")
        with writing(out), complete(out, "analysis") as part:
            part.mkdir()
            with TableWriter(part, settings.scale) as tables:
                findings = run.analyse(settings, tables)
            write_tables(part, findings, settings)
            write_html(part / "report.html", findings, settings)
    return findings
