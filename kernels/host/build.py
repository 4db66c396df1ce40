"""Makes the steps of a program: fills the records that `device.program` reads.

This is the only place that knows both the layers' terms (shapes, geometry, clip ranges) and the records' fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.kernels import NO_CLIP, Array, Clip, Geometry, Variant, linear_weights, output_size

from . import packing, steps, tiling
from .memory import Bytes, Constants, round_up
from .processor import Processor, this_processor
from .steps import SAMPLE
from .target import Target
from .tiling import MapLayout, Tiling, Window, Work, layout_of_floats


class TensorView(NamedTuple):
    """Where a feature map of one image lies.

    Attributes
    ----------
    ref : int
        Reference to its first pixel.
    pixel_stride : int
        Bytes from pixel to pixel.
    height, width, channels : int
    channel_bytes : int
    """

    ref: int
    pixel_stride: int
    height: int
    width: int
    channels: int
    channel_bytes: int

    @property
    def size(self) -> int:
        """Bytes of one image."""
        return self.height * self.width * self.pixel_stride


class Packed(NamedTuple):
    """Packed weights of a convolution: refs to them, output channels, and the clip that follows."""

    weights: int
    bias: int
    channels: int
    clip: Clip = NO_CLIP


class Step(NamedTuple):
    """A record, and the memory that it needs beside the maps: scratch, a row outside of the map, and tables."""

    record: Any
    scratch_bytes: int = 0
    outside_bytes: int = 0
    # Tables whose refs the record holds, by group and field.
    tables: Mapping[tuple[str, str], NDArray[Any]] = {}


class ExpandedMap(NamedTuple):
    """The map that a depthwise convolution reads, and how it is produced.

    Attributes
    ----------
    height, width, channels : int
    fields : dict
        Fields of the record: the producer and its parameters.
    window : Window or None
        Of the full convolution that produces it, if one does.
    packed
        Weights of that convolution.
    multiply_adds : int
        For each of its values.
    """

    height: int
    width: int
    channels: int
    fields: dict[str, Any]
    window: Window | None = None
    packed: Any = None
    multiply_adds: int = 0


class Program(NamedTuple):
    """A table of steps for one target, and the memory that they need.

    Attributes
    ----------
    target : Target
    steps, epilogue : structured arrays
        Steps that run for every image, and the batch epilogue: steps that run once for the whole batch.
    tables : bytes
    scratch_bytes, arena_bytes, batch_bytes : int
        For each worker, for the activations of one image at work, and for what is kept of every image of a batch.
    names : tuple of str
        The node (or nodes) that each step belongs to, those of the epilogue last.
    """

    target: Target
    steps: Any
    epilogue: Any
    tables: Bytes
    scratch_bytes: int
    arena_bytes: int = 0
    batch_bytes: int = 0
    names: tuple[str, ...] = ()


def add_constant(constants: Constants, buffer: int, array: NDArray[Any]) -> int:
    """Append an array to the constants of a buffer; return a ref to it."""
    return steps.ref(buffer, constants.add(array))


class Builder:
    """Makes steps on floats for one target.

    Parameters
    ----------
    target : Target
    processor : Processor, optional
        Whose caches sizes of tiles follow: this one if not given.
    """

    dtype: type[np.generic] = np.float32
    # Whether products may read a few bytes beyond a pixel, so that its map must not be a caller's.
    reads_words = False
    # Whether maps hold shorter numbers than the caller's arrays.
    shortens = False

    def __init__(self, target: Target, processor: Processor | None = None) -> None:
        self.target = target
        self.processor = processor or this_processor()
        self.layout = self._layout()

    def _layout(self) -> MapLayout:
        return layout_of_floats(self.target)

    def external(self, ref: int, height: int, width: int, channels: int) -> TensorView:
        """A map as NumPy arrays hold it, without gaps between pixels."""
        size = np.dtype(self.dtype).itemsize
        return TensorView(ref, channels * size, height, width, channels, size)

    def resident(self, ref: int, height: int, width: int, channels: int, exact: bool = False) -> TensorView:
        """A map whose pixels are filled up to whole vectors, as all kernels write them and most read them.

        An `exact` one holds numbers of the caller's kind even where maps hold shorter ones.
        """
        size = np.dtype(self.dtype).itemsize if exact else self.layout.channel_bytes
        pixel_stride = self.layout.pixel_bytes(channels) * size // self.layout.channel_bytes
        return TensorView(ref, pixel_stride, height, width, channels, size)

    # Weights

    def pack_product(self, constants: Constants, kernel: Array, bias: Array, clip: Clip = NO_CLIP) -> Packed:
        """Pack the weights of a convolution (…, Cin, Cout) or of a dense layer."""
        channels = kernel.shape[-1]
        return self._packed(constants, packing.pack_matrix(self.target, kernel.reshape(-1, channels)), bias, clip)

    def pack_image_product(self, constants: Constants, kernel: Array, bias: Array, clip: Clip = NO_CLIP) -> Packed:
        """Pack the weights of a convolution that reads the image."""
        return Builder.pack_product(self, constants, kernel, bias, clip)

    def pack_filters(self, constants: Constants, kernel: Array, bias: Array, clip: Clip = NO_CLIP) -> Packed:
        """Pack the weights of a depthwise convolution (3, 3, C)."""
        return self._packed(constants, packing.pack_filters(self.target, kernel), bias, clip)

    def _packed(self, constants: Constants, weights: Array, bias: Array, clip: Clip) -> Packed:
        packed_bias = packing.pack_bias(self.target, bias)
        weights_ref, bias_ref = (add_constant(constants, steps.WEIGHTS, array) for array in (weights, packed_bias))
        return Packed(weights_ref, bias_ref, len(bias), clip)

    # Steps

    def pointwise(
        self, source: TensorView, output: TensorView, packed: Packed, residual: TensorView | None = None
    ) -> Step:
        """A matrix product of all pixels; a residual has the layout of the output."""
        added = residual.ref if residual else steps.NOTHING
        return Step(self._record(steps.POINTWISE, source, output, product=self._product(packed), residual=added))

    def dense(self, source: TensorView, output: TensorView, packed: Packed) -> Step:
        """A matrix product of one pixel per image."""
        return Step(self._record(steps.DENSE, source, output, product=self._product(packed)))

    def conv(self, source: TensorView, output: TensorView, packed: Packed, kernel: int, geometry: Geometry) -> Step:
        """A full convolution without dilation."""
        window = Window(source.channels, kernel, geometry.stride, source.channel_bytes)
        rows = tiling.conv_rows(self.processor, window, (output.height, output.width))
        fields = {
            "product": self._product(packed),
            "conv": self._convolution(packed, kernel, geometry, source.width),
            "tiling": {"rows": rows, "staged": steps.ref(steps.SCRATCH, 0)},
        }
        record = self._record(steps.CONV, source, output, **fields)
        return Step(record, tiling.staged_bytes(window, output.width, rows))

    def add(self, source: TensorView, other: TensorView, output: TensorView) -> Step:
        """The sum of two maps."""
        return Step(self._record(steps.ADD, source, output, residual=other.ref))

    def copy(self, source: TensorView, output: TensorView) -> Step:
        """Channels of one map into another, where the output may be a part of a wider map."""
        return Step(self._record(steps.COPY, source, output))

    def pool(self, source: TensorView, output: TensorView, window: tuple[int, int], stride: int = 1) -> Step:
        """Means over windows (height, width)."""
        fields = {"height": window[0], "width": window[1], "stride": stride}
        return Step(self._record(steps.POOL, source, output, pool=fields))

    def resize(self, source: TensorView, output: TensorView, variant: Variant) -> Step:
        """Bilinear resize by tables of the points that are looked at."""
        columns = self._sample_table(source.width, output.width, variant, source.pixel_stride)
        rows = self._sample_table(source.height, output.height, variant, source.pixel_stride * source.width)
        tables = {("tables", "columns"): columns, ("tables", "rows"): rows}
        return Step(self._record(steps.RESIZE, source, output), tables=tables)

    # Depthwise convolutions and blocks

    def expanded_copy(self, source: TensorView) -> ExpandedMap:
        """A depthwise convolution that reads a map as it is."""
        fields = {"producer": steps.FROM_COPY, "product": {"vectors": self.target.vectors(source.channels)}}
        return ExpandedMap(source.height, source.width, source.channels, fields)

    def expanded_pointwise(self, source: TensorView, packed: Packed) -> ExpandedMap:
        """A depthwise convolution that reads an expansion."""
        fields = {"producer": steps.FROM_POINTWISE, "product": self._product(packed)}
        return ExpandedMap(source.height, source.width, packed.channels, fields, multiply_adds=source.channels)

    def expanded_conv(self, source: TensorView, packed: Packed, kernel: int, geometry: Geometry) -> ExpandedMap:
        """A depthwise convolution that reads a full convolution."""
        height, width = (
            output_size(size, kernel, geometry.stride, 1, padding)
            for size, padding in zip((source.height, source.width), geometry.padding)
        )
        fields = {
            "producer": steps.FROM_CONV,
            "product": self._product(packed),
            "conv": self._convolution(packed, kernel, geometry, source.width),
        }
        window = Window(source.channels, kernel, geometry.stride, source.channel_bytes)
        return ExpandedMap(
            height, width, packed.channels, fields, window, packed, multiply_adds=kernel**2 * source.channels
        )

    def depthwise(
        self, source: TensorView, output: TensorView, expanded: ExpandedMap, packed: Packed, geometry: Geometry,
        by_panels: bool = False,
    ) -> Step:  # fmt: skip
        """Depthwise convolution of an expanded map into the output; workers share its rows, or its panels."""
        tiles = self._tiling(output, expanded, geometry, 0)
        filtered = {"filtered": output.ref, "filtered_stride": output.pixel_stride, "by_panels": by_panels}
        fields = {**self._filtered(expanded, packed, geometry), "tiling": _tiling_fields(tiles, output, filtered)}
        return self._filter(source, output, tiles, **fields)

    def inverted_residual(
        self, source: TensorView, output: TensorView, expanded: ExpandedMap, packed: Packed, geometry: Geometry,
        project: Packed, residual: bool,
    ) -> Step:  # fmt: skip
        """A whole block, strip by strip."""
        tiles = self._tiling(output, expanded, geometry, project.channels)
        filtered = {
            "filtered": steps.ref(steps.SCRATCH, tiles.filtered),
            "filtered_stride": self.layout.pixel_bytes(expanded.channels),
        }
        fields = {
            **self._filtered(expanded, packed, geometry),
            "projection": self._product(project),
            "residual": source.ref if residual else steps.NOTHING,
            "tiling": _tiling_fields(tiles, output, filtered),
        }
        return self._filter(source, output, tiles, **fields)

    def assemble(
        self, body: Sequence[Step], epilogue: Sequence[Step], arena_bytes: int = 0, batch_bytes: int = 0,
        names: tuple[str, ...] = (),
    ) -> Program:  # fmt: skip
        """Make a table of steps that run for every image, and one of steps that run once for the whole batch."""
        every, tables = [*body, *epilogue], Constants()
        for step in every:
            for (group, field), table in step.tables.items():
                step.record[group][field] = add_constant(tables, steps.TABLES, table)
        _add_rows_outside(every, tables)
        return Program(
            self.target,
            np.array([step.record for step in body], steps.STEP),
            np.array([step.record for step in epilogue], steps.STEP),
            tables.block(),
            round_up(max((step.scratch_bytes for step in every), default=0)),
            arena_bytes,
            batch_bytes,
            names,
        )

    # Parts of records

    def _record(self, operation: int, source: TensorView, output: TensorView, **fields: Any) -> Any:
        record = np.zeros((), steps.STEP)
        channels = {"vectors": self.target.vectors(output.channels)}
        common = {"operation": operation, "residual": steps.NOTHING}
        _fill(record, {**common, "product": channels})
        _fill(record, {"input": source._asdict(), "output": output._asdict(), **fields})
        return record

    def _product(self, packed: Packed) -> dict[str, Any]:
        return {
            "weights": packed.weights,
            "bias": packed.bias,
            "vectors": self.target.vectors(packed.channels),
            "half": packing.has_half(self.target, packed.channels),
            "reload": self.processor.half_width,
            "low": packed.clip[0],
            "high": packed.clip[1],
        }

    def _convolution(self, packed: Any, kernel: int, geometry: Geometry, width: int) -> dict[str, int]:
        return {
            "kernel": kernel,
            "stride": geometry.stride,
            "top": geometry.padding[0][0],
            "left": geometry.padding[1][0],
            "out_width": output_size(width, kernel, geometry.stride, 1, geometry.padding[1]),
        }

    def _depthwise(self, packed: Packed, geometry: Geometry) -> dict[str, Any]:
        return {
            "weights": packed.weights,
            "bias": packed.bias,
            "stride": geometry.stride,
            "dilation": geometry.dilation,
            "top": geometry.padding[0][0],
            "left": geometry.padding[1][0],
            "low": packed.clip[0],
            "high": packed.clip[1],
        }

    def _filtered(self, expanded: ExpandedMap, packed: Packed, geometry: Geometry) -> dict[str, Any]:
        size = {"height": expanded.height, "width": expanded.width, "channels": expanded.channels}
        return {**expanded.fields, "expanded": size, "depthwise": self._depthwise(packed, geometry)}

    def _samples(self, size: int, out_size: int, variant: Variant) -> Any:
        return linear_weights(size, out_size, variant)

    def _sample_table(self, size: int, out_size: int, variant: Variant, stride: int) -> Any:
        found = self._samples(size, out_size, variant)
        table = np.empty(out_size, SAMPLE)
        table["lower"], table["upper"], table["weight"] = found.lower * stride, found.upper * stride, found.weight
        return table

    def _tiling(self, output: TensorView, expanded: ExpandedMap, geometry: Geometry, projected: int) -> Tiling:
        """How a FILTER is cut, after which `projected` channels of output are made of each value (0: none)."""
        size, work = (output.height, output.width), Work(expanded.multiply_adds, projected)
        return tiling.choose(self.layout, self.processor, expanded[:3], expanded.window, geometry, size, work)

    def _filter(self, source: TensorView, output: TensorView, tiles: Tiling, **fields: Any) -> Step:
        record = self._record(steps.FILTER, source, output, **fields)
        panel_bytes = self.layout.widest_panel * self.layout.vector_bytes
        return Step(record, tiles.scratch_bytes, tiles.ring_columns * panel_bytes)


def _add_rows_outside(every: Sequence[Step], tables: Constants) -> None:
    """Add a row for each kind of padding; they lie among the constants, so that nothing writes to them."""
    sizes: dict[int, int] = {}
    for step in every:
        padding = int(step.record["depthwise"]["padding"])
        sizes[padding] = max(step.outside_bytes, sizes.get(padding, 0))
    rows = {
        padding: add_constant(tables, steps.TABLES, np.full(size, padding, np.uint8)) for padding, size in sizes.items()
    }
    for step in every:
        step.record["tiling"]["outside"] = rows[int(step.record["depthwise"]["padding"])]


def _fill(record: Any, fields: Mapping[str, Any]) -> None:
    """Set fields of a record, and of its groups."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            _fill(record[name], value)
        else:
            record[name] = value


def _tiling_fields(tiles: Tiling, output: TensorView, filtered: Mapping[str, int]) -> dict[str, int]:
    return {
        "rows": tiles.rows,
        "columns": tiles.columns,
        "group_rows": tiles.group_rows,
        "ring": steps.ref(steps.SCRATCH, 0),
        "ring_shared": tiles.rows >= output.height,
        "ring_rows": tiles.ring_rows,
        "ring_columns": tiles.ring_columns,
        "staged": steps.ref(steps.SCRATCH, tiles.staged),
        **filtered,
    }
