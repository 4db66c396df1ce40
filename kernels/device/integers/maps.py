"""What joins and changes whole maps of bytes: sums, means, resizes, tables of results, and real numbers as bytes."""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir

from ...host import steps
from ...host.target import FLOAT_BYTES, IntegerTarget
from ..addressing import View, address, share
from ..jit import njit
from ..resize import WEIGHT, make_mixed_rows
from ..simd import BYTE, INT32, INT64, Loop, intrinsic_void
from .rescale import Rescaler
from .simd import IntegerEmitter, integers_emitted

# Bits of the weights of XNNPACK's resize.
_WEIGHT_BITS = 11
# Bits that hold the number of a channel.
_NUMBER_BITS = 20


@functools.cache
def make_run_add(target: IntegerTarget) -> Any:
    """Return the function that adds two maps of one layout; workers share the vectors."""
    size = 2 * target.processor.lanes

    @integers_emitted(target.processor)
    def add(emit, a, b, numbers, output):
        rescale = Rescaler(emit, target)
        pairs = zip(*(emit.join_pixels(emit.load_raw(address, size)) for address in (a, b)))
        sums = [rescale.add(x, y, numbers) for x, y in pairs]
        zero, *limits = (emit.load_number(numbers, i) for i in (steps.SUM_ZERO, steps.SUM_LOW, steps.SUM_HIGH))
        emit.store_raw(emit.split_pixels(emit.pack([*sums, *sums], zero, limits))[0], output)

    @njit(cached=False, variant=target.name)
    def run_add(step, bases, worker, workers):
        source, other = address(bases, step.input.ref), address(bases, step.residual)
        output, numbers = address(bases, step.output.ref), address(bases, step.product.finish)
        pieces = step.output.height * step.output.width * step.output.pixel_stride // size
        first, last = share(pieces, worker, workers)
        for offset in range(first * size, last * size, size):
            add(source + offset, other + offset, numbers, output + offset)

    return run_add


@functools.cache
def make_run_pool(target: IntegerTarget) -> Any:
    """Return the function that averages over windows of pool.height × pool.width; workers share the channels."""
    lanes = target.processor.lanes

    @integers_emitted(target.processor)
    def mean(emit, window, rows, columns, pool, output):
        """Average one vector of channels over a window."""
        builder, one = emit.builder, INT64(1)
        outer = Loop(builder, [INT64(0), window.address, emit.constant(0)])
        row, *state = outer.values
        inner = Loop(builder, [INT64(0), *state])
        column, source, total = inner.values
        total = builder.add(total, emit.load_bytes(source))
        column, source = builder.add(column, one), builder.add(source, window.pixel_stride)
        inner.repeat(builder.icmp_signed("<", column, columns), [column, source, total])
        _, source, total = inner.values
        row, source = builder.add(row, one), builder.add(source, window.row_jump)
        outer.repeat(builder.icmp_signed("<", row, rows), [row, source, total])
        averages = _average(emit, target, outer.values[2], pool)
        emit.store_bytes(averages, output)

    @njit(cached=False, variant=target.name)
    def run_pool(step, bases, worker, workers):
        pool, pixel, row = step.pool, step.input.pixel_stride, step.input.width * step.input.pixel_stride
        source, output = address(bases, step.input.ref), address(bases, step.output.ref)
        jump, numbers = row - pool.width * pixel, address(bases, step.product.finish)
        first, last = share(step.product.vectors, worker, workers)
        for y in range(step.output.height):
            for x in range(step.output.width):
                corner = source + y * pool.stride * row + x * pool.stride * pixel
                to = output + (y * step.output.width + x) * step.output.pixel_stride
                for offset in range(first * lanes, last * lanes, lanes):
                    mean(View(corner + offset, pixel, jump), pool.height, pool.width, numbers, to + offset)

    return run_pool


