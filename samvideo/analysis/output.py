"""Write an analysis into a folder: tables, `analysis.json` and an HTML page."""

from pathlib import Path

from samvideo.analysis.findings import Findings
from samvideo.analysis.html import write_html
from samvideo.analysis.saved_run import analyse_run
from samvideo.analysis.settings import AnalysisSettings
from samvideo.analysis.tables import STREAMED, TableWriter, write_tables, writing
from samvideo.io.files import check_empty

FILES = (*STREAMED, "objects.csv", "intervals.csv", "events.csv", "heatmap.csv", "analysis.json", "report.html")


def write_analysis(
    folder: Path,
    out: Path,
    settings: AnalysisSettings | None = None,
    *,
    video: Path | str | None = None,
    overwrite: bool = False,
) -> Findings:
    """Analyse the folder of a run, and write the results into another folder; see `analyse_run`.

    Args:
        folder: of the run.
        out: folder for the results; see `prepare_folder`.
        settings: defaults if None.
        video: the source, whose images are checked for faults.
        overwrite: replace an earlier analysis; other files are kept.
    """
    settings = settings or AnalysisSettings()
    prepare_folder(out, overwrite)
    with TableWriter(out, settings.scale) as tables:
        findings = analyse_run(folder, settings, tables=tables, video=video)
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
        for name in FILES:
            (out / name).unlink(missing_ok=True)
