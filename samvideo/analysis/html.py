"""`report.html` of an analysis: one file with everything in it, for the screen and for paper."""

from collections.abc import Sequence
from pathlib import Path

from samvideo.analysis.findings import Findings, ObjectSummary
from samvideo.analysis.heatmap import heat_image
from samvideo.analysis.intervals import Interval
from samvideo.analysis.settings import AnalysisSettings
from samvideo.analysis.tables import format_number
from samvideo.io.files import writing
from samvideo.render import object_colour
from samvideo.reporting.charts import GREY, RED, Series, TimelineRow, format_time, timeline, value_over_time
from samvideo.reporting.pages import jpeg_uri, render_page

MAX_EVENTS = 60  # on the page; events.csv has them all
COLUMNS = (
    ("time_in_view", "in view", "s"),
    ("share_in_view", "share", ""),
    ("appearances", "times", ""),
    ("frames_left_out", "left out", "frames"),
    ("path_length", "path", "{unit}"),
    ("smooth_path_length", "smooth path", "{unit}"),
    ("mean_speed", "mean speed", "{unit}/s"),
    ("max_speed", "top speed", "{unit}/s"),
    ("mean_acceleration", "mean acceleration", "{unit}/s²"),
    ("mean_jerk", "mean jerk", "{unit}/s³"),
    ("idle_share", "idle share", ""),
    ("tip_path_length", "path of tip", "{unit}"),
    ("mean_area", "mean area", "{unit}²"),
    ("working_area", "working area", "{unit}²"),
)


def write_html(path: Path, findings: Findings, settings: AnalysisSettings) -> None:
    """Write the page. Raises OutputError."""
    with writing(path):
        path.write_text(render_html(findings, settings), encoding="utf-8")


def render_html(findings: Findings, settings: AnalysisSettings) -> str:
    """Return the page as text."""
    names = {entry.id: _name(entry) for entry in findings.objects}
    columns = [(title, unit.format(unit=findings.unit)) for _, title, unit in COLUMNS]
    span = findings.start_seconds, findings.end_seconds
    return render_page(
        "analysis.html",
        title=findings.source,
        findings=findings,
        settings=settings,
        format_time=format_time,
        number=format_number,
        names=names,
        colours={entry.id: line_colour(entry.id) for entry in findings.objects},
        object_head=[("object", ""), *columns],
        object_columns=[name for name, _, _ in COLUMNS],
        timeline=timeline("what was in view when", _rows(findings, names), span),
        heatmaps=_heatmaps(findings, names),
        object_charts=_object_charts(findings, names),
        distance_charts=_distance_charts(findings, names),
        max_events=MAX_EVENTS,
    )


def line_colour(object_id: int) -> str:
    """Return the hue that the object has in the overlay, dark enough for lines on white paper."""
    return "#" + "".join(f"{round(0.78 * channel):02x}" for channel in object_colour(object_id))


def _name(entry: ObjectSummary) -> str:
    return entry.label if entry.label == f"object {entry.id}" else f"{entry.id} {entry.label}"


def _spans(intervals: Sequence[Interval]) -> list[tuple[float, float]]:
    return [(part.start_seconds, part.end_seconds) for part in intervals]


def _rows(findings: Findings, names: dict[int, str]) -> list[TimelineRow]:
    labels = [entry.label for entry in findings.objects]
    rows = [
        TimelineRow(names[o.id], line_colour(o.id), _spans(o.visible_intervals), _spans(o.intervals))
        for o in findings.objects
    ]
    more = [(f"any {u.label}", "#555555", u.intervals) for u in findings.usage if labels.count(u.label) > 1]
    more += [(f"contact {pair.a}–{pair.b}", RED, pair.intervals) for pair in findings.pairs if pair.intervals]
    more += [(f"idle: {names[o.id]}", GREY, o.idle_intervals) for o in findings.objects if o.idle_intervals]
    more += [(part.flag, "#cc9900", part.intervals) for part in findings.flagged]
    return rows + [TimelineRow(label, colour, _spans(intervals)) for label, colour, intervals in more]


def _heatmaps(findings: Findings, names: dict[int, str]) -> list[tuple[str, str]]:
    """The name and the heat map of each instrument, as a `data:` URI."""
    charts = findings.charts
    return [
        (names[entry.id], jpeg_uri(heat_image(charts.heat[entry.id], findings.size_wh, charts.background)))
        for entry in findings.objects
        if charts.heat[entry.id].any() and entry.kind == "instrument"
    ]


def _object_charts(findings: Findings, names: dict[int, str]) -> list[tuple[str, str]]:
    """Titles and charts of the speed and area of each instrument."""
    span, unit = (findings.start_seconds, findings.end_seconds), findings.unit
    charts = []
    for entry in findings.objects:
        if entry.kind != "instrument" and len(findings.objects) > 1:
            continue
        colour, name = line_colour(entry.id), names[entry.id]
        speed = Series(f"{name}: speed", colour, *findings.charts.speed[entry.id])
        area = Series(f"{name}: area", colour, *findings.charts.area[entry.id])
        charts.append((speed.label, value_over_time(speed, f"{unit}/s", span, findings.idle_speed)))
        charts.append((area.label, value_over_time(area, f"{unit}²", span)))
    return charts


def _distance_charts(findings: Findings, names: dict[int, str]) -> list[tuple[str, str]]:
    """Titles and charts of the distance of each pair that was not in contact all the time."""
    span = findings.start_seconds, findings.end_seconds
    charts = []
    for pair in findings.pairs:
        if not pair.frames or pair.mean_distance != 0:
            title = f"{names[pair.a]} – {names[pair.b]}: distance"
            curve = Series(title, line_colour(pair.a), *findings.charts.distance[pair.a, pair.b])
            charts.append((title, value_over_time(curve, findings.unit, span)))
    return charts
