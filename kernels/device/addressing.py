"""Addresses and shares of work inside compiled code, and what belongs together on its way through functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..host.steps import OFFSET_BITS
from .jit import njit

# Numba compiles a function anew for every combination of literal arguments (such as 0); these are not literal.
ZERO64: Any = np.int64(0)
ONE64: Any = np.int64(1)


class View(NamedTuple):
    """Pixels in memory, walked row by row. All in bytes.

    Attributes
    ----------
    address : int
        Of the first pixel.
    pixel_stride : int
        From pixel to pixel.
    row_jump : int
        What is added at the end of a row of pixels.
    """

    address: int
    pixel_stride: int
    row_jump: int


class Segments(NamedTuple):
    """The inputs of one pixel: `number` pieces, `stride` bytes apart, of `length` floats.

    A pointwise convolution has one segment. A 3×3 convolution has three, since the pixels of an image row lie side by
    side.
    """

    number: int
    stride: int
    length: int


class Product(NamedTuple):
    """What one panel is computed with: addresses of weights and bias, and the clip range."""

    weights: int
    bias: int
    low: float
    high: float


class Area(NamedTuple):
    """Output pixels, `width` of them in a row."""

    pixels: int
    width: int


@njit(cached=False)
def address(bases, ref):
    """Address of a ref, given the address of every buffer."""
    return bases[ref >> OFFSET_BITS] + (ref & ((1 << OFFSET_BITS) - 1))


@njit(cached=False)
def product_at(fields, bases, offset, length):
    """The product of the panel whose bias lies `offset` bytes into the bias; `length` is the length of its sums."""
    return Product(
        address(bases, fields.weights) + offset * length, address(bases, fields.bias) + offset, fields.low, fields.high
    )


@njit(cached=False)
def share(total, worker, workers):
    """The piece [first, last) of `total` that belongs to a worker."""
    return total * worker // workers, total * (worker + 1) // workers
