"""Write an analysis into a folder: tables, `analysis.json` and an HTML page."""

from pathlib import Path

from samvideo.analysis.findings import Findings
from samvideo.analysis.html import write_html
from samvideo.analysis.saved_run import SavedRun
from samvideo.analysis.settings import AnalysisSettings
from samvideo.analysis.tables import STREAMED, TableWriter, write_tables, writing
from samvideo.errors import VideoError
from samvideo.io.files import check_empty

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
        out: folder for the results; see `prepare_folder`.
        settings: defaults if None.
        video: the source, whose images are checked for faults.
        first: index in `video` of the first frame of the run, if the run does not know it.
        overwrite: replace an earlier analysis; other files are kept.
    """
    settings = settings or AnalysisSettings()
    with SavedRun(folder, video, first) as run:
        run.check(settings)
        existed = out.exists()
        prepare_folder(out, overwrite)
        try:
            with TableWriter(out, settings.scale) as tables:
                findings = run.analyse(settings, tables)
        except VideoError:
            _remove_files(out)
            if not existed:
                out.rmdir()
            raise
    write_tables(out, findings, settings)
    write_html(out / "report.html", findings, settings)
    return findings


def prepare_folder(out: Path, overwrite: bool) -> None:
    """Create the folder, and remove the files of an earlier analysis from it.

    Raises ConfigError if it is not empty and `overwrite` is off, OutputError if it cannot be written.
    """
    with writing(out):
        check_empty(out, overwrite, "report")
        out.mkdir(parents=True, exist_ok=True)
        _remove_files(out)


def _remove_files(out: Path) -> None:
    for name in FILES:
        (out / name).unlink(missing_ok=True)
