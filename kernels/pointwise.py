"""Pointwise (1×1) convolution: a matrix product over the channels of every pixel. Most of the network's arithmetic."""

from __future__ import annotations

import numpy as np

from .blocks import row_blocks
from .clip import NO_CLIP, Clip, clip_in_place
from .types import Array


def pointwise(x: Array, kernel: Array, bias: Array, clip: Clip = NO_CLIP) -> Array:
    """Mix the channels of every pixel: ``y[…, o] = clip(bias[o] + Σ_c x[…, c] · kernel[c, o])``.

    Parameters
    ----------
    x : Array [shape=(…, Cin)]
    kernel : Array [shape=(Cin, Cout)]
    bias : Array [shape=(Cout,)]
    clip : (low, high)

    Returns
    -------
    Array [shape=(…, Cout)]
    """
    filters = kernel.shape[1]
    out = np.empty((*x.shape[:-1], filters), x.dtype)
    pixels, results = x.reshape(-1, x.shape[-1]), out.reshape(-1, filters)
    # Bias and clip follow while the block is still in the cache; over the whole tensor they would cost memory traffic.
    for rows in row_blocks(len(pixels), filters * x.itemsize):
        block = np.matmul(pixels[rows], kernel, out=results[rows])
        block += bias
        clip_in_place(block, clip)
    return out
