"""A comparison of two runs as a page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npmnv2.kernels import Array
from npmnv2.lab.comparison import HISTOGRAM_ENDS, Comparison, Finding, LayerDifference
from npmnv2.reports.charts import Bar, Point, bar_chart, line_chart
from npmnv2.reports.html import Markup, data_uri, tag
from npmnv2.reports.page import Cell, Column, facts, figure, page, row_id, section, table, verdict, write_page
from npmnv2.results.feature_maps import heat_colors

if TYPE_CHECKING:
    from PIL import Image

_COLUMNS = (
    Column("layer", "Name of the endpoint, in the order in which it is computed"),
    Column("shape", "Of the values that were compared"),
    Column("largest", "Largest absolute difference"),
    Column("mean", "Mean absolute difference"),
    Column("relative", "Largest difference as a share of the layer's largest value"),
    Column("ulps 50%", "Median difference in units in the last place"),
    Column("ulps 99%", "99 % of the differences are at most this many units in the last place"),
    Column("1 − cosine", "0 if the two differ by a factor only"),
    Column("SNR dB", "Signal-to-noise ratio"),
    Column("differ", "Share of values that are not equal"),
)
_STEPS = Column("steps", "Largest difference in steps of the layer's quantization")


def comparison_page(comparison: Comparison) -> str:
    """The text of a page: verdict, faults, error along the depth, the worst layer, all layers, environment."""
    # A path tells where its owner keeps things.
    title = f"{Path(comparison.reference).name} compared with {Path(comparison.other).name}"
    footer = f"{len(comparison.layers)} layers; a layer diverges beyond {comparison.tolerance:g} of its largest value."
    return page(title, verdict(comparison.verdict, comparison.agree), _sections(comparison), footer)


def write_comparison(comparison: Comparison, path: str | Path) -> None:
    """Write `comparison_page`. Atomic."""
    write_page(comparison_page(comparison), path)


def _sections(comparison: Comparison) -> Iterator[Markup]:
    if comparison.layers:
        yield section("Error along the depth", _depth(comparison))
    if comparison.findings or comparison.remarks or comparison.left_out:
        yield section("Findings", *_notes(comparison))
    if comparison.layers:
        yield from _worst(comparison)
        yield section("All layers", _table(comparison))
    if comparison.environment:
        yield section("Environment", facts(comparison.environment))


def _notes(comparison: Comparison) -> Iterator[Markup]:
    if comparison.findings:
        yield tag("div", [_finding(found) for found in comparison.findings], class_="cards")
    yield from (tag("p", remark) for remark in comparison.remarks)
    if comparison.left_out:
        yield tag("p", f"Not compared: {', '.join(comparison.left_out)}", class_="faint")


def _finding(found: Finding) -> Markup:
    evidence = {
        name.replace("_", " "): f"{value:.3g}" if isinstance(value, float) else value
        for name, value in found.evidence.items()
    }
    head = tag("h3", tag("a", found.layer, href=f"#{row_id(found.layer)}"), f": {found.fault}")
    return tag("div", head, tag("p", found.sentence), facts(evidence), class_="card")


def _depth(comparison: Comparison) -> Markup:
    points = [
        Point(layer.name, layer.relative, not layer.within(comparison.tolerance), row_id(layer.name))
        for layer in comparison.layers
    ]
    return line_chart(points, comparison.tolerance, "Largest difference of each layer as a share of its largest value")


def _worst(comparison: Comparison) -> Iterator[Markup]:
    """The first layer that diverges, if there is one, and the worst one: where the values differ, and by how much."""
    first, worst = comparison.first_divergent, comparison.worst
    if first is not None:
        yield section(f"First layer that diverges: {first.name}", *_layer(first, comparison.image))
    if worst is not None and worst is not first:
        yield section(f"Worst layer: {worst.name}", *_layer(worst, comparison.image))


def _layer(layer: LayerDifference, image: Array | None) -> Iterator[Markup]:
    figures = []
    if layer.error_map is not None:
        if image is not None:
            caption = f"The network's input, {image.shape[1]}×{image.shape[0]}"
            figures.append(figure(data_uri(_picture(image), "JPEG"), "The network's input", caption))
        brightest = float(np.nanmax(layer.error_map, initial=0))
        caption = f"Mean difference over the channels: black is 0, the brightest {brightest:.2e}"
        figures.append(figure(data_uri(_heat(layer.error_map)), f"Differences of {layer.name}", caption, pixels=True))
    if figures:
        yield tag("div", figures, class_="pair")
    yield tag("h3", "Values by their difference, as a share of the layer's largest value")
    yield _histogram(layer)


def _picture(image: Array) -> Image.Image:
    """The network's input, whatever its range, as a picture."""
    from PIL import Image

    low, high = float(np.min(image)), float(np.max(image))
    pixels = np.rint((image - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    return Image.fromarray(pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., :1], 3, axis=-1))


def _heat(error_map: Array) -> Image.Image:
    from PIL import Image

    finite = np.where(np.isfinite(error_map), error_map, np.nanmax(error_map, initial=1))
    return Image.fromarray(heat_colors(finite))


def _histogram(layer: LayerDifference) -> Markup:
    total = sum(layer.histogram) or 1
    longest = max(layer.histogram, default=0) or 1
    names = ["equal", *(f"up to {end:g}" for end in HISTOGRAM_ENDS[1:]), "more, or NaN"]
    bars = [
        Bar(name, count / longest, f"{count:,} ({count / total:.1%})" if count else "0")
        for name, count in zip(names, layer.histogram, strict=True)
    ]
    return bar_chart(bars, f"Values of {layer.name} by their difference as a share of its largest value")


def _table(comparison: Comparison) -> Markup:
    steps = any(layer.steps is not None for layer in comparison.layers)
    columns = (*_COLUMNS, _STEPS) if steps else _COLUMNS
    rows = [(row_id(layer.name), _cells(at, layer, comparison, steps)) for at, layer in enumerate(comparison.layers)]
    return table(columns, rows, "Differences of all layers")


def _cells(at: int, layer: LayerDifference, comparison: Comparison, steps: bool) -> list[Cell]:
    good = layer.within(comparison.tolerance)
    mark = tag("span", "✓ " if good else "✗ ", class_="mark-good" if good else "mark-bad")
    # By depth, which is the order that tells most.
    name = Cell(tag("span", mark, layer.name), at)
    numbers = [layer.largest, layer.mean, layer.relative]
    cells = [name, Cell("×".join(map(str, layer.shape)), math.prod(layer.shape))]
    cells += [Cell(f"{number:.2e}", _sortable(number)) for number in numbers]
    cells += [Cell(_ulps(number), _sortable(number)) for number in (layer.ulps.median, layer.ulps.p99)]
    cells += [
        Cell(f"{1 - layer.cosine:.1e}", _sortable(1 - layer.cosine)),
        Cell("∞" if layer.snr == math.inf else f"{layer.snr:.1f}", _sortable(layer.snr)),
        Cell(f"{layer.differing:.1%}", layer.differing),
    ]
    if steps:
        cells.append(Cell("–", -1.0) if layer.steps is None else Cell(f"{layer.steps:.1f}", _sortable(layer.steps)))
    return cells


def _ulps(number: float) -> str:
    return f"{number:.1f}" if number < 1e6 else f"{number:.1e}"


def _sortable(number: float) -> float:
    """A number that JavaScript sorts: the largest there is for infinity and NaN."""
    return number if math.isfinite(number) else math.copysign(1e308, number)
