"""Full convolution: the network's first layer, and 3×3 convolutions of heads."""

from __future__ import annotations

import numpy as np

from .blocks import row_blocks
from .clip import NO_CLIP, Clip, clip_in_place
from .padding import Geometry, output_size
from .types import Array


def conv(x: Array, kernel: Array, bias: Array, geometry: Geometry, clip: Clip = NO_CLIP) -> Array:
    """Convolve an image with a bank of filters.

    ``y[n, i, j, o] = clip(bias[o] + Σ x[n, i·s + a·d - top, j·s + b·d - left, c] · kernel[a, b, c, o])``

    Parameters
    ----------
    x : Array [shape=(N, H, W, Cin)]
    kernel : Array [shape=(kh, kw, Cin, Cout)]
    bias : Array [shape=(Cout,)]
    geometry : Geometry
        Stride s, dilation d and padding; zeros lie outside the image.
    clip : (low, high)

    Returns
    -------
    Array [shape=(N, H', W', Cout)]
    """
    kh, kw, _, filters = kernel.shape
    windows = sliding_windows(pad(x, geometry), kh, kw, geometry)
    batch, height, width = windows.shape[:3]
    out = np.empty((batch, height, width, filters), x.dtype)
    matrix = kernel.reshape(-1, filters)
    for image, result in zip(windows, out):
        for rows in row_blocks(height, width * matrix.shape[0] * x.itemsize):
            # The reshape copies the overlapping windows: one row of the matrix per output pixel.
            np.matmul(image[rows].reshape(-1, width, matrix.shape[0]), matrix, out=result[rows])
            result[rows] += bias
            clip_in_place(result[rows], clip)
    return out


def pad(x: Array, geometry: Geometry) -> Array:
    """Return `x` (N, H, W, C) inside the zeros that `geometry` asks for, or `x` itself where it asks for none."""
    if not any(map(any, geometry.padding)):
        return x
    return np.pad(x, ((0, 0), *geometry.padding, (0, 0)))


def sliding_windows(x: Array, kh: int, kw: int, geometry: Geometry) -> Array:
    """View the padded `x` (N, H, W, C) as (N, H', W', kh, kw, C): for each output pixel the inputs that it sees."""
    stride, dilation, _ = geometry
    batch, height, width, channels = x.shape
    shape = (
        batch,
        output_size(height, kh, stride, dilation, (0, 0)),
        output_size(width, kw, stride, dilation, (0, 0)),
        kh,
        kw,
        channels,
    )
    n, h, w, c = x.strides
    strides = (n, h * stride, w * stride, h * dilation, w * dilation, c)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