def _average(emit: IntegerEmitter, target: IntegerTarget, total: Any, numbers: Any) -> Any:
    """Sums of bytes as bytes: both ways of rounding, of which a number tells the one to take."""
    builder = emit.builder

    def number(index: int) -> Any:
        return emit.broadcast_integer(numbers, index)

    centered = builder.sub(total, number(steps.POOL_OFFSET))
    # Halves away from zero, by a division that rounds toward zero; all pooled integers have one sign bit.
    half = number(steps.POOL_HALF)
    away = builder.select(
        builder.icmp_signed(">", centered, emit.constant(0)), builder.add(centered, half), builder.sub(centered, half)
    )
    divided = builder.sdiv(away, number(steps.POOL_COUNT))
    rescale = Rescaler(emit, target)
    if target.arithmetic == "xnnpack":
        factor = emit.broadcast(builder.add(numbers, INT64(4 * steps.POOL_FACTOR)))
        bias = emit.broadcast(builder.add(numbers, INT64(4 * steps.POOL_BIAS)))
        scaled = builder.fadd(builder.fmul(builder.sitofp(centered, emit.type), factor), bias)
        limits = [emit.broadcast(builder.add(numbers, INT64(4 * index))) for index in (steps.POOL_LOW, steps.POOL_HIGH)]
        scaled = emit.round(emit.clip(scaled, *limits))
    else:
        scaled = rescale(centered, tuple(number(steps.POOL_FACTOR + i) for i in range(3)))
    is_mean = builder.icmp_signed("!=", number(steps.POOL_MEAN), emit.constant(0))
    moved = builder.add(builder.select(is_mean, scaled, divided), number(steps.ZERO))
    return emit.limit(moved, number(steps.LOW), number(steps.HIGH))


@functools.cache
def make_run_resize(target: IntegerTarget) -> Any:
    """Return the function that resizes a map as XNNPACK does; workers share its rows."""
    lanes = target.processor.lanes

    @integers_emitted(target.processor)
    def mix(emit, corners, offset, column, row, output):
        """Mix one vector of four pixels by the samples at two addresses: along the columns, then along the rows."""
        builder, bits = emit.builder, emit.constant(_WEIGHT_BITS)

        def weight(sample):
            pointer = builder.inttoptr(builder.add(sample, INT64(WEIGHT)), ir.DoubleType().as_pointer())
            return emit.splat_integer(builder.fptosi(builder.load(pointer, align=8), INT32))

        def lerp(lower, upper, share):
            return builder.add(builder.shl(lower, bits), builder.mul(builder.sub(upper, lower), share))

        across, down = weight(column), weight(row)
        values = [emit.load_bytes(builder.add(corner, offset)) for corner in corners]
        above, below = lerp(values[0], values[1], across), lerp(values[2], values[3], across)
        mixed = builder.add(lerp(above, below, down), emit.constant(1 << (2 * _WEIGHT_BITS - 1)))
        emit.store_bytes(builder.ashr(mixed, emit.constant(2 * _WEIGHT_BITS)), builder.add(output, offset))

    return make_mixed_rows(mix, lanes, target.name)


@intrinsic_void(3)
def look_up(builder, table, source, output):
    """Replace one byte by what a table has for it."""
    index = builder.zext(builder.load(builder.inttoptr(source, BYTE.as_pointer())), INT64)
    found = builder.load(builder.inttoptr(builder.add(table, index), BYTE.as_pointer()))
    builder.store(found, builder.inttoptr(output, BYTE.as_pointer()))


@njit(cached=False)
def run_lookup(step, bases, worker, workers):
    """Replace every byte of a map, pixels filled up to vectors included; workers share the pixels."""
    first, last = share(step.input.height * step.input.width, worker, workers)
    source, output = address(bases, step.input.ref), address(bases, step.output.ref)
    table, pixel = address(bases, step.tables.columns), step.input.pixel_stride
    for offset in range(first * pixel, last * pixel):
        look_up(table, source + offset, output + offset)


