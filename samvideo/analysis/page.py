"""`report.html`: one file with everything in it, for the screen and for paper."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from samvideo.analysis.drawings import GREY, Row, clock_of, colour_of, curve, heat_picture, timeline
from samvideo.analysis.findings import Findings, ObjectFigures
from samvideo.analysis.settings import Settings
from samvideo.analysis.tables import text_of
from samvideo.errors import OutputError

EVENTS = 60  # shown; the table holds them all
COLUMNS = (
    ("time_in_view", "in view", "s"),
    ("share_in_view", "share", ""),
    ("appearances", "times", ""),
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


def write_page(path: Path, findings: Findings, settings: Settings) -> None:
    """Write the page.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.write_text(page_of(findings, settings), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another folder with -o"
        ) from error


def page_of(findings: Findings, settings: Settings) -> str:
    """The page as text."""
    width, height = findings.size_wh
    parts = [
        f"<h1>{escape(findings.source)}</h1>",
        f"<p class=lead>{findings.frames} frames, {clock_of(findings.seconds)}, {width}×{height} pixels, "
        f"{text_of(findings.rate)} frames a second.{_scale(settings)}</p>",
        "<h2>When</h2>",
        timeline(_rows(findings), _span(findings), "what was in view when"),
        "<h2>How long, how far, how fast</h2>",
        _objects(findings),
        _notes(findings, settings),
        "<h2>Where</h2>",
        _heat(findings),
        "<h2>Speed</h2>",
        _curves(findings),
        _distances(findings),
        _flagged(findings),
        _events(findings),
    ]
    return PAGE.replace("{title}", escape(findings.source)).replace("{body}", "\n".join(parts))


def _span(findings: Findings) -> tuple[float, float]:
    return findings.start_seconds, findings.end_seconds


def _scale(settings: Settings) -> str:
    return f" Scale: {text_of(settings.mm_per_pixel)} mm per pixel." if settings.mm_per_pixel else ""


def _name(entry: ObjectFigures) -> str:
    return entry.label if entry.label == f"object {entry.id}" else f"{entry.id} {entry.label}"


def _rows(findings: Findings) -> list[Row]:
    names = {entry.id: _name(entry) for entry in findings.objects}
    rows = [
        Row(_name(entry), colour_of(entry.id), entry.visible_intervals, entry.intervals)
        for entry in findings.objects
    ]
    labels = [entry.label for entry in findings.objects]
    rows += [
        Row(f"any {usage.label}", "#555", usage.intervals)
        for usage in findings.usage
        if labels.count(usage.label) > 1
    ]
    rows += [
        Row(f"contact {pair.a}–{pair.b}", "#b00020", pair.intervals) for pair in findings.pairs if pair.intervals
    ]
    idle = [Row(f"idle: {names[e.id]}", GREY, e.idle_intervals) for e in findings.objects if e.idle_intervals]
    return rows + idle + [Row(flagged.flag, "#c90", flagged.intervals) for flagged in findings.flagged]


