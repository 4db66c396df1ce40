"""Matrix products of pixels and weights: pointwise convolution, and the core of every full convolution and dense layer.

The unit of work is a *tile*: a few pixels times a few vectors of output channels, all of whose sums stay in registers
while the loop runs over the input channels. Per turn it loads the weights of its vectors once and one float per pixel,
and does pixels × vectors multiply-adds; that is how the FMA units and not the loads become the limit.

Weights are packed into *panels* so that a tile reads them in one straight line (see `packing`). A product with an odd
number of vectors ends with a panel of three vectors, or of one if that is all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..host.target import FLOAT_BYTES
from .addressing import ONE64, ZERO64, address, share
from .jit import njit
from .probe import host_target
from .simd import INT64, Emitter, Loop

LANES = host_target().lanes
VECTOR = LANES * FLOAT_BYTES
# Kinds of tiles by the vectors of channels that they compute. A tile of one and a half vectors is laid out like one of
# two: its second vector of weights holds the same half vector twice, once for each of two pixels.
ONE, TWO, THREE, ONE_AND_A_HALF = 1, 2, 3, 4
# Pixels per tile. Sums, weights and one input must fit in the registers, at least eight sums must be in flight to hide
# the latency of an FMA, the addresses of the pixels must fit in the general registers, and 7 divides the widths 112,
# 56, 28, 14 and 7 of the usual image. Measured on Zen 5 (AVX-512), in percent of peak: 7 × 2 and 7 × 3: 92 to 98,
# 12 × 2: 96, 14 × 2: 93, 7 × 4: 80; 12 × 1: 84, 14 × 1: 67.
_MANY = {ONE: 12, TWO: 7, THREE: 7, ONE_AND_A_HALF: 8}
_FEW = {ONE: 12, TWO: 6, THREE: 4, ONE_AND_A_HALF: 6}
ROWS = _MANY if host_target().registers == 32 else _FEW
ROWS_1, ROWS_2, ROWS_3, ROWS_4 = ROWS.values()


class Sum(NamedTuple):
    """One register of sums: the pixels that it belongs to (two halves if there are two) and its vector of channels."""

    pixels: tuple[int, ...]
    vector: int


def _sums(kind: int) -> list[Sum]:
    rows = ROWS[kind]
    if kind != ONE_AND_A_HALF:
        return [Sum((pixel,), vector) for pixel in range(rows) for vector in range(kind)]
    whole = [Sum((pixel,), 0) for pixel in range(rows)]
    return whole + [Sum((pixel, pixel + 1), 1) for pixel in range(0, rows, 2)]


def make_tile(kind: int) -> Any:
    """Return an intrinsic that computes one tile.

    Its arguments, all addresses, steps and jumps in bytes:

    a, a_step, a_jump
        Input of the first pixel, the way to the next one, and what is added to it at the end of an image row.
    segments, segment_step, length
        The inputs of one pixel: so many pieces, so far apart, of so many floats. A pointwise convolution has one
        segment; a 3×3 convolution has three, since the pixels of an image row lie side by side.
    weights, bias, residual
        `residual` is added before the clip and has the layout of the output; 0 for none.
    c, c_step, c_jump
        Output, walked like the input.
    x, width, valid
        Column of the first pixel, columns of the image, and how many of the pixels exist (at least one): the rest of
        the tile repeats the last of them, which costs time only.
    low, high
        Clip range.
    ahead, ahead_step
        Memory to be fetched into the cache meanwhile: a place, and the way to the next one with every turn of the loop.
    """
    sums = _sums(kind)

    @intrinsic
    def tile(
        typing, a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
        x, width, valid, low, high, ahead, ahead_step
    ):  # fmt: skip
        integer = types.int64
        signature = types.void(*[integer] * 15, types.float32, types.float32, integer, integer)

        def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
            (a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
             x, width, valid, low, high, ahead, ahead_step) = arguments  # fmt: skip
            emit = Emitter(builder, LANES)
            inputs, outputs = _walk(builder, ROWS[kind], (a, a_step, a_jump), (c, c_step, c_jump), x, width, valid)
            start = emit.load_all(bias, _vectors(sums))
            values = [start[total.vector] for total in sums]
            piece = (segments, segment_step, length)
            values = _multiply(emit, sums, inputs, piece, weights, values, (ahead, ahead_step))
            values = _add_residual(emit, sums, residual, builder.sub(residual, c), outputs, values)
            low, high = emit.splat(low), emit.splat(high)
            for total, value in zip(sums, values):
                places = [outputs[pixel] for pixel in total.pixels]
                store = emit.store if len(places) == 1 else emit.store_halves
                store(emit.clip(value, low, high), *places, total.vector)
            return context.get_dummy_value()

        return signature, codegen

    return tile


def _vectors(sums: list[Sum]) -> int:
    return max(total.vector for total in sums) + 1


def _walk(
    builder: ir.IRBuilder, rows: int, source: tuple[Any, ...], target: tuple[Any, ...], x: Any, width: Any, valid: Any
) -> tuple[list[Any], list[Any]]:
    """Addresses of the tile's pixels in the input and in the output."""
    zero = INT64(0)
    inputs, outputs = [source[0]], [target[0]]
    for pixel in range(1, rows):
        x = builder.add(x, INT64(1))
        wraps = builder.icmp_signed("==", x, width)
        x = builder.select(wraps, zero, x)
        exists = builder.icmp_signed("<", INT64(pixel), valid)
        for addresses, (_, step, jump) in ((inputs, source), (outputs, target)):
            way = builder.add(step, builder.select(wraps, jump, zero))
            addresses.append(builder.add(addresses[-1], builder.select(exists, way, zero)))
    return inputs, outputs


