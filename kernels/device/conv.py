"""Full convolution without an im2col: in NHWC, a window's row of pixels is one contiguous piece of memory.

The image rows under a few output rows are copied between columns of zeros ("staged"). A 3×3 convolution is then a
matrix product whose pixels have three segments each, and neighboring pixels overlap in memory instead of being
unrolled.
"""

from __future__ import annotations

from ..host.target import FLOAT_BYTES
from .addressing import ZERO64, address, share
from .jit import njit
from .pointwise import VECTOR, multiply, panels, tile_kind
from .simd import copy_bytes, zero_bytes


@njit(cached=False)
def staged_columns(step):
    """Columns of the image, zeros around it included, that the windows of an output row reach over."""
    return (step.conv_width - 1) * step.stride + step.kernel


@njit(cached=False)
def stage_rows(step, bases, first, last):
    """Copy the image under the output rows [first, last), with zeros around it."""
    pixel = step.channels * FLOAT_BYTES
    width = staged_columns(step)
    before = min(step.left, width)
    inside = min(step.width, width - before)
    target = address(bases, step.staged)
    for y in range(first * step.stride - step.top, (last - 1) * step.stride - step.top + step.kernel):
        if y < 0 or y >= step.height:
            zero_bytes(target, width * pixel)
        else:
            source = address(bases, step.source) + y * step.width * step.source_step
            zero_bytes(target, before * pixel)
            copy_pixels(target + before * pixel, source, inside, pixel, step.source_step)
            zero_bytes(target + (before + inside) * pixel, (width - before - inside) * pixel)
        target += width * pixel


@njit(cached=False)
def copy_pixels(target, source, count, pixel, source_step):
    """Copy pixels into one contiguous piece."""
    if source_step == pixel:
        copy_bytes(target, source, count * pixel)
    else:
        for x in range(count):
            copy_bytes(target + x * pixel, source + x * source_step, pixel)


@njit(cached=False)
def convolve_staged(step, bases, panel, skipped, left, target, target_step, target_jump, rows, columns):
    """Compute a panel of `columns` × `rows` output pixels, after the first `skipped` rows and `left` columns staged."""
    pixel = step.channels * FLOAT_BYTES
    row_bytes = staged_columns(step) * pixel
    length = step.kernel * step.channels
    a_step, a_row = step.stride * pixel, step.stride * row_bytes
    multiply(
        address(bases, step.staged) + skipped * a_row + left * a_step, a_step, a_row - columns * a_step,
        step.kernel, row_bytes, length,
        address(bases, step.weights) + panel * 2 * VECTOR * step.kernel * length,
        address(bases, step.bias) + panel * 2 * VECTOR, ZERO64, target, target_step, target_jump,
        rows * columns, columns, tile_kind(panel, step.vectors, step.half), step.low, step.high,
    )  # fmt: skip


@njit(cached=False)
def run_conv(step, bases, worker, workers):
    """Convolve, strip by strip."""
    width = step.out_width
    first, last = share(step.out_height, worker, workers)
    for y in range(first, last, step.rows):
        rows = min(step.rows, last - y)
        stage_rows(step, bases, y, y + rows)
        target = address(bases, step.target) + y * width * step.target_step
        for panel in range(panels(step.vectors)):
            at = target + panel * 2 * VECTOR
            convolve_staged(step, bases, panel, ZERO64, ZERO64, at, step.target_step, ZERO64, rows, width)
