"""Makes the steps of a program: fills the records that `program.run` reads.

This is the only place that knows both the layers' terms (shapes, geometry, clip ranges) and the records' fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.kernels import NO_CLIP, Array, Clip, Geometry, Variant, linear_weights, output_size

from . import packing, steps
from .memory import Bytes, Constants, round_up
from .steps import SAMPLE, reference
from .target import FLOAT_BYTES, vectors

# The rows of a panel that are in use should stay near the first-level cache, a filtered strip in a part of the second.
# Measured on 48 KB + 1 MB: between 40 and 100 KB of rows, and 100 to 300 KB of strip, nothing changes by more than 1 %.
RING_BYTES = 64 * 1024
STRIP_BYTES = 192 * 1024
# Blocks of columns share the columns at their edges, so they should not be narrow.
NARROWEST_BLOCK = 28
# Vectors in the widest kind of panel.
WIDEST_PANEL = 3
# Output pixels per strip of a full convolution.
CONV_PIXELS = 256


def vector_bytes() -> int:
    """Bytes of one vector."""
    return vectors().lanes * FLOAT_BYTES


class Map(NamedTuple):
    """Where a feature map of one image lies.

    Attributes
    ----------
    place : int
        Reference to its first pixel.
    step : int
        Bytes from pixel to pixel.
    height, width, channels : int
    """

    place: int
    step: int
    height: int
    width: int
    channels: int

    @property
    def vectors(self) -> int:
        """Vectors that hold one pixel."""
        return vectors().count(self.channels)

    @property
    def size(self) -> int:
        """Bytes of one image."""
        return self.height * self.width * self.step


def resident(place: int, height: int, width: int, channels: int) -> Map:
    """A map whose pixels are filled up to whole vectors, as all kernels write them and most read them."""
    return Map(place, vectors().count(channels) * vector_bytes(), height, width, channels)


def external(place: int, height: int, width: int, channels: int) -> Map:
    """A map as NumPy arrays hold it, without gaps between pixels."""
    return Map(place, channels * FLOAT_BYTES, height, width, channels)


class Packed(NamedTuple):
    """Packed weights of a convolution: their places, output channels and the clip that follows."""

    kernel: int
    bias: int
    channels: int
    clip: Clip = NO_CLIP


class Step(NamedTuple):
    """A record, and the memory that it needs beside the maps: scratch, and a row of zeros."""

    record: Any
    scratch_bytes: int = 0
    zero_bytes: int = 0


class Wide(NamedTuple):
    """The map that a depthwise convolution reads, and how it comes about.

    Attributes
    ----------
    height, width, channels : int
    fields : dict
        The producer and its parameters.
    window : (channels, kernel, stride) or None
        Window of the full convolution that produces it, if one does.
    """

    height: int
    width: int
    channels: int
    fields: dict[str, Any]
    window: tuple[int, int, int] | None = None


def place_of(constants: Constants, buffer: int, array: NDArray[Any]) -> int:
    """Append an array to the constants of a buffer; return its place."""
    return reference(buffer, constants.add(array))


def pack_product(constants: Constants, kernel: Array, bias: Array, clip: Clip = NO_CLIP) -> Packed:
    """Pack the weights of a convolution (…, Cin, Cout) or of a dense layer."""
    channels = kernel.shape[-1]
    matrix = packing.pack_matrix(kernel.reshape(-1, channels))
    return Packed(
        place_of(constants, steps.WEIGHTS, matrix),
        place_of(constants, steps.WEIGHTS, packing.pack_bias(bias)),
        channels,
        clip,
    )


def pack_filters(constants: Constants, kernel: Array, bias: Array, clip: Clip = NO_CLIP) -> Packed:
    """Pack the weights of a depthwise convolution (3, 3, C)."""
    return Packed(
        place_of(constants, steps.WEIGHTS, packing.pack_filters(kernel)),
        place_of(constants, steps.WEIGHTS, packing.pack_bias(bias)),
        kernel.shape[-1],
        clip,
    )


def _record(operation: int, source: Map, target: Map, **fields: Any) -> Any:
    record = np.zeros((), steps.STEP)
    record["operation"], record["residual"] = operation, steps.NOTHING
    record["source"], record["source_step"] = source.place, source.step
    record["height"], record["width"], record["channels"] = source[2:]
    record["target"], record["target_step"] = target.place, target.step
    record["out_height"], record["out_width"], record["vectors"] = target.height, target.width, target.vectors
    for name, value in fields.items():
        record[name] = value
    return record


def _product(packed: Packed) -> dict[str, Any]:
    return {
        "weights": packed.kernel,
        "bias": packed.bias,
        "vectors": vectors().count(packed.channels),
        "half": packing.has_half(packed.channels),
        "low": packed.clip[0],
        "high": packed.clip[1],
    }


def _window(kernel: int, geometry: Geometry, width: int) -> dict[str, int]:
    return {
        "kernel": kernel,
        "stride": geometry.stride,
        "top": geometry.padding[0][0],
        "left": geometry.padding[1][0],
        "conv_width": output_size(width, kernel, geometry.stride, 1, geometry.padding[1]),
    }


def pointwise(source: Map, target: Map, packed: Packed, residual: Map | None = None) -> Step:
    """A matrix product of all pixels; a residual has the layout of the target."""
    place = residual.place if residual else steps.NOTHING
    return Step(_record(steps.POINTWISE, source, target, **_product(packed), residual=place))


def dense(source: Map, target: Map, packed: Packed) -> Step:
    """A matrix product of one pixel per image."""
    return Step(_record(steps.DENSE, source, target, **_product(packed)))


def conv(source: Map, target: Map, packed: Packed, kernel: int, geometry: Geometry) -> Step:
    """A full convolution without dilation."""
    rows = min(target.height, -(-CONV_PIXELS // target.width))
    fields = {**_product(packed), **_window(kernel, geometry, source.width)}
    record = _record(steps.CONV, source, target, **fields, rows=rows, staged=reference(steps.SCRATCH, 0))
    return Step(record, _staged_bytes(source.channels, kernel, geometry.stride, target.width, rows))


def _staged_bytes(channels: int, kernel: int, stride: int, columns: int, rows: int) -> int:
    return ((rows - 1) * stride + kernel) * ((columns - 1) * stride + kernel) * channels * FLOAT_BYTES


def add(source: Map, other: Map, target: Map) -> Step:
    """The sum of two maps."""
    return Step(_record(steps.ADD, source, target, residual=other.place))


def copy(source: Map, target: Map) -> Step:
    """Channels of one map into another, where the target may be a part of a wider map."""
    return Step(_record(steps.COPY, source, target))


def pool(source: Map, target: Map, window: tuple[int, int], stride: int = 1) -> Step:
    """Means over windows (height, width)."""
    return Step(_record(steps.POOL, source, target, kernel_height=window[0], kernel_width=window[1], stride=stride))


def resize(source: Map, target: Map, variant: Variant, tables: Constants) -> Step:
    """Bilinear resize; which points are looked at goes into `tables`."""
    columns = _sample_table(source.width, target.width, variant, source.step)
    rows = _sample_table(source.height, target.height, variant, source.step * source.width)
    weights, bias = (place_of(tables, steps.TABLES, table) for table in (columns, rows))
    return Step(_record(steps.RESIZE, source, target, weights=weights, bias=bias))


def _sample_table(size: int, out_size: int, variant: Variant, step: int) -> Any:
    found = linear_weights(size, out_size, variant)
    table = np.empty(out_size, SAMPLE)
    table["lower"], table["upper"], table["weight"] = found.lower * step, found.upper * step, found.weight
    return table


# ---- Depthwise convolution and blocks --------------------------------------------------------------------------------


def wide_copy(source: Map) -> Wide:
    """A depthwise convolution that reads a map as it is."""
    return Wide(*source[2:], {"producer": steps.FROM_COPY, "vectors": source.vectors})


def wide_pointwise(source: Map, packed: Packed) -> Wide:
    """A depthwise convolution that reads an expansion."""
    return Wide(source.height, source.width, packed.channels, {**_product(packed), "producer": steps.FROM_POINTWISE})


def wide_conv(source: Map, packed: Packed, kernel: int, geometry: Geometry) -> Wide:
    """A depthwise convolution that reads a full convolution."""
    height, width = (
        output_size(size, kernel, geometry.stride, 1, padding) for size, padding in zip(source[2:4], geometry.padding)
    )
    fields = {**_product(packed), **_window(kernel, geometry, source.width), "producer": steps.FROM_CONV}
    return Wide(height, width, packed.channels, fields, (source.channels, kernel, geometry.stride))


def depthwise(
    source: Map, target: Map, wide: Wide, packed: Packed, geometry: Geometry, by_panels: bool = False
) -> Step:
    """Depthwise convolution of a wide map into the target; workers share its rows, or its panels."""
    cuts = _cut(wide, geometry, (target.height, target.width), projected=False)
    place = {"filtered": target.place, "filtered_step": target.step, "by_panels": by_panels}
    return _filter(source, target, wide, packed, geometry, cuts, place)


def inverted_residual(
    source: Map, target: Map, wide: Wide, packed: Packed, geometry: Geometry, project: Packed, residual: bool
) -> Step:
    """A whole block, strip by strip."""
    cuts = _cut(wide, geometry, (target.height, target.width), projected=True)
    place = {
        "filtered": reference(steps.SCRATCH, cuts.filtered),
        "filtered_step": vectors().count(wide.channels) * vector_bytes(),
        "project_vectors": vectors().count(project.channels),
        "project_half": packing.has_half(project.channels),
        "project": project.kernel,
        "project_bias": project.bias,
        "residual": source.place if residual else steps.NOTHING,
    }
    return _filter(source, target, wide, packed, geometry, cuts, place)


class _Cuts(NamedTuple):
    """How the work of a FILTER step is cut, and where its pieces lie in the scratch memory."""

    rows: int
    columns: int
    turn_rows: int
    ring_rows: int
    ring_columns: int
    staged: int
    filtered: int
    scratch_bytes: int


def _cut(wide: Wide, geometry: Geometry, size: tuple[int, int], *, projected: bool) -> _Cuts:
    """Choose the pieces, so that each fits in its cache, and lay out the scratch memory: ring, staged rows, strip."""
    height, width = size
    row_bytes = vectors().count(wide.channels) * vector_bytes() * width
    columns, turn_rows = _cut_turns(geometry, height, width)
    rows = min(height, max(turn_rows, STRIP_BYTES // row_bytes)) if projected else height
    rows = -(-height // -(-height // rows))  # strips of one size rather than a small rest
    turn_rows = min(turn_rows, rows)
    ring_rows = min(_reach(geometry, turn_rows), wide.height)
    # Rows outlast a panel's turn only where another strip follows.
    kept_vectors = vectors().count(wide.channels) * -(-width // columns) if rows < height else WIDEST_PANEL
    staged = round_up(ring_rows * _reach(geometry, columns) * kept_vectors * vector_bytes())
    filtered = staged
    if wide.window:
        filtered += round_up(_staged_bytes(*wide.window, wide.width, _reach(geometry, rows)))
    scratch_bytes = filtered + (rows * row_bytes if projected else 0)
    return _Cuts(rows, columns, turn_rows, ring_rows, _reach(geometry, columns), staged, filtered, scratch_bytes)


def _cut_turns(geometry: Geometry, height: int, width: int) -> tuple[int, int]:
    """Columns per block and output rows per turn, such that the rows of one panel stay in the cache."""

    def ring_bytes(columns: int, rows: int) -> int:
        return _reach(geometry, rows) * _reach(geometry, columns) * 2 * vector_bytes()

    blocks = 1
    while ring_bytes(-(-width // blocks), 1) > RING_BYTES and width // (blocks + 1) >= NARROWEST_BLOCK:
        blocks += 1
    columns = -(-width // blocks)
    rows = 1
    while rows < height and ring_bytes(columns, rows + 1) <= RING_BYTES:
        rows += 1
    return columns, rows


def _reach(geometry: Geometry, count: int) -> int:
    """Rows (or columns) under so many neighboring 3×3 windows."""
    return (count - 1) * geometry.stride + 2 * geometry.dilation + 1


def _filter(
    source: Map, target: Map, wide: Wide, packed: Packed, geometry: Geometry, cuts: _Cuts, place: dict[str, Any]
) -> Step:
    record = _record(
        steps.FILTER, source, target, **wide.fields, **place,
        wide_height=wide.height, wide_width=wide.width, wide_channels=wide.channels,
        filter_stride=geometry.stride, filter_dilation=geometry.dilation,
        filter_top=geometry.padding[0][0], filter_left=geometry.padding[1][0],
        filters=packed.kernel, filter_bias=packed.bias, filter_low=packed.clip[0], filter_high=packed.clip[1],
        rows=cuts.rows, columns=cuts.columns, turn_rows=cuts.turn_rows,
        ring=reference(steps.SCRATCH, 0), ring_shared=cuts.rows >= target.height,
        ring_rows=cuts.ring_rows, ring_columns=cuts.ring_columns,
        staged=reference(steps.SCRATCH, cuts.staged),
    )  # fmt: skip
    return Step(record, cuts.scratch_bytes, cuts.ring_columns * WIDEST_PANEL * vector_bytes())


# ---- Programs --------------------------------------------------------------------------------------------------------


class Program(NamedTuple):
    """A table of steps, and the memory that they need."""

    steps: Any
    tail: Any
    scratch_bytes: int
    tables: Bytes


def assemble(body: Sequence[Step], tail: Sequence[Step], tables: Constants) -> Program:
    """Make a table of steps that run for every image, and one of steps that run once for the whole batch."""
    every = [*body, *tail]
    # One row of zeros serves all steps; it lies among the constants, so that nothing writes to it.
    zeros = np.zeros(max((step.zero_bytes for step in every), default=0), np.uint8)
    place = place_of(tables, steps.TABLES, zeros)
    for step in every:
        step.record["zeros"] = place
    return Program(
        np.array([step.record for step in body], steps.STEP),
        np.array([step.record for step in tail], steps.STEP),
        round_up(max((step.scratch_bytes for step in every), default=0)),
        tables.block(),
    )
