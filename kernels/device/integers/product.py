"""Matrix products of bytes: what `device.pointwise` is for floats.

Inputs are unsigned bytes, weights signed ones, in panels of two vectors of output channels (`host.integer_packing`). A
tile keeps pixels × vectors of 32-bit sums in registers. Per iteration it multiplies one *word*, four bytes of every
pixel. Where the words of a pixel lie is a list of offsets: one after the other in a pointwise convolution, in several
rows in a full one, and some twice where weights do not fit in eight bits.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from ...host import steps
from ...host.target import IntegerTarget
from ..addressing import ZERO64, Area, View, address, share
from ..jit import njit
from ..machine import make_record_at
from ..pointwise import Position, walk
from ..simd import INT64, Loop
from .rescale import Rescaler
from .simd import IntegerEmitter, integers_emitted

VECTORS = 2
_OFFSET_BYTES = 8
_PANEL_BYTES = steps.PANEL.itemsize
_panel_at = make_record_at(steps.PANEL)


class BytePanel(NamedTuple):
    """What one panel is computed with: addresses, and the end of its list of offsets."""

    weights: int
    bias: int
    scales: int
    offsets: int
    end: int
    numbers: int


def pixels_of(target: IntegerTarget) -> int:
    """Pixels per tile. Measured on Zen 4 with VNNI, in percent of peak: 7 × 2: 93 to 99; 12 × 2 and 6 × 4: 75."""
    return 7 if target.processor.registers >= 32 else 4


# Pixels of a small tile, for the last few of an area: fewer sums would wait for one another.
FEW_PIXELS = 2


def make_tile(target: IntegerTarget, pixels: int, halved: bool = False) -> Any:
    """Return a function that computes one tile, of which only the first half of every vector counts if `halved`.

    It is called as ``tile(source: View, panel: BytePanel, residual, output: View, position: Position)``; `residual` is
    an address, 0 for none: of what is added, in the layout of the output.
    """

    @integers_emitted(target.processor.halved if halved else target.processor, target.processor)
    def tile(emit, source, panel, residual, output, position):
        builder, rescale = emit.builder, Rescaler(emit, target)
        inputs, outputs = walk(builder, pixels, (source, output), position)
        totals = _multiply(emit, inputs, panel)
        distance = builder.sub(residual, output.address)
        emit.either(
            builder.icmp_signed("!=", residual, INT64(0)),
            lambda: _finish_sum(emit, rescale, totals, panel, outputs, [builder.add(to, distance) for to in outputs]),
            lambda: _finish(emit, rescale, totals, panel, outputs),
        )

    return tile


def _multiply(emit: IntegerEmitter, inputs: list[Any], panel: BytePanel) -> list[list[Any]]:
    """The sums of all pixels, two vectors each."""
    builder = emit.builder
    bias = [emit.load_integers(panel.bias, vector) for vector in range(VECTORS)]
    loop = Loop(builder, [panel.offsets, panel.weights, *bias * len(inputs)])
    at, weights, *totals = loop.values
    factors = [emit.load_factors(weights, vector) for vector in range(VECTORS)]
    offset = emit.load_address(at)
    words = [emit.broadcast_integer(builder.add(address, offset)) for address in inputs]
    totals = [emit.dot(total, words[i // VECTORS], factors[i % VECTORS]) for i, total in enumerate(totals)]
    at = builder.add(at, INT64(_OFFSET_BYTES))
    weights = builder.add(weights, INT64(VECTORS * emit.factor_bytes))
    loop.repeat(builder.icmp_signed("<", at, panel.end), [at, weights, *totals])
    totals = loop.values[2:]
    return [totals[first : first + VECTORS] for first in range(0, len(totals), VECTORS)]


def _finish(
    emit: IntegerEmitter, rescale: Rescaler, totals: list[list[Any]], panel: BytePanel, outputs: list[Any]
) -> None:
    """Bring the sums back to bytes, and store them."""
    scales = [rescale.load(panel.scales, vector) for vector in range(VECTORS)]
    values = [[rescale(total, scale) for total, scale in zip(pixel, scales)] for pixel in totals]
    zero, low, high = (emit.load_number(panel.numbers, index) for index in (steps.ZERO, steps.LOW, steps.HIGH))
    emit.for_range(zero, low, high, lambda zero, limits: _store(emit, values, outputs, zero, limits))


def _finish_sum(
    emit: IntegerEmitter, rescale: Rescaler, totals: list[list[Any]], panel: BytePanel, outputs: list[Any],
    residuals: list[Any],
) -> None:  # fmt: skip
    """Bring the sums back to bytes, add residuals in the scale of the result, and store."""
    scales = [rescale.load(panel.scales, vector) for vector in range(VECTORS)]
    zero, low, high = (emit.broadcast_integer(panel.numbers, index) for index in (steps.ZERO, steps.LOW, steps.HIGH))
    values = []
    for pixel, residual in zip(totals, residuals):
        others = emit.join_pixels(emit.load_raw(residual, VECTORS * emit.lanes))
        rounded = [emit.builder.add(rescale(total, scale), zero) for total, scale in zip(pixel, scales)]
        limited = [emit.limit(value, low, high) for value in rounded]
        values.append([rescale.add(x, y, panel.numbers) for x, y in zip(limited, others)])
    zero, low, high = (emit.load_number(panel.numbers, i) for i in (steps.SUM_ZERO, steps.SUM_LOW, steps.SUM_HIGH))
    _store(emit, values, outputs, zero, (low, high))


def _store(
    emit: IntegerEmitter, values: list[list[Any]], outputs: list[Any], zero: Any | None, limits: tuple[Any, ...]
) -> None:
    """Store the two vectors of every pixel as bytes, pixel by pixel in pairs."""
    for first in range(0, len(values), 2):
        pair = [first, min(first + 1, len(values) - 1)]
        packed = emit.pack([value for pixel in pair for value in values[pixel]], zero, limits)
        for pixel, piece in zip(pair, emit.split_pixels(packed)):
            emit.store_raw(piece, outputs[pixel])


@njit(cached=False)
def byte_panels(vectors):
    """Panels that a number of vectors of output channels is cut into."""
    return (vectors + VECTORS - 1) // VECTORS


def make_multiply_by(target: IntegerTarget, halved: bool) -> Any:
    """Return the function that computes a panel for all pixels of an area.

    It is called as ``multiply(panel: BytePanel, source: View, residual, output: View, area: Area)``.
    """
    size, few = pixels_of(target), FEW_PIXELS
    tile, small_tile = make_tile(target, size, halved), make_tile(target, few, halved)

    @njit(cached=False, variant=f"{target.name}-{halved}")
    def multiply(panel, source, residual, output, area):
        a, c, x, left = source.address, output.address, 0, area.pixels
        distance = residual - c if residual != 0 else 0
        while left > 0:
            inputs, outputs = (
                View(a, source.pixel_stride, source.row_jump),
                View(c, output.pixel_stride, output.row_jump),
            )
            added = c + distance if distance != 0 else 0
            # Two small tiles take less time than a whole one.
            made = few if left <= min(2 * few, size - 1) else size
            if made == size:
                tile(inputs, panel, added, outputs, Position(x, area.width, min(made, left)))
            else:
                small_tile(inputs, panel, added, outputs, Position(x, area.width, min(made, left)))
            x, left = x + made, left - made
            a, c = a + made * source.pixel_stride, c + made * output.pixel_stride
            while x >= area.width:
                x, a, c = x - area.width, a + source.row_jump, c + output.row_jump

    return multiply


@functools.cache
def make_panel_of(target: IntegerTarget) -> Any:
    """Return the function that finds a panel of a product, a group of a step: ``panel_of(product, bases, panel)``."""
    vector = VECTORS * target.processor.vector_bytes
    scale_bytes = vector * target.scale_vectors

    @njit(cached=False, inline=True, variant=target.name)
    def panel_of(product, bases, panel):
        found = _panel_at(address(bases, product.panels) + panel * _PANEL_BYTES)
        offsets = address(bases, product.offsets) + found.offsets
        return BytePanel(
            address(bases, product.weights) + found.weights,
            address(bases, product.bias) + panel * vector,
            address(bases, product.scales) + panel * scale_bytes,
            offsets,
            offsets + found.words * _OFFSET_BYTES,
            address(bases, product.finish),
        )

    return panel_of


@functools.cache
def make_multiply_bytes(target: IntegerTarget) -> Any:
    """Return the function that computes one panel for all pixels of an area.

    It is called as ``multiply_bytes(product, bases, panel, source: View, residual, output: View, area: Area)``; the
    product is a group of a step.
    """
    whole = make_multiply_by(target, False)
    half = whole if target.processor.halved == target.processor else make_multiply_by(target, True)
    panel_of = make_panel_of(target)

    @njit(cached=False, variant=target.name)
    def multiply_bytes(product, bases, panel, source, residual, output, area):
        byte_panel = panel_of(product, bases, panel)
        # The channels of one vector are the first halves of a panel's two.
        if product.vectors - panel * VECTORS == 1:
            half(byte_panel, source, residual, output, area)
        else:
            whole(byte_panel, source, residual, output, area)

    return multiply_bytes


@functools.cache
def make_run_pointwise(target: IntegerTarget) -> Any:
    """Return the function that multiplies all pixels by all weights; workers share the grid of panels × tiles."""
    multiply, tile_size = make_multiply_bytes(target), pixels_of(target)
    panel_bytes = VECTORS * target.processor.lanes

    @njit(cached=False, variant=target.name)
    def run_pointwise(step, bases, worker, workers):
        source, output, product = step.input, step.output, step.product
        pixels = source.height * source.width
        tiles = (pixels + tile_size - 1) // tile_size
        first, last = share(tiles * byte_panels(product.vectors), worker, workers)
        a, c = address(bases, source.ref), address(bases, output.ref)
        residual = address(bases, step.residual) if step.residual >= 0 else ZERO64
        while first < last:
            panel = first // tiles
            tile = first - panel * tiles
            stop = min(tiles, tile + last - first)
            start = tile * tile_size
            offset = start * output.pixel_stride + panel * panel_bytes
            multiply(
                product, bases, panel,
                View(a + start * source.pixel_stride, source.pixel_stride, ZERO64),
                residual + offset if residual != 0 else ZERO64,
                View(c + offset, output.pixel_stride, ZERO64),
                Area(min(stop * tile_size, pixels) - start, pixels),
            )  # fmt: skip
            first += stop - tile

    return run_pointwise


@functools.cache
def make_run_sums(target: IntegerTarget) -> Any:
    """Return the function that multiplies one pixel by all weights and keeps the sums; workers share the panels.

    They lie as a bias does: what is the same for all pixels of a product is multiplied once.
    """
    panel_of, size = make_panel_of(target), VECTORS * target.processor.vector_bytes

    @integers_emitted(target.processor)
    def sums(emit, source, panel, output):
        for vector, total in enumerate(_multiply(emit, [source], panel)[0]):
            emit.store(emit.builder.bitcast(total, emit.type), output, vector)

    @njit(cached=False, variant=target.name)
    def run_sums(step, bases, worker, workers):
        source, output = address(bases, step.input.ref), address(bases, step.output.ref)
        first, last = share(byte_panels(step.product.vectors), worker, workers)
        for panel in range(first, last):
            sums(source, panel_of(step.product, bases, panel), output + panel * size)

    return run_sums