@functools.cache
def make_run_argmax(target: IntegerTarget) -> Any:
    """Return the function that finds the largest channel of every pixel, the first of equals; workers share pixels."""
    lanes = target.processor.lanes

    @integers_emitted(target.processor)
    def largest(emit, source, channels, output):
        """Store the number of the largest channel of a pixel, whose vectors are filled up with anything."""
        builder = emit.builder
        every = ir.Constant(emit.integers, list(range(lanes)))
        loop = Loop(builder, [INT64(0), emit.constant(-1)])
        at, best = loop.values
        numbers = builder.add(every, emit.splat_integer(builder.trunc(at, INT32)))
        # The byte above, the number below and turned round: of equals the first is the largest.
        keys = builder.shl(emit.load_bytes(builder.add(source, at)), emit.constant(_NUMBER_BITS))
        keys = builder.or_(keys, builder.sub(emit.constant((1 << _NUMBER_BITS) - 1), numbers))
        inside = builder.icmp_signed("<", numbers, emit.splat_integer(builder.trunc(channels, INT32)))
        keys = builder.select(inside, keys, emit.constant(-1))
        best = builder.select(builder.icmp_signed(">", keys, best), keys, best)
        at = builder.add(at, INT64(lanes))
        loop.repeat(builder.icmp_signed("<", at, channels), [at, best])
        key = builder.and_(emit.largest_lane(loop.values[1]), INT32((1 << _NUMBER_BITS) - 1))
        found = builder.zext(builder.sub(INT32((1 << _NUMBER_BITS) - 1), key), INT64)
        builder.store(found, builder.inttoptr(output, INT64.as_pointer()), align=8)

    @njit(cached=False, variant=target.name)
    def run_argmax(step, bases, worker, workers):
        source, output = address(bases, step.input.ref), address(bases, step.output.ref)
        first, last = share(step.input.height * step.input.width, worker, workers)
        for pixel in range(first, last):
            largest(source + pixel * step.input.pixel_stride, step.input.channels, output + 8 * pixel)

    return run_argmax


@functools.cache
def make_run_quantize(target: IntegerTarget) -> Any:
    """Return the function that makes bytes of the real numbers of an image; workers share the rows."""
    lanes = target.processor.lanes

    @integers_emitted(target.processor)
    def quantize(emit, source, numbers, output):
        """Make bytes of one vector of numbers."""
        steps_of = _steps_of(emit, target, emit.load(source), numbers)
        emit.store_bytes(emit.builder.add(steps_of, emit.broadcast_integer(numbers, steps.ZERO)), output)

    @njit(cached=False, variant=target.name)
    def run_quantize(step, bases, worker, workers):
        source, output = address(bases, step.input.ref), address(bases, step.output.ref)
        numbers = address(bases, step.product.finish)
        count = step.input.height * step.input.width * step.input.channels
        first, last = share(count // lanes, worker, workers)
        for at in range(first * lanes, last * lanes, lanes):
            quantize(source + at * FLOAT_BYTES, numbers, output + at)
        if worker == 0 and count % lanes != 0:  # the last numbers overlap with those before them
            quantize(source + (count - lanes) * FLOAT_BYTES, numbers, output + count - lanes)

    return run_quantize


def _steps_of(emit: IntegerEmitter, target: IntegerTarget, value: Any, numbers: Any) -> Any:
    """Numbers in whole steps of a scale, before the zero point: limited, and rounded as the arithmetic does."""
    builder = emit.builder
    factor, low, high = (
        emit.broadcast(builder.add(numbers, INT64(4 * index)))
        for index in (steps.POOL_FACTOR, steps.POOL_LOW, steps.POOL_HIGH)
    )
    if target.arithmetic == "xnnpack":
        return emit.round(emit.clip(builder.fmul(value, factor), low, high))
    ratio = emit.clip(builder.fdiv(value, factor), low, high)
    whole = builder.fptosi(ratio, emit.integers)
    rest = builder.fsub(ratio, builder.sitofp(whole, emit.type))
    half = ir.Constant(emit.type, [0.5] * emit.lanes)
    up = builder.zext(builder.fcmp_ordered(">=", rest, half), emit.integers)
    down = builder.zext(builder.fcmp_ordered("<=", rest, builder.fneg(half)), emit.integers)
    return builder.sub(builder.add(whole, up), down)