def _multiply(
    emit: Emitter, sums: list[Sum], inputs: list[Any], piece: tuple[Any, ...], weights: Any, values: list[Any],
    ahead: tuple[Any, Any],
) -> list[Any]:  # fmt: skip
    """Add all products to the values of the sums, segment by segment and channel by channel."""
    builder = emit.builder
    segments, segment_step, length = piece
    stop = builder.mul(length, INT64(FLOAT_BYTES))
    mask = emit.lower_half() if any(len(total.pixels) == 2 for total in sums) else None
    outer = Loop(builder, [INT64(0), INT64(0), ahead[0], weights, *values])
    segment, offset, soon, weights, *values = outer.values
    inner = Loop(builder, [INT64(0), soon, weights, *values])
    at, soon, weights, *values = inner.values
    if _vectors(sums) > 1:  # a tile of one vector is limited by its loads, and its weights are few
        emit.prefetch(soon)
    row = emit.load_all(weights, _vectors(sums))
    place = builder.add(offset, at)
    pixels = [emit.broadcast(builder.add(address, place)) for address in inputs]
    following = []
    for total, value in zip(sums, values):
        operand = pixels[total.pixels[0]]
        if len(total.pixels) == 2:
            operand = emit.blend(mask, operand, pixels[total.pixels[1]])
        following.append(emit.fma(operand, row[total.vector], value))
    at = builder.add(at, INT64(FLOAT_BYTES))
    soon = builder.add(soon, ahead[1])
    weights = builder.add(weights, INT64(_vectors(sums) * VECTOR))
    inner.repeat(builder.icmp_signed("<", at, stop), [at, soon, weights, *following])
    segment = builder.add(segment, INT64(1))
    offset = builder.add(offset, segment_step)
    outer.repeat(builder.icmp_signed("<", segment, segments), [segment, offset, *inner.values[1:]])
    return outer.values[4:]


def _add_residual(
    emit: Emitter, sums: list[Sum], residual: Any, distance: Any, outputs: list[Any], values: list[Any]
) -> list[Any]:
    """Add the residual, which lies at a distance from the output, where there is one."""
    builder = emit.builder
    before = builder.block
    add, after = builder.append_basic_block("residual"), builder.append_basic_block("store")
    builder.cbranch(builder.icmp_signed("!=", residual, INT64(0)), add, after)
    builder.position_at_end(add)
    added = []
    for total, value in zip(sums, values):
        places = [builder.add(outputs[pixel], distance) for pixel in total.pixels]
        load = emit.load if len(places) == 1 else emit.load_halves
        added.append(builder.fadd(value, load(*places, total.vector)))
    builder.branch(after)
    builder.position_at_end(after)
    phis = [builder.phi(emit.type) for _ in values]
    for phi, old, new in zip(phis, values, added):
        phi.add_incoming(old, before)
        phi.add_incoming(new, add)
    return phis


