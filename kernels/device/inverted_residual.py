"""The fused block: expand → depthwise → project, strip by strip, so that the wide map never leaves the cache.

See the drawing in kernels/README.md. One function serves all of it: what the depthwise convolution reads may come
from an expansion, from the network's first convolution, or from a map that exists already, and its result may be
projected or kept as it is.
"""

from __future__ import annotations

import numpy as np

from ..host.steps import FROM_CONV, FROM_POINTWISE
from .addressing import ONE64, ZERO64, address, share
from .conv import convolve_staged, copy_pixels, stage_rows
from .depthwise import TAPS, filter_row
from .jit import njit
from .pointwise import VECTOR, multiply, panel_vectors, panels, tile_kind
from .simd import zero_vector

# A projection has no activation.
UNBOUNDED_LOW, UNBOUNDED_HIGH = np.float32(-np.inf), np.float32(np.inf)


@njit(cached=False, inline=True)
def run_filter(step, bases, worker, workers):
    """Run the piece of one worker: some of the output rows, or all rows of some panels."""
    first_row, last_row, first_panel, last_panel = 0, step.out_height, 0, panels(step.vectors)
    if step.by_panels:
        first_panel, last_panel = share(last_panel, worker, workers)
    else:
        first_row, last_row = share(last_row, worker, workers)
    produced = 0
    for y in range(first_row, last_row, step.rows):
        rows = min(step.rows, last_row - y)
        staged = max(produced, y * step.filter_stride - step.filter_top, 0)
        if step.producer == FROM_CONV:
            stage_rows(step, bases, staged, rows_needed(step, y + rows))
        for column in range(0, step.out_width, step.columns):
            for panel in range(first_panel, last_panel):
                fill_strip(step, bases, y, rows, column, panel, staged)
        produced = rows_needed(step, y + rows)
        if step.project_vectors:
            project(step, bases, y, rows)


@njit(cached=False)
def rows_needed(step, rows):
    """Rows of the wide map, counted from its top, that the first `rows` output rows read."""
    reach = (rows - 1) * step.filter_stride - step.filter_top + 2 * step.filter_dilation + 1
    return max(0, min(reach, step.wide_height))


@njit(cached=False, inline=True)
def fill_strip(step, bases, first, rows, column, panel, start):
    """Compute one panel of a strip, for one block of columns, a few rows at a time so that they stay in the cache.

    The rows of the wide map before `start` are in the ring already or not needed.
    """
    columns = min(step.columns, step.out_width - column)
    block = column // step.columns
    ring = address(bases, step.ring)
    if not step.ring_shared:
        ring += (block * step.vectors + panel * 2) * VECTOR * step.ring_rows * step.ring_columns
    # A filtered map that is about to be projected holds one strip, else the whole image.
    above = 0 if step.project_vectors else first
    target = address(bases, step.filtered) + panel * 2 * VECTOR
    produced = start
    for y in range(first, first + rows, step.turn_rows):
        turn = min(step.turn_rows, first + rows - y)
        needed = rows_needed(step, y + turn)
        produce(step, bases, ring, panel, produced, needed, column, columns, produced - start)
        produced = max(produced, needed)
        pixel = (y - first + above) * step.out_width + column
        filter_rows(step, bases, ring, panel, y, turn, columns, target + pixel * step.filtered_step)


@njit(cached=False)
def produce(step, bases, ring, panel, first, last, column, columns, skipped):
    """Bring the rows [first, last) of the wide map under some output columns into the ring.

    Rows are made in runs that do not wrap round the end of the ring. The strip's first `skipped` rows have been made
    before.
    """
    pixel = panel_vectors(panel, step.vectors) * VECTOR
    row_bytes = step.ring_columns * pixel
    left = column * step.filter_stride - step.filter_left
    right = left + (columns - 1) * step.filter_stride + 2 * step.filter_dilation + 1
    # The columns that lie in the image, if any.
    inside = min(max(left, 0), right)
    outside = max(min(right, step.wide_width), inside)
    at = first
    while at < last:
        slot = at % step.ring_rows
        rows = min(last - at, step.ring_rows - slot)
        target = ring + slot * row_bytes
        for row in range(rows):
            zero_vectors(target + row * row_bytes, (inside - left) * pixel)
            zero_vectors(target + row * row_bytes + (outside - left) * pixel, (right - outside) * pixel)
        if inside < outside:
            to = target + (inside - left) * pixel
            make_rows(step, bases, panel, at, rows, inside, outside - inside, to, skipped + at - first)
        at += rows


