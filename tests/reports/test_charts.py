"""Charts as SVG that is well formed, with every value in its place."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npmnv2.reports.charts import Bar, Point, bar_chart, line_chart, matrix_chart, share_bar

SIZES = st.floats(min_value=0) | st.just(math.nan)


def marks(markup: str) -> list[float]:
    """Heights of the points, from the top."""
    found = []
    for element in ElementTree.fromstring(markup).iter():
        if element.get("class") == "dot":
            found.append(float(element.get("cy", "")))
        if element.get("class") == "beyond":
            found.append(float(element.get("y", "")) + 4)
    return found


def test_larger_errors_stand_higher() -> None:
    values = [1e-9, 1e-6, 1e-3, 0.1, math.inf]
    chart = line_chart([Point(f"n{i}", v, v > 1e-4, f"t{i}") for i, v in enumerate(values)], 1e-4, "errors")
    heights = marks(chart)
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights[:4])) == 4
    assert chart.count('href="#t') == 5
    assert chart.count('class="beyond"') == 3
    assert "tolerance 0.0001" in chart


@given(st.lists(SIZES, max_size=70), st.floats(1e-12, 1))
def test_any_values_stay_inside(values, limit) -> None:
    chart = line_chart([Point("<n>", v, not v <= limit, "t") for v in values], limit, "<label>")
    assert all(16 <= y <= 260 for y in marks(chart))
    assert len(marks(chart)) == len(values)


def test_names_do_not_overlap() -> None:
    chart = line_chart([Point(f"block_{i}_depthwise", 1e-6, False, "t") for i in range(80)], 1e-3, "x")
    names = [e for e in ElementTree.fromstring(chart).iter("text") if (e.text or "").startswith("block_")]
    assert 4 <= len(names) <= 8
    places = [float(e.get("x", "")) for e in names]
    assert min(b - a for a, b in itertools.pairwise(places)) >= 120
    assert names[0].text == "block_0_depthwise"
    assert names[-1].text == "block_79_depthwise"


def test_bars_are_as_long_as_their_shares() -> None:
    chart = ElementTree.fromstring(bar_chart([Bar("a", 1, "1"), Bar("b", 0.5, "2"), Bar("c", 0, "0")], "bars"))
    widths = [float(e.get("width", "")) for e in chart.iter("rect")]
    assert widths[1] == pytest.approx(widths[0] / 2)
    assert widths[2] == 0
    assert 'width="25.00"' in share_bar(0.25)


def test_a_matrix_has_a_cell_for_every_count_but_zero() -> None:
    chart = matrix_chart([[8, 2], [0, 5]], ["cat", "a name that is far too long for a matrix"], "matrix")
    cells = ElementTree.fromstring(chart).findall(".//g")
    assert [cell.find("title").text.rpartition(": ")[2] for cell in cells] == ["8", "2", "5"]
    assert [cell.find("rect").get("opacity") for cell in cells] == ["0.800", "0.200", "1.000"]
    assert "a name that is far to…" in chart
    assert "min-width" not in chart


def test_a_matrix_of_many_classes_scrolls() -> None:
    chart = ElementTree.fromstring(matrix_chart([[1] * 100] * 100, ["name"] * 100, "matrix")).find("svg")
    width = float(chart.get("viewBox").split()[2])
    assert chart.get("style") == f"min-width: {46 * width / 960:.0f}rem"
    assert width > 100 * 28
