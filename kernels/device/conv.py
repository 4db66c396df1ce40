"""Full convolution without an im2col: in NHWC, a window's row of pixels is one contiguous piece of memory.

The image rows under a few output rows are copied between columns of zeros ("staged"). A 3×3 convolution is then a
matrix product whose pixels have three segments each, and neighboring pixels overlap in memory instead of being
unrolled.
"""

from __future__ import annotations

import functools
from typing import Any

from ..host.target import FLOAT_BYTES, Target
from .addressing import ZERO64, Area, Segments, View, address, product_at, share
from .jit import njit
from .machine import positive
from .pointwise import make_multiply, tile_kind
from .simd import Form, copy_bytes, fill_bytes


@njit(cached=False)
def staged_columns(conv):
    """Columns of the image, zeros around it included, that the windows of an output row reach over."""
    return (conv.out_width - 1) * conv.stride + conv.kernel


@njit(cached=False)
def stage_rows(step, bases, first, last):
    """Copy the image under the output rows [first, last), with padding around it."""
    conv, source, pixel = step.conv, step.input, step.input.channels * step.input.channel_bytes
    width = staged_columns(conv)
    before = min(conv.left, width)
    inside = min(source.width, width - before)
    output = address(bases, step.tiling.staged)
    for y in range(first * conv.stride - conv.top, (last - 1) * conv.stride - conv.top + conv.kernel):
        if y < 0 or y >= source.height:
            fill_bytes(output, width * pixel, conv.padding)
        else:
            row = address(bases, source.ref) + y * source.width * source.pixel_stride
            fill_bytes(output, before * pixel, conv.padding)
            copy_pixels(output + before * pixel, row, inside, pixel, source.pixel_stride)
            fill_bytes(output + (before + inside) * pixel, (width - before - inside) * pixel, conv.padding)
        output += width * pixel


@njit(cached=False)
def copy_pixels(output, source, count, pixel, pixel_stride):
    """Copy `count` pixels of `pixel` bytes into one contiguous piece."""
    if pixel_stride == pixel:
        copy_bytes(output, source, count * pixel)
    else:
        for x in range(count):
            copy_bytes(output + x * pixel, source + x * pixel_stride, pixel)


@functools.cache
def make_convolve_staged(target: Target, form: Form) -> Any:
    """Return the function that computes a panel of output pixels from staged rows, for maps of a form.

    It is called as ``convolve_staged(step, bases, panel, rows, columns, output: View, area: Area)``, where the first
    `rows` output rows and `columns` output columns that are staged are skipped.
    """
    multiply, panel_bytes, word = make_multiply(target, form), 2 * target.vector_bytes, FLOAT_BYTES // form.source

    @njit(cached=False, variant=f"{target.name}-{form.source}{form.output}")
    def convolve_staged(step, bases, panel, rows, columns, output, area):
        conv, product, pixel = step.conv, step.product, step.input.channels * step.input.channel_bytes
        row_bytes, length = staged_columns(conv) * pixel, conv.kernel * step.input.channels // word
        pixel_stride, row_stride = conv.stride * pixel, conv.stride * row_bytes
        corner = address(bases, step.tiling.staged) + rows * row_stride + columns * pixel_stride
        multiply(
            View(corner, pixel_stride, row_stride - area.width * pixel_stride),
            Segments(conv.kernel, row_bytes, length),
            product_at(product, bases, panel * panel_bytes, conv.kernel * length),
            ZERO64, output, area, tile_kind(panel, product),
        )  # fmt: skip

    return convolve_staged


@functools.cache
def make_run_conv(convolve: Any, panels: Any, panel_bytes: int, name: str) -> Any:
    """Return the function that convolves strip by strip; workers share the output rows.

    Parameters
    ----------
    convolve, panels : compiled functions
        See `inverted_residual.Walk`.
    panel_bytes : int
        From one panel of a pixel to the next.
    name : str
        Tells apart what is made of different functions.
    """

    @njit(cached=False, variant=name)
    def run_conv(step, bases, worker, workers):
        width, pixel_stride = step.output.width, step.output.pixel_stride
        first, last = share(step.output.height, worker, workers)
        for y in range(first, last, positive(step.tiling.rows)):
            rows = min(step.tiling.rows, last - y)
            stage_rows(step, bases, y, y + rows)
            output = address(bases, step.output.ref) + y * width * pixel_stride
            for panel in range(panels(step.product.vectors)):
                view = View(output + panel * panel_bytes, pixel_stride, ZERO64)
                convolve(step, bases, panel, ZERO64, ZERO64, view, Area(rows * width, width))

    return run_conv
