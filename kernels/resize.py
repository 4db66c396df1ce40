"""Bilinear resize in the three conventions that matter for this network.

They differ only in which point of the input an output pixel looks at, and that is enough to move a mask by a pixel:

==================== ================================ ===========================================================
variant              source of output pixel i         used by
==================== ================================ ===========================================================
``tf1``              ``i · in/out``                   TensorFlow 1's default: slim's evaluation, SSD's input
``tf1_align_corners`` ``i · (in - 1)/(out - 1)``       DeepLab's up-sampling
``half_pixel``       ``(i + ½) · in/out - ½``         TensorFlow 2, PyTorch (align_corners=False), transformers
==================== ================================ ===========================================================

None of them smooths before it shrinks.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .types import Array

Variant = Literal["tf1", "tf1_align_corners", "half_pixel"]
VARIANTS: tuple[Variant, ...] = ("tf1", "tf1_align_corners", "half_pixel")


class LinearWeights(NamedTuple):
    """For every output entry of an axis: its two neighbors in the input and the weight of the second."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float32]


def linear_weights(size: int, out_size: int, variant: Variant) -> LinearWeights:
    """Where the `out_size` outputs of an axis lie between the `size` inputs, in float32 as TensorFlow computes it."""
    at = np.arange(out_size, dtype=np.float32)
    if variant == "tf1_align_corners" and out_size > 1:
        source = at * (np.float32(size - 1) / np.float32(out_size - 1))
    elif variant == "half_pixel":
        source = (at + np.float32(0.5)) * (np.float32(size) / np.float32(out_size)) - np.float32(0.5)
        source = np.maximum(source, np.float32(0))
    else:
        source = at * (np.float32(size) / np.float32(out_size))
    floor = np.floor(source)
    # Rounding may push the last sample a hair beyond the edge.
    lower = np.minimum(floor.astype(np.intp), size - 1)
    return LinearWeights(lower, np.minimum(lower + 1, size - 1), source - floor)


def resize_bilinear(x: Array, size: tuple[int, int], variant: Variant) -> Array:
    """Resize feature maps or images bilinearly.

    Parameters
    ----------
    x : Array [shape=(N, H, W, C)]
    size : (height, width)
    variant : {"tf1", "tf1_align_corners", "half_pixel"}

    Returns
    -------
    Array [shape=(N, height, width, C)]
        Equal to TensorFlow's result bit by bit for ``tf1`` (tested).
    """
    columns = linear_weights(x.shape[2], size[1], variant)
    weight = columns.weight[:, None].astype(x.dtype)
    wide = lerp(x[:, :, columns.lower], x[:, :, columns.upper], weight)
    rows = linear_weights(x.shape[1], size[0], variant)
    weight = rows.weight[:, None, None].astype(x.dtype)
    return lerp(wide[:, rows.lower], wide[:, rows.upper], weight)


def lerp(start: Array, end: Array, weight: Array) -> Array:
    """Linear interpolation ``start + (end - start) · weight``, written over `end`."""
    end -= start
    end *= weight
    end += start
    return end
