"""A report: a folder with tables, `analysis.json` and a page."""

from pathlib import Path

from samvideo.analysis.findings import Findings
from samvideo.analysis.page import write_page
from samvideo.analysis.runs import analyse_run
from samvideo.analysis.settings import Settings
from samvideo.analysis.tables import LONG, TableFiles, write_tables
from samvideo.errors import ConfigError, OutputError

FILES = (
    *LONG,
    "objects.csv",
    "intervals.csv",
    "events.csv",
    "heatmap.csv",
    "analysis.json",
    "report.html",
)


def write_report(
    folder: Path,
    out: Path,
    settings: Settings | None = None,
    *,
    video: Path | str | None = None,
    overwrite: bool = False,
) -> Findings:
    """Analyse the folder of a run into a folder of its own; see `analyse_run`.

    Args:
        folder: of the run.
        out: of the report; made when it is not there.
        settings: see there.
        video: the source, for the statistics of its pictures.
        overwrite: replace an earlier report; other files stay.

    Raises:
        VideoError: the run or the video cannot be read.
        ConfigError: `out` holds files and `overwrite` is off.
        OutputError: `out` cannot be written.
    """
    settings = settings or Settings()
    prepare(out, overwrite)
    with TableFiles(out, settings.scale) as tables:
        findings = analyse_run(folder, settings, tables=tables, video=video)
    write_tables(out, findings, settings)
    write_page(out / "report.html", findings, settings)
    return findings


def prepare(out: Path, overwrite: bool) -> None:
    """Make the folder, without the files of an earlier report.

    Raises:
        ConfigError: it holds files and `overwrite` is off.
        OutputError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not overwrite:
            raise ConfigError(
                f"the folder {out} is not empty: choose another with -o, or replace its report with --overwrite"
            )
        for name in FILES:
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write into {out}: {error.strerror}; choose another folder with -o") from error
