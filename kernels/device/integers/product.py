"""Matrix products of bytes: what `device.pointwise` is for floats.

Inputs are unsigned bytes, weights signed ones, in panels of two vectors of output channels (`host.integers`). A tile
keeps pixels × vectors of 32-bit sums in registers. Per iteration it multiplies four input channels at once.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from ...host.target import Target
from ..addressing import ZERO64, View
from ..jit import njit
from ..pointwise import Position, walk
from ..simd import INT64, Loop
from .simd import integers_emitted

VECTORS = 2
WORD_BYTES = 4


class Scaling(NamedTuple):
    """How sums become bytes: address of a float32 scale per output channel, clip range before `zero` is added."""

    scales: int
    low: float
    high: float
    zero: int


class ByteProduct(NamedTuple):
    """What one panel is computed with: addresses of weights and of a 32-bit bias, number of words per pixel."""

    weights: int
    bias: int
    words: int


def pixels_of(target: Target) -> int:
    """Pixels per tile. Measured on Zen 4 with VNNI, in percent of peak: 7 × 2: 93 to 99; 12 × 2 and 6 × 4: 75."""
    return 7 if target.registers >= 32 else 4


def make_tile(target: Target) -> Any:
    """Return a function that computes one tile.

    It is called as ``tile(source: View, product: ByteProduct, scaling: Scaling, corrections: View, output: View,
    position: Position)``. `corrections` holds a 32-bit number per pixel that is added to all of its sums.
    """
    pixels = pixels_of(target)
    sums = [(pixel, vector) for pixel in range(pixels) for vector in range(VECTORS)]

    @integers_emitted(target)
    def tile(emit, source, product, scaling, corrections, output, position):
        builder = emit.builder
        inputs, outputs, added = walk(builder, pixels, (source, output, corrections), position)
        bias = [emit.load_integers(product.bias, vector) for vector in range(VECTORS)]
        extra = [emit.broadcast_integer(address) for address in added]
        start = [builder.add(bias[vector], extra[pixel]) for pixel, vector in sums]
        loop = Loop(builder, [INT64(0), product.weights, *start])
        at, weights, *totals = loop.values
        row = [emit.load_integers(weights, vector) for vector in range(VECTORS)]
        words = [emit.broadcast_integer(builder.add(address, at)) for address in inputs]
        totals = [emit.dot(total, words[pixel], row[vector]) for (pixel, vector), total in zip(sums, totals)]
        at = builder.add(at, INT64(WORD_BYTES))
        weights = builder.add(weights, INT64(VECTORS * target.vector_bytes))
        stop = builder.mul(product.words, INT64(WORD_BYTES))
        loop.repeat(builder.icmp_signed("<", at, stop), [at, weights, *totals])
        low, high = emit.splat(scaling.low), emit.splat(scaling.high)
        zero = emit.splat_integer(builder.trunc(scaling.zero, emit.integers.element))
        scales = emit.load_all(scaling.scales, VECTORS)
        for (pixel, vector), total in zip(sums, loop.values[2:]):
            emit.store_bytes(emit.rescale(total, scales[vector], low, high, zero), outputs[pixel], vector)

    return tile


@functools.cache
def make_multiply_bytes(target: Target) -> Any:
    """Return the function that computes one panel for a number of pixels.

    It is called as ``multiply_bytes(source: View, product: ByteProduct, scaling: Scaling, corrections: View, output:
    View, pixels)``. Corrections are 32-bit numbers, one per pixel; a pixel stride of 0 repeats the first.
    """
    tile, tile_size = make_tile(target), pixels_of(target)

    @njit(cached=False, variant=target.name)
    def multiply_bytes(source, product, scaling, corrections, output, pixels):
        for first in range(0, pixels, tile_size):
            tile(
                View(source.address + first * source.pixel_stride, source.pixel_stride, source.row_jump),
                product, scaling,
                View(corrections.address + first * corrections.pixel_stride, corrections.pixel_stride, ZERO64),
                View(output.address + first * output.pixel_stride, output.pixel_stride, output.row_jump),
                Position(ZERO64, pixels + 1, min(tile_size, pixels - first)),
            )  # fmt: skip

    return multiply_bytes


@functools.cache
def make_sum_bytes(target: Target) -> Any:
    """Return the function that sums the bytes of each pixel, times a factor, as 32-bit numbers.

    It is called as ``sum_bytes(source: View, ones, vectors, factor, output, pixels)``. `ones` is the address of
    `vectors` vectors of signed bytes: 1 for every channel, 0 for what lies beyond the last one.
    """
    vector_bytes = target.vector_bytes

    @integers_emitted(target)
    def sum_pixel(emit, source, ones, vectors, factor, output):
        builder = emit.builder
        loop = Loop(builder, [INT64(0), emit.constant(0)])
        at, total = loop.values
        factors = (emit.load_integers(builder.add(address, at)) for address in (source, ones))
        total = emit.dot(total, *factors)
        at = builder.add(at, INT64(vector_bytes))
        loop.repeat(builder.icmp_signed("<", at, builder.mul(vectors, INT64(vector_bytes))), [at, total])
        scaled = builder.mul(emit.sum_lanes(loop.values[1]), builder.trunc(factor, emit.integers.element))
        builder.store(scaled, builder.inttoptr(output, scaled.type.as_pointer()), align=4)

    @njit(cached=False, variant=target.name)
    def sum_bytes(source, ones, vectors, factor, output, pixels):
        for pixel in range(pixels):
            sum_pixel(source.address + pixel * source.pixel_stride, ones, vectors, factor, output + 4 * pixel)

    return sum_bytes
