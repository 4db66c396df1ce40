"""Charts as inline SVG, whose colors follow the page's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from npmnv2.reports.html import Markup, tag

_WIDTH, _HEIGHT = 960, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 40
_BAR_HEIGHT, _ROW = 16, 24
_NAME_WIDTH = 130
_LEAST_CELL, _LARGEST_CELL = 28, 56
_MATRIX_LEFT = 192
_LEAST_REM = 46  # page.css: of a chart of the usual width
_LONGEST_NAME = 22
# Powers of ten beyond which a value stands on the edge.
_MOST_DECADES = 40


class Point(NamedTuple):
    """One point along the depth: its name, its value, whether it lies beyond the limit, and where it leads."""

    name: str
    value: float
    beyond: bool
    target: str


class Bar(NamedTuple):
    """One bar: its name, its share of the longest (0…1), and its number as text."""

    name: str
    share: float
    text: str


def line_chart(points: Sequence[Point], limit: float, label: str) -> Markup:
    """Values along the depth on a logarithmic scale, with a limit as a dashed line.

    Values of 0 stand on the lowest line; those that are not finite on the highest.
    """
    low, high = _decades([point.value for point in points] + [limit])
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(points) - 1)
    places = [(_LEFT + at * step, _y(point.value, low, high)) for at, point in enumerate(points)]
    path = tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places), class_="path")
    y = f"{_y(limit, low, high):.1f}"
    line = tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="limit")
    note = tag("text", f"tolerance {limit:g}", x=_WIDTH - _RIGHT, y=float(y) - 4, text_anchor="end")
    dots = [_dot(point, x, y) for point, (x, y) in zip(points, places)]
    return _chart(_HEIGHT, label, [*_grid(low, high), *_names(points, step), path, line, note, *dots])


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Powers of ten around all values; a decade of room below them for those that are 0."""
    sizes = [min(max(math.log10(value), -_MOST_DECADES), _MOST_DECADES) for value in values if 0 < value < math.inf]
    low, high = math.floor(min(sizes, default=-8)), math.ceil(max(sizes, default=0))
    return low - 1, max(high, low + 1)


def _y(value: float, low: int, high: int) -> float:
    size = high if not value < math.inf else low if value <= 0 else math.log10(value)
    share = (min(max(size, low), high) - low) / (high - low)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _grid(low: int, high: int) -> Iterator[Markup]:
    step = max(1, (high - low) // 8)
    for power in range(low, high + 1):
        if power != low and (power - low) % step:
            continue
        y = f"{_y(10.0**power, low, high):.1f}"
        yield tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
        yield tag("text", "equal" if power == low else f"1e{power}", x=_LEFT - 8, y=float(y) + 4, text_anchor="end")


def _names(points: Sequence[Point], step: float) -> Iterator[Markup]:
    every = max(1, math.ceil(_NAME_WIDTH / step))
    for at in range(0, len(points), every):
        # The last name ends at the right border.
        if at == 0 or (len(points) - 1 - at) * step > 1.5 * _NAME_WIDTH:
            anchor = "start" if at == 0 else "middle"
            yield tag("text", points[at].name, x=f"{_LEFT + at * step:.1f}", y=_HEIGHT - 16, text_anchor=anchor)
    if len(points) > 1:
        yield tag("text", points[-1].name, x=_WIDTH - _RIGHT, y=_HEIGHT - 16, text_anchor="end")


def _dot(point: Point, x: float, y: float) -> Markup:
    """A round point within the limit, a square one beyond: shapes differ for those who do not tell the colors apart."""
    shape = (
        tag("rect", x=f"{x - 4:.1f}", y=f"{y - 4:.1f}", width=8, height=8, class_="beyond")
        if point.beyond
        else tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, class_="dot")
    )
    return tag("a", tag("title", f"{point.name}: {point.value:.2e}"), shape, href=f"#{point.target}")


def bar_chart(bars: Sequence[Bar], label: str) -> Markup:
    """Horizontal bars, one below the other."""
    height = len(bars) * _ROW + 8
    room = _WIDTH - 3 * _LEFT - 120
    rows = []
    for at, bar in enumerate(bars):
        y = at * _ROW + 4
        rows.append(tag("text", bar.name, x=3 * _LEFT - 8, y=y + 12, text_anchor="end"))
        width = max(bar.share * room, 1.0 if bar.share else 0.0)
        rows.append(tag("rect", x=3 * _LEFT, y=y, width=f"{width:.1f}", height=_BAR_HEIGHT, rx=2, class_="fill"))
        rows.append(tag("text", bar.text, x=f"{3 * _LEFT + width + 8:.1f}", y=y + 12, class_="strong"))
    return _chart(height, label, rows)


def matrix_chart(counts: Sequence[Sequence[int]], names: Sequence[str], label: str) -> Markup:
    """A square matrix of counts; a cell is the darker, the larger its share of its row, and empty for 0."""
    size = max(_LEAST_CELL, min(_LARGEST_CELL, (_WIDTH - _MATRIX_LEFT) // max(len(names), 1)))
    side = len(names) * size
    parts = [tag("rect", x=_MATRIX_LEFT, y=0, width=side, height=side, class_="track")]
    for row, (name, line) in enumerate(zip(names, counts)):
        middle = (row + 0.5) * size + 4
        parts.append(tag("text", _short(name), x=_MATRIX_LEFT - 8, y=middle, text_anchor="end"))
        x = _MATRIX_LEFT + (row + 0.5) * size
        turned = f"rotate(-60 {x} {side + 12})"
        parts.append(tag("text", _short(name), x=x, y=side + 12, text_anchor="end", transform=turned))
        for column, count in enumerate(line):
            if count:
                said = f"{name} recognized as {names[column]}: {count}"
                parts.append(_matrix_cell(column, row, size, count, count / sum(line), said))
    return _chart(side + 136, label, parts, max(_WIDTH, _MATRIX_LEFT + side))


def _matrix_cell(column: int, row: int, size: int, count: int, share: float, said: str) -> Markup:
    x, y = _MATRIX_LEFT + column * size, row * size
    fill = tag("rect", x=x, y=y, width=size - 1, height=size - 1, class_="fill", opacity=f"{share:.3f}")
    kind = "inverse" if share > 0.5 else "strong"
    number = tag("text", count, x=x + size / 2, y=y + size / 2 + 4, text_anchor="middle", class_=kind)
    return tag("g", tag("title", said), fill, number)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def share_bar(share: float) -> Markup:
    """A thin bar for a share of 0…1, of any width."""
    track = tag("rect", width=100, height=4, class_="track")
    fill = tag("rect", width=f"{100 * share:.2f}", height=4, class_="fill")
    return tag("svg", track, fill, viewBox="0 0 100 4", preserveAspectRatio="none", aria_hidden="true")


def _chart(height: int, label: str, children: Sequence[Markup], width: int = _WIDTH) -> Markup:
    # A wide chart scrolls, instead of making its letters smaller than those of others.
    style = f"min-width: {_LEAST_REM * width / _WIDTH:.0f}rem" if width > _WIDTH else None
    options = {"viewBox": f"0 0 {width} {height}", "class_": "chart", "style": style, "role": "img"}
    chart = tag("svg", *children, **options, aria_label=label)
    return tag("div", chart, class_="scroll", tabindex=0, role="region", aria_label=label)
