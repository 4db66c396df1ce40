"""Matrix products of pixels and weights: pointwise convolution, and the core of every full convolution and dense layer.

The unit of work is a *tile*: a few pixels times a few vectors of output channels, all of whose sums stay in registers
while the loop runs over the input channels. Per turn it loads the weights of its vectors once and one float per pixel,
and does pixels × vectors multiply-adds; that is how the FMA units and not the loads become the limit.

Weights are packed into *panels* so that a tile reads them in one straight line (see `packing`). A product with an odd
number of vectors ends with a panel of three vectors, or of one if that is all.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import njit
from .simd import FLOAT_BYTES, INT64, Emitter, Loop, vectors
from .steps import address, share

LANES = vectors().lanes
VECTOR = LANES * FLOAT_BYTES
# Pixels per tile by vectors of channels. Sums, weights and one input must fit in the registers, at least eight sums must
# be in flight to hide the latency of an FMA, and 7 divides the widths 112, 56, 28, 14 and 7 of the usual image.
# Measured on Zen 5 (AVX-512): 7 × 2 and 7 × 3 run at 95-98 % of peak, 12 × 2 no better, 14 × 1 at 70-80 %.
ROWS = {1: 14, 2: 7, 3: 7} if vectors().registers == 32 else {1: 12, 2: 6, 3: 4}
ROWS_1, ROWS_2, ROWS_3 = ROWS[1], ROWS[2], ROWS[3]


def make_tile(rows: int, count: int) -> Any:
    """Return an intrinsic that computes `rows` pixels × `count` vectors of output channels.

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
        Column of the first pixel, columns of the image, and how many of the pixels exist (at least one): the rest of the
        tile repeats the last of them, which costs time only.
    low, high
        Clip range.
    """

    @intrinsic
    def tile(
        typing, a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
        x, width, valid, low, high
    ):  # fmt: skip
        integer = types.int64
        signature = types.void(*[integer] * 15, types.float32, types.float32)

        def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
            (a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
             x, width, valid, low, high) = arguments  # fmt: skip
            emit = Emitter(builder, LANES)
            inputs, outputs = _walk(builder, rows, (a, a_step, a_jump), (c, c_step, c_jump), x, width, valid)
            sums = emit.load_all(bias, count) * rows
            sums = _multiply(emit, inputs, (segments, segment_step, length), weights, sums)
            sums = _add_residual(emit, builder.sub(residual, c), residual, outputs, sums)
            low, high = emit.splat(low), emit.splat(high)
            for pixel, output in enumerate(outputs):
                for vector in range(count):
                    emit.store(emit.clip(sums[pixel * count + vector], low, high), output, vector)
            return context.get_dummy_value()

        return signature, codegen

    return tile


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


def _multiply(emit: Emitter, inputs: list[Any], piece: tuple[Any, ...], weights: Any, sums: list[Any]) -> list[Any]:
    """Add all products to the sums, segment by segment and channel by channel."""
    builder = emit.builder
    count = len(sums) // len(inputs)
    segments, segment_step, length = piece
    stop = builder.mul(length, INT64(FLOAT_BYTES))
    outer = Loop(builder, [INT64(0), INT64(0), weights, *sums])
    segment, offset, weights, *sums = outer.values
    inner = Loop(builder, [INT64(0), weights, *sums])
    at, weights, *sums = inner.values
    row = emit.load_all(weights, count)
    place = builder.add(offset, at)
    following = []
    for pixel, address in enumerate(inputs):
        value = emit.broadcast(builder.add(address, place))
        following += [emit.fma(value, row[i], sums[pixel * count + i]) for i in range(count)]
    at = builder.add(at, INT64(FLOAT_BYTES))
    weights = builder.add(weights, INT64(count * VECTOR))
    inner.repeat(builder.icmp_signed("<", at, stop), [at, weights, *following])
    segment = builder.add(segment, INT64(1))
    offset = builder.add(offset, segment_step)
    outer.repeat(builder.icmp_signed("<", segment, segments), [segment, offset, *inner.values[1:]])
    return outer.values[3:]


def _add_residual(emit: Emitter, distance: Any, residual: Any, outputs: list[Any], sums: list[Any]) -> list[Any]:
    """Add the residual where there is one."""
    builder = emit.builder
    count = len(sums) // len(outputs)
    before = builder.block
    add, after = builder.append_basic_block("residual"), builder.append_basic_block("store")
    builder.cbranch(builder.icmp_signed("!=", residual, INT64(0)), add, after)
    builder.position_at_end(add)
    added = []
    for pixel, output in enumerate(outputs):
        others = emit.load_all(builder.add(output, distance), count)
        added += [builder.fadd(sums[pixel * count + i], other) for i, other in enumerate(others)]
    builder.branch(after)
    builder.position_at_end(after)
    phis = [builder.phi(emit.type) for _ in sums]
    for phi, old, new in zip(phis, sums, added):
        phi.add_incoming(old, before)
        phi.add_incoming(new, add)
    return phis


_tile_1, _tile_2, _tile_3 = (make_tile(ROWS[count], count) for count in (1, 2, 3))


@njit(cached=False)
def panels(count):
    """Panels that `count` vectors of output channels are cut into."""
    return max(1, count // 2)


@njit(cached=False)
def panel_vectors(panel, count):
    """Vectors in a panel: two, and in the last one what is left."""
    return 2 if panel + 1 < panels(count) else count - 2 * panel


@njit(cached=False)
def multiply(
    a, a_step, a_jump, segments, segment_step, length, weights, bias, residual, c, c_step, c_jump,
    pixels, width, count, low, high
):  # fmt: skip
    """Compute one panel of `count` vectors for all `pixels`; the arguments are those of a tile."""
    rows = ROWS_1 if count == 1 else ROWS_2 if count == 2 else ROWS_3
    for first in range(0, pixels, rows):
        y = first // width
        x = first - y * width
        pa = a + first * a_step + y * a_jump
        pc = c + first * c_step + y * c_jump
        other = residual + (pc - c) if residual != 0 else 0
        valid = min(rows, pixels - first)
        if count == 2:
            _tile_2(pa, a_step, a_jump, segments, segment_step, length, weights, bias, other, pc, c_step, c_jump,
                    x, width, valid, low, high)  # fmt: skip
        elif count == 3:
            _tile_3(pa, a_step, a_jump, segments, segment_step, length, weights, bias, other, pc, c_step, c_jump,
                    x, width, valid, low, high)  # fmt: skip
        else:
            _tile_1(pa, a_step, a_jump, segments, segment_step, length, weights, bias, other, pc, c_step, c_jump,
                    x, width, valid, low, high)  # fmt: skip


@njit(cached=False)
def run_pointwise(step, bases, worker, workers):
    """Multiply all pixels by all weights; workers share the grid of panels × tiles."""
    pixels = step.height * step.width
    rows = ROWS_2 if step.vectors > 1 else ROWS_1
    tiles = (pixels + rows - 1) // rows
    first, last = share(tiles * panels(step.vectors), worker, workers)
    residual = address(bases, step.residual) if step.residual >= 0 else 0
    source, target = address(bases, step.source), address(bases, step.target)
    while first < last:
        panel = first // tiles
        tile = first - panel * tiles
        stop = min(tiles, tile + last - first)
        start = tile * rows
        at = panel * 2 * VECTOR
        c = target + start * step.target_step + at
        multiply(
            source + start * step.source_step, step.source_step, 0, 1, 0, step.channels,
            address(bases, step.weights) + at * step.channels, address(bases, step.bias) + at,
            residual + (c - target) if residual != 0 else 0, c, step.target_step, 0,
            min(stop * rows, pixels) - start, pixels, panel_vectors(panel, step.vectors), step.low, step.high,
        )  # fmt: skip
        first += stop - tile
