"""The fused block: expand → depthwise → project, strip by strip, so that the expanded map never leaves the cache.

See the drawing in kernels/README.md. One function serves all of it: what the depthwise convolution reads may come
from an expansion, from the network's first convolution, or from a map that exists already, and its result may be
projected or kept as it is.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from ..host.steps import FROM_CONV, FROM_POINTWISE
from ..host.target import FLOAT_BYTES, Target
from .addressing import ONE64, ZERO64, Area, Segments, View, address, product_at, share
from .conv import copy_pixels, make_convolve_staged, stage_rows
from .depthwise import TAPS, Rows, make_filter_row
from .jit import njit
from .machine import positive
from .pointwise import make_multiply, panel_vectors, panels, tile_kind
from .simd import Form, fill_bytes, form_of


class Walk(NamedTuple):
    """What the walk over strips needs to know of one kind of numbers, and the functions that compute them.

    Attributes
    ----------
    name : str
        Tells the functions apart that are made for it.
    vector : int
        Bytes of one vector of channels in a map.
    panel : int
        Vectors from one panel of the expanded map to the next.
    ring_unit : int
        Vectors of a pixel in all rings together are a multiple of it, see `MapLayout`.
    panels, panel_vectors : compiled functions
        How many panels a number of vectors has, and how many vectors a panel has (its number, all vectors).
    expand : compiled function
        ``expand(step, bases, panel, start, output: View, area: Area)``: an expansion of pixels of the input.
    convolve : compiled function
        ``convolve(step, bases, panel, row, column, output: View, area: Area)``: a full convolution of staged rows.
    filter_rows : compiled function
        ``filter_rows(step, bases, block: Block, first, rows, output)``: the depthwise convolution.
    project : compiled function
        ``project(step, bases, first, rows)``: a filtered strip to output rows.
    """

    name: str
    vector: int
    panel: int
    ring_unit: int
    panels: Any
    panel_vectors: Any
    expand: Any
    convolve: Any
    filter_rows: Any
    project: Any


class Strip(NamedTuple):
    """Some output rows: the first, their number, and the first expanded row that is missing in the rings."""

    first: int
    rows: int
    produced: int


class Block(NamedTuple):
    """One panel of a strip under some columns.

    Attributes
    ----------
    panel, column, columns : int
        Output columns `column` … `column` + `columns`.
    ring : int
        Address of the panel's ring of expanded rows.
    pixel : int
        Bytes of one pixel in the ring.
    """

    panel: int
    column: int
    columns: int
    ring: int
    pixel: int


class Corner(NamedTuple):
    """First row and column of a piece of the expanded map, and the row counted from the first that is staged."""

    row: int
    column: int
    staged_row: int


def make_walk(target: Target) -> Walk:
    """What the walk needs to know of real numbers."""
    filter_rows, project = make_filter_rows(target), make_project(target)
    # The first convolution reads the image.
    expand, convolve = make_expand(target), make_convolve_staged(target, Form(FLOAT_BYTES, target.map_bytes))
    return Walk(
        target.name, target.map_vector_bytes, 2, 1, panels, panel_vectors, expand, convolve, filter_rows, project
    )


@functools.cache
def make_run_filter(walk: Walk) -> Any:
    """Return the function that runs the piece of one worker: some of the output rows, or all rows of some panels."""
    fill_strip, project, panels = make_fill_strip(walk), walk.project, walk.panels

    @njit(cached=False, inline=True, variant=walk.name)
    def run_filter(step, bases, worker, workers):
        tiling, depthwise = step.tiling, step.depthwise
        first_row, last_row, first_panel, last_panel = 0, step.output.height, 0, panels(step.product.vectors)
        if tiling.by_panels:
            first_panel, last_panel = share(last_panel, worker, workers)
        else:
            first_row, last_row = share(last_row, worker, workers)
        produced = 0
        for y in range(first_row, last_row, positive(tiling.rows)):
            rows = min(tiling.rows, last_row - y)
            missing = max(produced, y * depthwise.stride - depthwise.top, 0)
            if step.producer == FROM_CONV:
                stage_rows(step, bases, missing, rows_needed(step, y + rows))
            for column in range(0, step.output.width, positive(tiling.columns)):
                for panel in range(first_panel, last_panel):
                    fill_strip(step, bases, Strip(y, rows, missing), column, panel)
            produced = rows_needed(step, y + rows)
            if step.projection.vectors:
                project(step, bases, y, rows)

    return run_filter


@njit(cached=False)
def rows_needed(step, rows):
    """Rows of the expanded map, counted from its top, that the first `rows` output rows read."""
    depthwise = step.depthwise
    reach = (rows - 1) * depthwise.stride - depthwise.top + 2 * depthwise.dilation + 1
    return max(0, min(reach, step.expanded.height))


@functools.cache
def make_fill_strip(walk: Walk) -> Any:
    """Return the function that computes one panel of a strip for one block of columns, row group by row group.

    The rows of a group stay in the cache between the expansion and the depthwise convolution.
    """
    produce, filter_rows, vector, panel_step = make_produce(walk), walk.filter_rows, walk.vector, walk.panel
    panel_vectors, unit = walk.panel_vectors, walk.ring_unit

    @njit(cached=False, inline=True, variant=walk.name)
    def fill_strip(step, bases, strip, column, panel):
        tiling = step.tiling
        ring = address(bases, tiling.ring)
        if not tiling.ring_shared:
            vectors = (step.product.vectors + unit - 1) // unit * unit
            before = column // tiling.columns * vectors + panel * panel_step
            ring += before * vector * tiling.ring_rows * tiling.ring_columns
        columns = min(tiling.columns, step.output.width - column)
        block = Block(panel, column, columns, ring, panel_vectors(panel, step.product.vectors) * vector)
        # A filtered map that is about to be projected holds one strip, else the whole image.
        above = 0 if step.projection.vectors else strip.first
        output = address(bases, tiling.filtered) + panel * panel_step * vector
        produced = strip.produced
        for y in range(strip.first, strip.first + strip.rows, positive(tiling.group_rows)):
            rows = min(tiling.group_rows, strip.first + strip.rows - y)
            needed = rows_needed(step, y + rows)
            produce(step, bases, block, produced, needed, strip.produced)
            produced = max(produced, needed)
            pixel = (y - strip.first + above) * step.output.width + column
            filter_rows(step, bases, block, y, rows, output + pixel * tiling.filtered_stride)

    return fill_strip


@functools.cache
def make_produce(walk: Walk) -> Any:
    """Return the function that brings the expanded rows [first, last) under a block's columns into its ring.

    It is called as ``produce(step, bases, block: Block, first, last, staged)``, where `staged` is the first row of the
    image that is staged for a full convolution. Rows are made in runs that do not wrap round the end of the ring.
    """
    make_rows = make_make_rows(walk)

    @njit(cached=False, variant=walk.name)
    def produce(step, bases, block, first, last, staged):
        tiling, depthwise, pixel = step.tiling, step.depthwise, block.pixel
        row_bytes = tiling.ring_columns * pixel
        left = block.column * depthwise.stride - depthwise.left
        right = left + (block.columns - 1) * depthwise.stride + 2 * depthwise.dilation + 1
        # The columns that lie in the image, if any.
        inside = min(max(left, 0), right)
        outside = max(min(right, step.expanded.width), inside)
        at = first
        while at < last:
            slot = at % tiling.ring_rows
            rows = min(last - at, tiling.ring_rows - slot)
            output = block.ring + slot * row_bytes
            for row in range(rows):
                start = output + row * row_bytes
                fill_bytes(start, (inside - left) * pixel, depthwise.padding)
                fill_bytes(start + (outside - left) * pixel, (right - outside) * pixel, depthwise.padding)
            if inside < outside:
                columns = outside - inside
                view = View(output + (inside - left) * pixel, pixel, (tiling.ring_columns - columns) * pixel)
                make_rows(
                    step, bases, block.panel, Corner(at, inside, at - staged), view, Area(rows * columns, columns)
                )
            at += rows

    return produce


@functools.cache
def make_make_rows(walk: Walk) -> Any:
    """Return the function that computes or copies a piece of the expanded map.

    It is called as ``make_rows(step, bases, panel, corner: Corner, output: View, area: Area)``.
    """
    expand, convolve, panel_bytes = walk.expand, walk.convolve, walk.panel * walk.vector

    @njit(cached=False, inline=True, variant=walk.name)
    def make_rows(step, bases, panel, corner, output, area):
        source = step.input
        row_stride = source.width * source.pixel_stride
        start = address(bases, source.ref) + corner.row * row_stride + corner.column * source.pixel_stride
        if step.producer == FROM_POINTWISE:
            expand(step, bases, panel, start, output, area)
        elif step.producer == FROM_CONV:
            convolve(step, bases, panel, corner.staged_row, corner.column, output, area)
        else:
            row_bytes = area.width * output.pixel_stride + output.row_jump
            for row in range(area.pixels // area.width):
                to, piece = output.address + row * row_bytes, start + row * row_stride + panel * panel_bytes
                copy_pixels(to, piece, area.width, output.pixel_stride, source.pixel_stride)

    return make_rows


# ---- Real numbers ----------------------------------------------------------------------------------------------------


@functools.cache
def make_expand(target: Target) -> Any:
    """Return the function that expands pixels, see `Walk`."""
    multiply, panel_bytes, word = make_multiply(target, form_of(target)), 2 * target.vector_bytes, target.word_channels

    @njit(cached=False, inline=True, variant=target.name)
    def expand(step, bases, panel, start, output, area):
        source, product, length = step.input, step.product, step.input.channels // word
        multiply(
            View(start, source.pixel_stride, (source.width - area.width) * source.pixel_stride),
            Segments(ONE64, ZERO64, length),
            product_at(product, bases, panel * panel_bytes, length),
            ZERO64, output, area, tile_kind(panel, product),
        )  # fmt: skip

    return expand


@functools.cache
def make_filter_rows(target: Target) -> Any:
    """Return the function that computes rows of the depthwise convolution for one panel from its ring.

    It is called as ``filter_rows(step, bases, block: Block, first, rows, output)``.
    """
    filter_row, vector, map_vector = make_filter_row(target), target.vector_bytes, target.map_vector_bytes

    @njit(cached=False, variant=target.name)
    def filter_rows(step, bases, block, first, rows, output):
        depthwise, stride = step.depthwise, step.tiling.filtered_stride
        product = product_at(depthwise, bases, block.panel * 2 * vector, TAPS)
        for y in range(first, first + rows):
            top = y * depthwise.stride - depthwise.top
            window = Rows(
                row_of(step, bases, block, top),
                row_of(step, bases, block, top + depthwise.dilation),
                row_of(step, bases, block, top + 2 * depthwise.dilation),
            )
            view = View(output, stride, ZERO64)
            filter_row(depthwise, window, block.pixel, product, view, block.columns, block.pixel // map_vector)
            output += step.output.width * stride

    return filter_rows


@njit(cached=False)
def row_of(step, bases, block, y):
    """Address of a row of the expanded map; rows outside the image are padding."""
    if y < 0 or y >= step.expanded.height:
        return address(bases, step.tiling.outside)
    return block.ring + y % step.tiling.ring_rows * step.tiling.ring_columns * block.pixel


@functools.cache
def make_project(target: Target) -> Any:
    """Return the function that projects a filtered strip and adds the residual."""
    multiply, panel_bytes, word = make_multiply(target, form_of(target)), 2 * target.vector_bytes, target.word_channels
    map_panel = 2 * target.map_vector_bytes

    @njit(cached=False, inline=True, variant=target.name)
    def project(step, bases, first, rows):
        projection, stride, length = step.projection, step.output.pixel_stride, step.expanded.channels // word
        skipped = first * step.output.width * stride
        output = address(bases, step.output.ref) + skipped
        residual = address(bases, step.residual) + skipped if step.residual >= 0 else ZERO64
        pixels = rows * step.output.width
        for panel in range(panels(projection.vectors)):
            offset = panel * map_panel
            multiply(
                View(address(bases, step.tiling.filtered), step.tiling.filtered_stride, ZERO64),
                Segments(ONE64, ZERO64, length),
                product_at(projection, bases, panel * panel_bytes, length),
                residual + offset if residual != 0 else ZERO64,
                View(output + offset, stride, ZERO64),
                Area(pixels, pixels),
                tile_kind(panel, projection),
            )

    return project
