"""Charts: deterministic, self-contained, and correct at the edges of their input."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from samvideo.reporting.charts import (
    COLOURS,
    Dot,
    Series,
    TimelineRow,
    accuracy_against_speed,
    bars_by_row,
    curves_from_zero,
    format_time,
    scores_over_frames,
    timeline,
    value_over_time,
)

BLUE, ORANGE = COLOURS[:2]
AWKWARD = 'a <b> & $x$ {body} "q" 手'
CHARTS = {
    "accuracy": lambda: accuracy_against_speed("t", [Dot(AWKWARD, 20, 60, BLUE), Dot("p", 20, 60)], "J&F, percent"),
    "bars": lambda: bars_by_row("t", [(AWKWARD, [10.0, None]), ("b", [None, 100.0])], (BLUE, ORANGE)),
    "curves": lambda: curves_from_zero([Series(AWKWARD, BLUE, [1, 8], [0.5, 2.0])], "objects", "seconds"),
    "scores": lambda: scores_over_frames("t", [Series(AWKWARD, BLUE, [0, 1, 2], [1.0, 0.0, 0.5])], 3, [1]),
    "timeline": lambda: timeline("t", [TimelineRow(AWKWARD, BLUE, [(0, 1)], [(0, 3)])], (0, 9)),
    "value": lambda: value_over_time(Series(AWKWARD, BLUE, [0.0, 1.0], [1.0, 2.0]), "px", (0, 1), level=0.5),
}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def curves(svg: str, colour: str = BLUE) -> list[str]:
    """The paths of curves of this colour."""
    return re.findall(rf'<path d="([^"]*)" style="fill: none; stroke: {colour}', svg)


@pytest.mark.parametrize("name", CHARTS)
def test_equal_input_gives_equal_text_and_no_trace(name: str) -> None:
    before = dict(matplotlib.rcParams)
    svg = CHARTS[name]()
    assert svg == CHARTS[name]()
    assert dict(matplotlib.rcParams) == before
    root = ElementTree.fromstring(svg)  # well-formed
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert "metadata" not in svg
    assert "<image" not in svg
    assert not re.search(r'href="(?!#)', svg)


@pytest.mark.parametrize("name", ["accuracy", "curves", "scores"])
def test_labels_are_text_as_given(name: str) -> None:
    assert AWKWARD in texts(CHARTS[name]())


def test_long_names_of_rows_are_shortened() -> None:
    assert "a" * 21 + "…" in texts(bars_by_row("t", [("a" * 30, [1.0])], [BLUE]))


def test_labels_of_equal_dots_do_not_overlap() -> None:
    svg = accuracy_against_speed("t", [Dot(str(k), 30, 50, BLUE) for k in "abc"], "J")
    labels = [element for element in ElementTree.fromstring(svg).iter() if element.text in ("a", "b", "c")]
    heights = sorted(float(label.get("y", "")) for label in labels)
    assert len(heights) == 3
    assert min(np.diff(heights)) > 9


def test_curves_start_at_zero() -> None:
    svg = CHARTS["curves"]()
    assert len(re.findall("<use", svg)) == 3  # two values and the legend
    assert {"0", "1", "8", "2"} <= set(texts(svg))


def test_a_value_is_interrupted_where_it_is_unknown() -> None:
    nothing = np.full(2, np.nan)
    assert curves(value_over_time(Series("v", BLUE, [0.0, 1.0], nothing), "px", (0, 1))) == []
    gap = [1.0, 2.0, np.nan, 3.0, 4.0]
    (path,) = curves(value_over_time(Series("v", BLUE, range(5), gap), "px", (0, 4)))
    assert path.count("M") == 2
    alone = value_over_time(Series("v", BLUE, [0.5], [0.0]), "px", (0, 1))
    assert "<use" in alone  # a single value is a dot


def test_times_of_an_axis() -> None:
    assert [format_time(seconds) for seconds in (0, 2.5, 65, 3723)] == ["0 s", "2.5 s", "1:05", "1:02:03"]
    assert format_time(0, step=60) == "0:00"
    hours = timeline("t", [TimelineRow("r", BLUE, [(3600, 3601)])], (0, 7200))
    assert {"0:00", "15:00", "1:45:00"} <= set(texts(hours))


def test_charts_without_rows() -> None:
    assert timeline("t", [], (0, 0))
    assert len(timeline("t", [], (0, 1e9))) < 20_000  # decades have few marks too
    assert bars_by_row("t", [], [BLUE])
