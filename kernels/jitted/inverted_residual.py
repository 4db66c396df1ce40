"""The fused block: expand → depthwise → project, strip by strip, so that the wide map never leaves the cache.

See the drawing in kernels/README.md. One function serves all of it: what the depthwise convolution reads may come from
an expansion, from the network's first convolution, or from a map that exists already, and its result may be projected or
kept as it is.
"""

from __future__ import annotations

import numpy as np

from .conv import convolve_staged, stage_rows
from .depthwise import TAPS, filter_row
from .jit import njit
from .pointwise import VECTOR, multiply, panel_vectors, panels
from .simd import copy_bytes, zero_vector
from .steps import FROM_CONV, FROM_POINTWISE, address, share

# A projection has no activation.
UNBOUNDED_LOW, UNBOUNDED_HIGH = np.float32(-np.inf), np.float32(np.inf)


@njit(cached=False)
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
        top = y * step.filter_stride - step.filter_top
        bottom = top + (rows - 1) * step.filter_stride + 2 * step.filter_dilation + 1
        produced = max(produced, top, 0)
        bottom = min(bottom, step.wide_height)
        if step.producer == FROM_CONV and produced < bottom:
            stage_rows(step, bases, produced, bottom)
        for panel in range(first_panel, last_panel):
            produce(step, bases, panel, produced, bottom)
            filter_rows(step, bases, panel, y, rows)
        produced = max(produced, bottom)
        if step.project_vectors:
            project(step, bases, y, rows)


@njit(cached=False)
def ring_of(step, bases, panel):
    """Address of a panel's ring of rows."""
    return address(bases, step.ring) + panel * 2 * VECTOR * step.ring_rows * step.ring_columns


@njit(cached=False)
def produce(step, bases, panel, first, last):
    """Bring the rows [first, last) of the wide map into the ring, in runs that do not wrap round its end."""
    count = panel_vectors(panel, step.vectors)
    pixel = count * VECTOR
    row_bytes = step.ring_columns * pixel
    ring = ring_of(step, bases, panel)
    at = first
    while at < last:
        slot = at % step.ring_rows
        rows = min(last - at, step.ring_rows - slot)
        target = ring + slot * row_bytes
        for row in range(rows):
            surround_with_zeros(step, target + row * row_bytes, pixel)
        target += step.filter_left * pixel
        jump = (step.ring_columns - step.wide_width) * pixel
        if step.producer == FROM_POINTWISE:
            multiply(
                address(bases, step.source) + at * step.width * step.source_step, step.source_step, 0,
                1, 0, step.channels,
                address(bases, step.weights) + panel * 2 * VECTOR * step.channels,
                address(bases, step.bias) + panel * 2 * VECTOR, 0,
                target, pixel, jump, rows * step.wide_width, step.wide_width, count, step.low, step.high,
            )  # fmt: skip
        elif step.producer == FROM_CONV:
            convolve_staged(step, bases, panel, at - first, target, pixel, jump, rows)
        else:
            copy_rows(step, bases, panel, at, rows, target, row_bytes)
        at += rows


@njit(cached=False)
def surround_with_zeros(step, row, pixel):
    """Clear the columns of a ring row that lie outside the image."""
    inside = step.filter_left * pixel
    for at in range(0, inside, VECTOR):
        zero_vector(row + at)
    for at in range(inside + step.wide_width * pixel, step.ring_columns * pixel, VECTOR):
        zero_vector(row + at)


@njit(cached=False)
def copy_rows(step, bases, panel, first, rows, target, row_bytes):
    """Copy rows of an existing map into the ring."""
    pixel = panel_vectors(panel, step.vectors) * VECTOR
    for row in range(rows):
        source = address(bases, step.source) + (first + row) * step.width * step.source_step + panel * 2 * VECTOR
        for x in range(step.width):
            copy_bytes(target + row * row_bytes + x * pixel, source + x * step.source_step, pixel)


@njit(cached=False)
def filter_rows(step, bases, panel, first, rows):
    """Compute `rows` rows of the depthwise convolution for one panel from the rows in its ring."""
    count = panel_vectors(panel, step.vectors)
    pixel = count * VECTOR
    row_bytes = step.ring_columns * pixel
    ring, zeros = ring_of(step, bases, panel), address(bases, step.zeros)
    # A filtered map that is about to be projected holds one strip, else the whole image.
    skipped = 0 if step.project_vectors else first * step.out_width
    target = address(bases, step.filtered) + skipped * step.filtered_step + panel * 2 * VECTOR
    for y in range(first, first + rows):
        top = y * step.filter_stride - step.filter_top
        filter_row(
            row_of(step, ring, row_bytes, zeros, top),
            row_of(step, ring, row_bytes, zeros, top + step.filter_dilation),
            row_of(step, ring, row_bytes, zeros, top + 2 * step.filter_dilation),
            pixel, step.filter_stride, step.filter_dilation,
            address(bases, step.filters) + panel * 2 * VECTOR * TAPS,
            address(bases, step.filter_bias) + panel * 2 * VECTOR,
            target, step.filtered_step, step.out_width, count, step.filter_low, step.filter_high,
        )  # fmt: skip
        target += step.out_width * step.filtered_step


@njit(cached=False)
def row_of(step, ring, row_bytes, zeros, y):
    """Address of a row of the wide map; rows outside the image are zeros."""
    if y < 0 or y >= step.wide_height:
        return zeros
    return ring + y % step.ring_rows * row_bytes


@njit(cached=False)
def project(step, bases, first, rows):
    """Project the filtered strip, and add the residual."""
    skipped = first * step.out_width * step.target_step
    target = address(bases, step.target) + skipped
    residual = address(bases, step.residual) + skipped if step.residual >= 0 else 0
    pixels = rows * step.out_width
    for panel in range(panels(step.project_vectors)):
        at = panel * 2 * VECTOR
        multiply(
            address(bases, step.filtered), step.filtered_step, 0, 1, 0, step.wide_channels,
            address(bases, step.project) + at * step.wide_channels, address(bases, step.project_bias) + at,
            residual + at if residual != 0 else 0, target + at, step.target_step, 0,
            pixels, pixels, panel_vectors(panel, step.project_vectors), UNBOUNDED_LOW, UNBOUNDED_HIGH,
        )  # fmt: skip