@njit(cached=False)
def zero_vectors(target, size):
    """Clear `size` bytes, a multiple of a vector."""
    for at in range(target, target + size, VECTOR):
        zero_vector(at)


@njit(cached=False, inline=True)
def make_rows(step, bases, panel, first, rows, left, columns, target, skipped):
    """Compute or copy a piece of the wide map."""
    pixel = panel_vectors(panel, step.vectors) * VECTOR
    jump = (step.ring_columns - columns) * pixel
    source = address(bases, step.source) + (first * step.width + left) * step.source_step
    if step.producer == FROM_POINTWISE:
        at = panel * 2 * VECTOR
        multiply(
            source, step.source_step, (step.width - columns) * step.source_step, ONE64, ZERO64, step.channels,
            address(bases, step.weights) + at * step.channels, address(bases, step.bias) + at, ZERO64,
            target, pixel, jump, rows * columns, columns, tile_kind(panel, step.vectors, step.half),
            step.low, step.high,
        )  # fmt: skip
    elif step.producer == FROM_CONV:
        convolve_staged(step, bases, panel, skipped, left, target, pixel, jump, rows, columns)
    else:
        for row in range(rows):
            copy_pixels(
                target + row * step.ring_columns * pixel,
                source + row * step.width * step.source_step + panel * 2 * VECTOR, columns, pixel, step.source_step,
            )  # fmt: skip


@njit(cached=False)
def filter_rows(step, bases, ring, panel, first, rows, columns, target):
    """Compute `rows` rows of the depthwise convolution for one panel from the rows in its ring."""
    count = panel_vectors(panel, step.vectors)
    pixel = count * VECTOR
    row_bytes = step.ring_columns * pixel
    zeros = address(bases, step.zeros)
    for y in range(first, first + rows):
        top = y * step.filter_stride - step.filter_top
        filter_row(
            row_of(step, ring, row_bytes, zeros, top),
            row_of(step, ring, row_bytes, zeros, top + step.filter_dilation),
            row_of(step, ring, row_bytes, zeros, top + 2 * step.filter_dilation),
            pixel, step.filter_stride, step.filter_dilation,
            address(bases, step.filters) + panel * 2 * VECTOR * TAPS,
            address(bases, step.filter_bias) + panel * 2 * VECTOR,
            target, step.filtered_step, columns, count, step.filter_low, step.filter_high,
        )  # fmt: skip
        target += step.out_width * step.filtered_step


@njit(cached=False)
def row_of(step, ring, row_bytes, zeros, y):
    """Address of a row of the wide map; rows outside the image are zeros."""
    if y < 0 or y >= step.wide_height:
        return zeros
    return ring + y % step.ring_rows * row_bytes


@njit(cached=False, inline=True)
def project(step, bases, first, rows):
    """Project the filtered strip, and add the residual."""
    skipped = first * step.out_width * step.target_step
    target = address(bases, step.target) + skipped
    residual = address(bases, step.residual) + skipped if step.residual >= 0 else ZERO64
    pixels = rows * step.out_width
    for panel in range(panels(step.project_vectors)):
        at = panel * 2 * VECTOR
        multiply(
            address(bases, step.filtered), step.filtered_step, ZERO64, ONE64, ZERO64, step.wide_channels,
            address(bases, step.project) + at * step.wide_channels, address(bases, step.project_bias) + at,
            residual + at if residual != 0 else ZERO64, target + at, step.target_step, ZERO64,
            pixels, pixels, tile_kind(panel, step.project_vectors, step.project_half), UNBOUNDED_LOW, UNBOUNDED_HIGH,
        )  # fmt: skip
