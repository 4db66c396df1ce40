"""Depthwise convolution: every channel has a small filter of its own."""

from __future__ import annotations

import numpy as np

from .blocks import row_blocks
from .clip import NO_CLIP, Clip, clip_in_place
from .padding import Geometry, output_size
from .types import Array

# A quarter of a usual 1 MB second-level cache: input rows, sums and products of a block lie in it together.
_BLOCK_BYTES = 256 * 1024


def depthwise(x: Array, kernel: Array, bias: Array, geometry: Geometry, clip: Clip = NO_CLIP) -> Array:
    """Filter every channel on its own.

    ``y[n, i, j, c] = clip(bias[c] + Σ x[n, i·s + a·d - top, j·s + b·d - left, c] · kernel[a, b, c])``

    Parameters
    ----------
    x : Array [shape=(N, H, W, C)]
    kernel : Array [shape=(kh, kw, C)]
    bias : Array [shape=(C,)]
    geometry : Geometry
        Stride s, dilation d and padding; zeros lie outside the image.
    clip : (low, high)

    Returns
    -------
    Array [shape=(N, H', W', C)]
    """
    batch, height, width, channels = x.shape
    kh, kw, _ = kernel.shape
    stride, dilation, (vertical, horizontal) = geometry
    out_height = output_size(height, kh, stride, dilation, vertical)
    out_width = output_size(width, kw, stride, dilation, horizontal)
    out = np.empty((batch, out_height, out_width, channels), x.dtype)
    blocks = list(row_blocks(out_height, out_width * channels * x.itemsize, _BLOCK_BYTES))
    # One piece of scratch memory for all blocks: fresh memory costs a page fault for every 4 KB.
    scratch = np.empty((blocks[0].stop, out_width, channels), x.dtype)
    for image, result in zip(x, out):
        for rows in blocks:
            strip = _padded_rows(image, rows, kh, geometry)
            _sum_of_taps(strip, kernel, bias, geometry, result[rows], scratch[: rows.stop - rows.start])
            clip_in_place(result[rows], clip)
    return out


def _padded_rows(image: Array, rows: slice, kh: int, geometry: Geometry) -> Array:
    """The padded input rows (h, W + left + right, C) that the output rows `rows` see."""
    stride, dilation, ((top, _), (left, right)) = geometry
    height, width, channels = image.shape
    first = rows.start * stride - top
    last = (rows.stop - 1) * stride - top + (kh - 1) * dilation + 1
    inside = slice(max(first, 0), max(min(last, height), 0))
    if first >= 0 and last <= height and left == right == 0:
        return image[inside]
    strip = np.zeros((last - first, left + width + right, channels), image.dtype)
    at = inside.start - first
    strip[at : at + inside.stop - inside.start, left : left + width] = image[inside]
    return strip


def _sum_of_taps(strip: Array, kernel: Array, bias: Array, geometry: Geometry, out: Array, product: Array) -> None:
    """Write bias + Σ tap · pixels to `out` (h', W', C): one shifted `product` per tap, so all channels go at once."""
    kh, kw, _ = kernel.shape
    stride, dilation, _ = geometry
    height, width, _ = out.shape
    out[...] = bias
    for a in range(kh):
        for b in range(kw):
            top, left = a * dilation, b * dilation
            tap = strip[
                top : top + (height - 1) * stride + 1 : stride,
                left : left + (width - 1) * stride + 1 : stride,
            ]
            np.multiply(tap, kernel[a, b], out=product)
            out += product