@njit(cached=False)
def panels(vectors):
    """Panels that so many vectors of output channels are cut into."""
    return max(1, vectors // 2)


@njit(cached=False)
def panel_vectors(panel, vectors):
    """Vectors in a panel: two, and in the last one what is left."""
    return 2 if panel + 1 < panels(vectors) else vectors - 2 * panel


@njit(cached=False)
def tile_kind(panel, vectors, half):
    """Kind of tile for a panel; `half` tells that the last of all vectors is filled to its half only."""
    if half and panel + 1 == panels(vectors):
        return ONE_AND_A_HALF
    return panel_vectors(panel, vectors)


def make_multiply(kind: int) -> Any:
    """Return a compiled function that computes one panel for all pixels by tiles of one kind.

    Its arguments are those of a tile, but for `pixels`, which are all in place of those of one tile.
    """
    tile, rows = make_tile(kind), ROWS[kind]
    line = (2 if kind == ONE_AND_A_HALF else kind) * VECTOR

    @njit(cached=False, variant=str(kind))
    def multiply(
        a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
        pixels, width, low, high
    ):  # fmt: skip
        # While this panel is in use, the next one is fetched, a piece with every turn of every tile.
        ahead, ahead_step = weights + segments * length * line, (line * rows + pixels - 1) // pixels
        # Where there is no residual, the tile must find 0 at every pixel.
        distance = residual - c if residual != 0 else 0
        x = 0
        for first in range(0, pixels, rows):
            other = c + distance if distance != 0 else 0
            tile(a, a_step, a_jump, segments, segment_step, length, weights, bias, other, c, c_step, c_jump,
                 x, width, min(rows, pixels - first), low, high, ahead, ahead_step)  # fmt: skip
            x += rows
            a, c = a + rows * a_step, c + rows * c_step
            while x >= width:
                x, a, c = x - width, a + a_jump, c + c_jump
            ahead += segments * length * ahead_step

    return multiply


_multiply_1, _multiply_2, _multiply_3, _multiply_4 = (make_multiply(kind) for kind in ROWS)


@njit(cached=False)
def multiply(
    a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
    pixels, width, kind, low, high
):  # fmt: skip
    """Compute one panel for all `pixels` by tiles of one kind; the arguments are those of a tile."""
    if kind == TWO:
        _multiply_2(a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
                    pixels, width, low, high)  # fmt: skip
    elif kind == THREE:
        _multiply_3(a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
                    pixels, width, low, high)  # fmt: skip
    elif kind == ONE:
        _multiply_1(a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
                    pixels, width, low, high)  # fmt: skip
    else:
        _multiply_4(a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
                    pixels, width, low, high)  # fmt: skip


@njit(cached=False)
def run_pointwise(step, bases, worker, workers):
    """Multiply all pixels by all weights; workers share the grid of panels × tiles."""
    pixels = step.height * step.width
    rows = ROWS_2 if step.vectors > 1 else ROWS_1
    tiles = (pixels + rows - 1) // rows
    first, last = share(tiles * panels(step.vectors), worker, workers)
    residual = address(bases, step.residual) if step.residual >= 0 else ZERO64
    source, target = address(bases, step.source), address(bases, step.target)
    while first < last:
        panel = first // tiles
        tile = first - panel * tiles
        stop = min(tiles, tile + last - first)
        start = tile * rows
        at = panel * 2 * VECTOR
        c = target + start * step.target_step + at
        multiply(
            source + start * step.source_step, step.source_step, ZERO64, ONE64, ZERO64, step.channels,
            address(bases, step.weights) + at * step.channels, address(bases, step.bias) + at,
            residual + (c - target) if residual != 0 else ZERO64, c, step.target_step, ZERO64,
            min(stop * rows, pixels) - start, pixels, tile_kind(panel, step.vectors, step.half), step.low, step.high,
        )  # fmt: skip
        first += stop - tile
