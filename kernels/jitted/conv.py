"""Full convolution without an im2col: in NHWC, a window's row of pixels is one contiguous piece of memory.

The image rows under a few output rows are copied between columns of zeros ("staged"); a 3×3 convolution is then a matrix
product whose pixels have three segments each, and neighbouring pixels overlap in memory instead of being unrolled.
"""

from __future__ import annotations

from .jit import njit
from .pointwise import VECTOR, multiply, panel_vectors, panels
from .simd import FLOAT_BYTES, copy_bytes, zero_bytes
from .steps import address, share


@njit(cached=False)
def staged_row_bytes(step):
    """Bytes of one staged image row: as much as the windows of one output row reach over."""
    columns = (step.wide_width - 1) * step.stride + step.kernel
    return columns * step.channels * FLOAT_BYTES


@njit(cached=False)
def stage_rows(step, bases, first, last):
    """Copy the image rows under the output rows [first, last) to the staging place, with zeros around the image."""
    pixel = step.channels * FLOAT_BYTES
    row_bytes = staged_row_bytes(step)
    columns = row_bytes // pixel
    before = min(step.left, columns)
    inside = min(step.width, columns - before)
    target = address(bases, step.staged)
    for y in range(first * step.stride - step.top, (last - 1) * step.stride - step.top + step.kernel):
        if y < 0 or y >= step.height:
            zero_bytes(target, row_bytes)
        else:
            zero_bytes(target, before * pixel)
            source = address(bases, step.source) + y * step.width * step.source_step
            if step.source_step == pixel:
                copy_bytes(target + before * pixel, source, inside * pixel)
            else:
                for x in range(inside):
                    copy_bytes(target + (before + x) * pixel, source + x * step.source_step, pixel)
            zero_bytes(target + (before + inside) * pixel, row_bytes - (before + inside) * pixel)
        target += row_bytes


@njit(cached=False)
def convolve_staged(step, bases, panel, skipped, target, target_step, target_jump, rows):
    """Compute one panel of output channels for `rows` rows, after the `skipped` first of those that have been staged."""
    pixel = step.channels * FLOAT_BYTES
    row_bytes = staged_row_bytes(step)
    length = step.kernel * step.channels
    count = panel_vectors(panel, step.vectors)
    a_step = step.stride * pixel
    multiply(
        address(bases, step.staged) + skipped * step.stride * row_bytes, a_step, step.stride * row_bytes - step.wide_width * a_step,
        step.kernel, row_bytes, length,
        address(bases, step.weights) + panel * 2 * VECTOR * step.kernel * length,
        address(bases, step.bias) + panel * 2 * VECTOR, 0,
        target, target_step, target_jump, rows * step.wide_width, step.wide_width, count, step.low, step.high,
    )  # fmt: skip


@njit(cached=False)
def run_conv(step, bases, worker, workers):
    """Convolve, strip by strip."""
    first, last = share(step.wide_height, worker, workers)
    for y in range(first, last, step.rows):
        rows = min(step.rows, last - y)
        stage_rows(step, bases, y, y + rows)
        target = address(bases, step.target) + y * step.wide_width * step.target_step
        for panel in range(panels(step.vectors)):
            convolve_staged(step, bases, panel, 0, target + panel * 2 * VECTOR, step.target_step, 0, rows)