def _table(head: Sequence[str], rows: Sequence[str], kind: str = "") -> str:
    cells = "".join(f"<th>{cell}</th>" for cell in head)
    return (
        f"<div class=wide><table {kind}><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _objects(findings: Findings) -> str:
    head = ["object", *(f"{title}<small>{unit.format(unit=findings.unit)}</small>" for _, title, unit in COLUMNS)]
    rows = []
    for entry in findings.objects:
        key = f'<td><i style="background:{colour_of(entry.id)}"></i>{escape(_name(entry))}</td>'
        cells = "".join(f'<td data-column="{name}">{text_of(getattr(entry, name))}</td>' for name, _, _ in COLUMNS)
        rows.append(f'<tr data-object="{entry.id}">{key}{cells}</tr>')
    return _table(head, rows, "id=objects")


def _notes(findings: Findings, settings: Settings) -> str:
    unit = findings.unit
    return (
        "<p class=note>Path and mean speed are those of the centroid of the mask, from frame to frame. Smooth "
        "path, top speed, acceleration and jerk are those of the centroid smoothed over "
        f"{text_of(settings.smooth)} s. Idle: slower than "
        f"{text_of(findings.idle_speed)} {unit}/s. Gaps of up to {text_of(settings.bridge)} s (faint in the "
        "timeline) do not end an appearance, and the path goes straight over them; they do not count as time in "
        "view. The tip is the point of the mask farthest along its axis from where it enters the picture. Working "
        "area: where the tip (else the centroid) spent 95 % of its time.</p>"
    )


def _heat(findings: Findings) -> str:
    figures = []
    for entry in findings.objects:
        heat = findings.drawn.heat[entry.id]
        if heat.any() and entry.kind == "instrument":
            picture = heat_picture(heat, findings.size_wh, findings.drawn.picture)
            figures.append(f"<figure>{picture}<figcaption>{escape(_name(entry))}</figcaption></figure>")
    return f"<div class=shots>{''.join(figures)}</div>"


def _curves(findings: Findings) -> str:
    parts = []
    for entry in findings.objects:
        if entry.kind != "instrument" and len(findings.objects) > 1:
            continue
        colour = colour_of(entry.id)
        speed, area = findings.drawn.speed[entry.id], findings.drawn.area[entry.id]
        drawn = curve(speed, _span(findings), f"{findings.unit}/s", colour, findings.idle_speed)
        parts.append(f"<section><h3>{escape(_name(entry))}: speed</h3>{drawn}</section>")
        drawn = curve(area, _span(findings), f"{findings.unit}²", colour)
        parts.append(f"<section><h3>{escape(_name(entry))}: area</h3>{drawn}</section>")
    return "".join(parts)


def _distances(findings: Findings) -> str:
    if not findings.pairs:
        return ""
    names = {entry.id: _name(entry) for entry in findings.objects}
    rows, drawings = [], []
    for pair in findings.pairs:
        title = f"{names[pair.a]} – {names[pair.b]}"
        cells = (pair.min_distance, pair.mean_distance, pair.contacts, pair.contact_time)
        values = "".join(f"<td>{text_of(cell)}</td>" for cell in cells)
        rows.append(f'<tr data-pair="{pair.a}-{pair.b}"><td>{escape(title)}</td>{values}</tr>')
        if pair.frames and pair.mean_distance == 0:
            continue
        drawn = curve(findings.drawn.distance[pair.a, pair.b], _span(findings), findings.unit, colour_of(pair.a))
        drawings.append(f"<section><h3>{escape(title)}: distance</h3>{drawn}</section>")
    unit = f"<small>{findings.unit}</small>"
    head = ["pair", f"least distance{unit}", f"mean distance{unit}", "contacts", "contact time<small>s</small>"]
    return f"<h2>Distance and contact</h2>{_table(head, rows)}{''.join(drawings)}"


def _flagged(findings: Findings) -> str:
    if not findings.pictures_seen and not findings.flagged:
        return "<p class=note>The pictures were not looked at (no --video, no overlay): nothing is flagged.</p>"
    if not findings.flagged:
        return "<p class=note>No black, blurred or smoky pictures were found.</p>"
    rows = [
        f"<tr><td>{escape(part.flag)}</td><td>{part.frames}</td><td>{text_of(part.seconds)}</td></tr>"
        for part in findings.flagged
    ]
    table = _table(["picture", "frames", "time<small>s</small>"], rows)
    return f"<h2>Left out of all motion</h2>{table}"


def _events(findings: Findings) -> str:
    names = {entry.id: _name(entry) for entry in findings.objects}
    rows = []
    for event in findings.events[:EVENTS]:
        who = names[event.object] + (f" – {names[event.other]}" if event.other is not None else "")
        cells = (text_of(event.seconds), str(event.frame), event.event, escape(who))
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    more = len(findings.events) - EVENTS
    note = f"<p class=note>and {more} more in events.csv.</p>" if more > 0 else ""
    return (
        f"<h2>Events</h2>{_table(['time<small>s</small>', 'frame', 'event', 'object'], rows, 'class=narrow')}{note}"
    )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><title>{title}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; margin-bottom: 0; } h2 { font-size: 1.2em; margin: 1.8em 0 .4em; }
h3 { font-size: 1em; font-weight: 600; margin: 1em 0 .2em; }
.lead { color: #555; margin-top: .2em; } .note { color: #666; font-size: .87em; max-width: 52em; }
svg { width: 100%; height: auto; font-family: inherit; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87em; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .6em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { vertical-align: bottom; font-weight: 600; white-space: normal; }
th small { display: block; font-weight: 400; color: #777; }
th:first-child, td:first-child, table.narrow td, table.narrow th { text-align: left; }
td i { display: inline-block; width: .8em; height: .8em; margin-right: .5em; border-radius: 2px; }
.shots { display: flex; flex-wrap: wrap; gap: 1em; } figure { margin: 0; flex: 0 1 31em; }
figure img { width: 100%; display: block; } figcaption { font-size: .87em; color: #555; }
@media print {
  @page { margin: 14mm; }
  body { font-size: 10pt; margin: 0; padding: 0; max-width: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  section, figure, tr, svg { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .wide { overflow: visible; } #objects { font-size: 7pt; } th, td { padding: .2em .35em; }
  figure { flex-basis: 47%; }
}
</style></head><body>
{body}
<p class="note">Written by samvideo analyze. All numbers are in the CSV files and in analysis.json.</p>
</body></html>
"""
