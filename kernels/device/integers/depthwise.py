"""Depthwise 3×3 convolution of rows of bytes: what `device.depthwise` is for floats.

A panel is four vectors of channels. The bytes of four rows are interleaved, so that a word is a column of four inputs
of one channel; three of them lie under a window. Without stride all four serve two output rows at once, by weights for
the upper and for the lower three; and every column is added to three windows while it is in registers. With a dilation
of d these rows lie d apart, and d passes along them take every d-th column each.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from ...host import steps
from ...host.integer_packing import COLUMNS, MAX_PARTS, OUTPUT_ROWS, PANEL_VECTORS
from ...host.target import IntegerTarget
from ..addressing import address
from ..inverted_residual import row_of
from ..jit import njit
from ..machine import positive
from ..simd import BYTE, INT64, Loop, load_integer
from .rescale import Rescaler
from .simd import IntegerEmitter, integers_emitted


class FourRows(NamedTuple):
    """Addresses of rows of a ring, from the column under the first tap on; for most only three count."""

    first: int
    second: int
    third: int
    fourth: int


class Filter(NamedTuple):
    """What a panel is filtered with: addresses of weights, bias, scales, and numbers to finish with."""

    weights: int
    bias: int
    scales: int
    numbers: int


class Destination(NamedTuple):
    """Where results go: addresses of two output rows, bytes per pixel, and from the lower to the upper half of a panel.

    A pixel may have no upper half: it is then written to where the lower half overwrites it.
    """

    first: int
    second: int
    pixel_stride: int
    upper: int


class _Row:
    """Writes instructions for one kind of row.

    An emitter of half vectors computes the first half of a panel.

    Parameters
    ----------
    emit : IntegerEmitter
    target : IntegerTarget
    filters : Filter
    parts : int
        Numbers of eight bits that each weight is the sum of.
    """

    def __init__(self, emit: IntegerEmitter, target: IntegerTarget, filters: Filter, parts: int) -> None:
        self._emit, self._filters, self._parts = emit, filters, parts
        self._rescale = Rescaler(emit, target)
        self.bias = [emit.load_integers(filters.bias, vector) for vector in range(PANEL_VECTORS)]

    def words(self, rows: Sequence[Any], offset: Any) -> list[Any]:
        """Four vectors of words: one column of up to four rows."""
        emit, count = self._emit, PANEL_VECTORS * self._emit.lanes
        zeros = ir.Constant(ir.VectorType(BYTE, count), [0] * count)
        loaded = [emit.load_raw(emit.builder.add(row, offset), count) for row in rows]
        loaded += [zeros] * (4 - len(loaded))
        upper, lower = (self._interleave(*loaded[first : first + 2], 1) for first in (0, 2))
        halves = [self._interleave(upper[i], lower[i], 2) for i in range(2)]
        return [emit.builder.bitcast(word, emit.integers) for half in halves for word in half]

    def _interleave(self, a: Any, b: Any, size: int) -> list[Any]:
        """Pieces of `size` bytes of two vectors in turn, for the first and second half of every 16 bytes."""
        count = PANEL_VECTORS * self._emit.lanes
        orders: list[list[int]] = [[], []]
        for start in range(0, count, 16):
            for half in range(2):
                for piece in range(start + 8 * half, start + 8 * half + 8, size):
                    orders[half] += [*range(piece, piece + size), *range(count + piece, count + piece + size)]
        return [self._emit.shuffle(a, b, order) for order in orders]

    def add(self, totals: list[Any], words: list[Any], column: int) -> list[Any]:
        """Add the products of a column to four vectors of sums."""
        return [self.add_to(total, word, column, vector) for vector, (total, word) in enumerate(zip(totals, words))]

    def add_to(self, total: Any, word: Any, column: int, vector: int, row: int = 0) -> Any:
        """Add the products of a vector of a column to sums; `row` 1 is the lower of two output rows."""
        for part in range(self._parts):
            index = ((part * COLUMNS + column) * OUTPUT_ROWS + row) * PANEL_VECTORS + vector
            total = self._emit.dot(total, word, self._emit.load_factors(self._filters.weights, index))
        return total

    def bring_back(self, total: Any, vector: int) -> Any:
        """Rescale a vector of sums."""
        return self._rescale(total, self._rescale.load(self._filters.scales, vector))

    def store(self, results: Sequence[tuple[Sequence[Any], Any]], upper: Any) -> None:
        """Store rescaled sums as bytes: four vectors for each address."""
        emit, numbers = self._emit, self._filters.numbers
        zero, low, high = (emit.load_number(numbers, index) for index in (steps.ZERO, steps.LOW, steps.HIGH))

        def store(zero: Any | None, limits: tuple[Any, ...]) -> None:
            for values, to in results:
                packed, half = emit.pack(values, zero, limits), 2 * emit.lanes
                emit.store_raw(emit.shuffle(packed, packed, range(half, 2 * half)), emit.builder.add(to, upper))
                emit.store_raw(emit.shuffle(packed, packed, range(half)), to)

        emit.for_range(zero, low, high, store)


def make_two_rows(target: IntegerTarget, parts: int, halved: bool) -> Any:
    """Return a function that filters one panel along two output rows.

    It is called as ``two_rows(rows: FourRows, tap, filters: Filter, output: Destination, count)``, where windows lie
    one tap apart.
    """

    @integers_emitted(target.processor.halved if halved else target.processor, target.processor)
    def two_rows(emit, rows, tap, filters, output, count):
        builder, row = emit.builder, _Row(emit, target, filters, parts)

        def add(windows, words, vector):
            """Add a vector of a column to the sums of both rows of every window over it, of which one begins."""
            windows = [*windows, [row.bias[vector]] * OUTPUT_ROWS]
            return [
                [row.add_to(total, words[vector], column, vector, i) for i, total in enumerate(window)]
                for column, window in zip(reversed(range(len(windows))), windows)
            ]

        columns = [row.words(rows, offset) for offset in (INT64(0), tap)]
        begun = [add(add([], columns[0], vector), columns[1], vector) for vector in range(PANEL_VECTORS)]
        third = builder.mul(tap, INT64(2))
        loop = Loop(builder, [INT64(0), third, output.first, output.second, *itertools.chain(*itertools.chain(*begun))])
        x, at, first, second, *totals = loop.values
        pairs = list(zip(totals[::OUTPUT_ROWS], totals[1::OUTPUT_ROWS]))
        begun = [pairs[first : first + COLUMNS - 1] for first in range(0, len(pairs), COLUMNS - 1)]
        words, values = row.words(rows, at), []
        # Vector by vector: what is finished leaves its registers to the next one, and scales are loaded once.
        for vector in range(PANEL_VECTORS):
            done, *begun[vector] = add(begun[vector], words, vector)
            values.append([row.bring_back(total, vector) for total in done])
        upper, lower = zip(*values)
        row.store([(lower, second), (upper, first)], output.upper)
        x, at = builder.add(x, INT64(1)), builder.add(at, tap)
        first, second = (builder.add(to, output.pixel_stride) for to in (first, second))
        loop.repeat(
            builder.icmp_signed("<", x, count), [x, at, first, second, *itertools.chain(*itertools.chain(*begun))]
        )

    return two_rows


def make_one_row(target: IntegerTarget, parts: int, halved: bool) -> Any:
    """Return a function that filters one panel along one output row, of stride 2 without dilation.

    It is called as ``one_row(rows: FourRows, pixel, filters: Filter, output: Destination, count)``.
    """

    @integers_emitted(target.processor.halved if halved else target.processor, target.processor)
    def one_row(emit, rows, pixel, filters, output, count):
        builder, row = emit.builder, _Row(emit, target, filters, parts)
        # The third column of a window is the first of the next one.
        shared = row.add(row.bias, row.words(rows[:3], INT64(0)), 0)
        loop = Loop(builder, [INT64(0), pixel, output.first, *shared])
        x, at, to, *totals = loop.values
        totals = row.add(totals, row.words(rows[:3], at), 1)
        words = row.words(rows[:3], builder.add(at, pixel))
        done = row.add(totals, words, 2)
        row.store([([row.bring_back(total, vector) for vector, total in enumerate(done)], to)], output.upper)
        following = row.add(row.bias, words, 0)
        window = builder.mul(pixel, INT64(2))
        x, at, to = (builder.add(a, b) for a, b in ((x, INT64(1)), (at, window), (to, output.pixel_stride)))
        loop.repeat(builder.icmp_signed("<", x, count), [x, at, to, *following])

    return one_row


@functools.cache
def make_filter_bytes(target: IntegerTarget, parts: int, halved: bool) -> Any:
    """Return the function that filters one or two rows of a panel, or of the first half of a panel.

    It is called as ``filter_bytes(depthwise, rows: FourRows, pixel, filters: Filter, output: Destination, count)``,
    where the first is a group of a step.
    """
    two_rows, one_row = make_two_rows(target, parts, halved), make_one_row(target, parts, halved)

    @njit(cached=False, variant=f"{target.name}-{parts}-{halved}")
    def filter_bytes(depthwise, rows, pixel, filters, output, count):
        stride, dilation = depthwise.stride, depthwise.dilation
        if stride == 2 and dilation == 1:
            one_row(rows, pixel, filters, output, count)
        else:
            # Windows one tap apart share columns. With a stride, which is rare here, each is a pass of its own.
            passes = dilation if stride == 1 else count
            for first in range(min(passes, count)):
                at, to = first * stride * pixel, first * output.pixel_stride
                columns = FourRows(rows.first + at, rows.second + at, rows.third + at, rows.fourth + at)
                results = Destination(output.first + to, output.second + to, passes * output.pixel_stride, output.upper)
                windows = (count - first + passes - 1) // positive(passes)
                two_rows(columns, dilation * pixel, filters, results, windows)

    return filter_bytes


@functools.cache
def make_filter_panel(target: IntegerTarget, halved: bool) -> Any:
    """Return the function that filters one or two rows of a panel of any number of parts.

    It is called as that of `make_filter_bytes`, with the number of parts before.
    """
    whole = make_filter_bytes(target, 1, halved)
    split = make_filter_bytes(target, MAX_PARTS, halved) if target.processor.multiplies_bytes else whole

    @njit(cached=False, inline=True, variant=f"{target.name}-{halved}")
    def filter_panel(parts, depthwise, rows, pixel, filters, output, count):
        if parts == 1:
            whole(depthwise, rows, pixel, filters, output, count)
        else:
            split(depthwise, rows, pixel, filters, output, count)

    return filter_panel


@functools.cache
def make_filter_rows(target: IntegerTarget) -> Any:
    """Return the function that computes rows of the depthwise convolution for one panel, see `Walk`."""
    processor = target.processor
    whole = make_filter_panel(target, False)
    half = whole if processor.halved == processor else make_filter_panel(target, True)
    halves = 1 if half is whole else 2
    panel_bytes, sums_bytes = PANEL_VECTORS * processor.lanes, PANEL_VECTORS * processor.vector_bytes
    scale_bytes = sums_bytes * target.scale_vectors
    weight_bytes = MAX_PARTS * COLUMNS * OUTPUT_ROWS * PANEL_VECTORS * processor.factor_bytes

    @njit(cached=False, variant=target.name)
    def filter_rows(step, bases, block, first, rows, output):
        depthwise, stride, panel = step.depthwise, step.tiling.filtered_stride, block.panel
        parts = load_integer(address(bases, depthwise.parts) + 8 * panel)
        filters = Filter(
            address(bases, depthwise.weights) + panel * weight_bytes,
            address(bases, depthwise.bias) + panel * sums_bytes,
            address(bases, depthwise.scales) + panel * scale_bytes,
            address(bases, depthwise.finish),
        )
        # A panel that is filled to its half lies in the first halves of its vectors.
        divisor = halves if 2 * (step.product.vectors - panel * PANEL_VECTORS) <= PANEL_VECTORS else 1
        size = panel_bytes // divisor
        upper = size // 2 if panel * panel_bytes + size <= stride else 0
        together, dilation = depthwise.stride == 1, depthwise.dilation
        row_stride, y, last = step.output.width * stride, first, first + rows
        while y < last:
            # Rows that are filtered together lie one tap apart: 0 and 2, 1 and 3, 4 and 6, … at a dilation of 2.
            other = dilation if together and y + dilation < last else 0
            top, to = y * depthwise.stride - depthwise.top, output + (y - first) * row_stride
            window = FourRows(
                row_of(step, bases, block, top),
                row_of(step, bases, block, top + dilation),
                row_of(step, bases, block, top + 2 * dilation),
                row_of(step, bases, block, top + 2 * dilation + other),
            )
            results = Destination(to, to + other * row_stride, stride, upper)
            if divisor == 1:
                whole(parts, depthwise, window, block.pixel, filters, results, block.columns)
            else:
                half(parts, depthwise, window, block.pixel, filters, results, block.columns)
            y += 1
            if together and (y - first) % (2 * dilation) == dilation:
                y += dilation

    return filter_rows
