"""Makes the steps of a program on bytes: what `host.build` does for floats."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..padding import Geometry
from ..quantized import Integers, TensorQuantization, clip_range
from ..quantized.pool import factor_of_sum, mean_terms
from ..quantized.resize import eleven_bit_samples
from ..resize import Variant
from . import integer_packing as packing
from . import steps
from .build import Builder, ExpandedMap, Step, TensorView, add_constant
from .integer_packing import PANEL_VECTORS, PRODUCT_VECTORS, WORD, LayerQuantization, unsigned_zero
from .memory import Constants
from .processor import Processor
from .target import IntegerTarget
from .tiling import MapLayout, layout_of_bytes


class PackedBytes(NamedTuple):
    """Packed weights of an integer layer: refs to them, and what steps of any size need beside.

    Attributes
    ----------
    weights, bias, scales, finish : int
    channels : int
        Of the output.
    padding : int
        The byte that stands for zero in the layer's input.
    panels, offsets, parts : int
        Refs to PANEL records and offsets of words of a product, and to numbers of parts of filters.
    words : int64 array
        What a product's offsets are made of.
    row_words : int
        Words in one row of a window.
    """

    weights: int
    bias: int
    scales: int
    finish: int
    channels: int
    padding: int
    panels: int = 0
    offsets: int = 0
    parts: int = 0
    words: NDArray[np.int64] = np.zeros(0, np.int64)
    row_words: int = 0


class Pooling(NamedTuple):
    """A mean with a scale of its own, or an average that keeps the scale (no mean)."""

    source: TensorQuantization
    output: TensorQuantization
    mean: bool


class ByteBuilder(Builder):
    """Makes steps on bytes for one target.

    Parameters
    ----------
    target : IntegerTarget
    processor : Processor, optional
        Whose caches sizes of tiles follow: this one if not given.
    """

    dtype = np.uint8
    reads_words = True

    def __init__(self, target: IntegerTarget, processor: Processor | None = None) -> None:
        super().__init__(target.processor, processor)
        self.integer_target = target

    def _layout(self) -> MapLayout:
        return layout_of_bytes(self.target)

    # Weights

    def pack_layer(
        self, constants: Constants, kernel: Integers, bias: Integers, quantization: LayerQuantization,
        residual: tuple[TensorQuantization, ...] = (),
    ) -> PackedBytes:  # fmt: skip
        """Pack a convolution (k, k, Cin, Cout) or a matrix.

        `residual` are the quantizations of what is added to it and of the sum, if something is.
        """
        centered, sums_bias = packing.layer_parameters(self.target, kernel, bias, quantization)
        rows = centered if centered.ndim == 4 else centered[None, None]
        return self._packed_rows(constants, rows.reshape(len(rows), -1, len(bias)), sums_bias, quantization, residual)

    def pack_split(
        self, constants: Constants, kernel: Integers, bias: Integers, quantization: LayerQuantization, channels: int
    ) -> tuple[PackedBytes, PackedBytes]:
        """Pack a 1×1 convolution in two: for the first input channels, and for the others, whose bias is their sums."""
        centered, sums_bias = packing.layer_parameters(self.target, kernel, bias, quantization)
        rows = centered.reshape(1, -1, len(bias))
        first, rest = (
            self._packed_rows(constants, piece, sums_bias, quantization) for piece in np.split(rows, [channels], axis=1)
        )
        return first, rest

    def pack_byte_filters(
        self, constants: Constants, kernel: Integers, bias: Integers, quantization: LayerQuantization
    ) -> PackedBytes:
        """Pack the weights of a depthwise convolution (3, 3, C)."""
        centered, sums_bias = packing.layer_parameters(self.target, kernel, bias, quantization)
        found = packing.pack_filters(self.target, centered)
        packed = self._packed_layer(constants, found.factors, sums_bias, quantization, PANEL_VECTORS)
        return packed._replace(parts=add_constant(constants, steps.WEIGHTS, found.parts))

    def pack_sum(self, constants: Constants, *quantization: TensorQuantization) -> int:
        """A ref to the numbers by which two maps are added; `quantization` of both, and of the sum."""
        numbers = packing.pack_numbers(self.integer_target, quantization[0], quantization[1:])
        return add_constant(constants, steps.WEIGHTS, numbers)

    def _packed_rows(
        self, constants: Constants, rows: NDArray[np.int64], bias: NDArray[np.int64], quantization: LayerQuantization,
        residual: tuple[TensorQuantization, ...] = (),
    ) -> PackedBytes:  # fmt: skip
        """Pack the rows of a window (rows, numbers in a row, Cout), each filled up to whole words."""
        missing = -rows.shape[1] % WORD
        padded = np.pad(rows, ((0, 0), (0, missing), (0, 0)))
        found = packing.pack_product(self.target, padded.reshape(-1, len(bias)))
        return self._packed_layer(constants, found.factors, bias, quantization, PRODUCT_VECTORS, residual)._replace(
            panels=add_constant(constants, steps.WEIGHTS, found.panels),
            offsets=add_constant(constants, steps.WEIGHTS, WORD * found.words),
            words=found.words,
            row_words=padded.shape[1] // WORD,
        )

    def _packed_layer(
        self, constants: Constants, factors: NDArray[Any], bias: NDArray[np.int64], quantization: LayerQuantization,
        vectors: int, residual: tuple[TensorQuantization, ...] = (),
    ) -> PackedBytes:  # fmt: skip
        target = self.integer_target
        arrays = (
            factors,
            packing.pack_row(self.target, bias, vectors, np.int32),
            packing.pack_scales(target, quantization, len(bias), vectors),
            packing.pack_numbers(target, quantization[2], residual),
        )
        weights, bias_ref, scales, finish = (add_constant(constants, steps.WEIGHTS, array) for array in arrays)
        return PackedBytes(weights, bias_ref, scales, finish, len(bias), unsigned_zero(quantization[0]))

    # Steps

    def conv(self, source: TensorView, output: TensorView, packed: Any, kernel: int, geometry: Geometry) -> Step:
        """A full convolution without dilation."""
        step = super().conv(source, output, packed, kernel, geometry)
        # The last word of a row may reach beyond it.
        return step._replace(scratch_bytes=step.scratch_bytes + WORD, tables=_offsets(step.record, packed))

    def depthwise(
        self, source: TensorView, output: TensorView, expanded: ExpandedMap, packed: Any, geometry: Geometry,
        by_panels: bool = False,
    ) -> Step:  # fmt: skip
        """Depthwise convolution of an expanded map into the output; workers share its rows, or its panels."""
        return _with_offsets(super().depthwise(source, output, expanded, packed, geometry, by_panels), expanded)

    def inverted_residual(
        self, source: TensorView, output: TensorView, expanded: ExpandedMap, packed: Any, geometry: Geometry,
        project: Any, residual: bool,
    ) -> Step:  # fmt: skip
        """A whole block, strip by strip."""
        step = super().inverted_residual(source, output, expanded, packed, geometry, project, residual)
        return _with_offsets(step, expanded)

    def sums(self, pixel: TensorView, output: TensorView, packed: PackedBytes) -> Step:
        """The sums of a pixel as they are, in the place of a bias of `sums_bytes`."""
        return Step(self._record(steps.SUMS, pixel, output, product=self._product(packed)))

    def sums_bytes(self, channels: int) -> int:
        """Bytes of the sums of so many output channels."""
        width = PRODUCT_VECTORS * self.target.lanes
        return -(-channels // width) * PRODUCT_VECTORS * self.target.vector_bytes

    def sum(self, source: TensorView, other: TensorView, output: TensorView, numbers: int) -> Step:
        """The sum of two maps."""
        fields = {"residual": other.ref, "product": {"finish": numbers}}
        return Step(self._record(steps.ADD, source, output, **fields))

    def mean(
        self, source: TensorView, output: TensorView, window: tuple[int, int], stride: int, pooling: Pooling
    ) -> Step:
        """Means over windows (height, width)."""
        step = self.pool(source, output, window, stride)
        return step._replace(tables={("product", "finish"): self._pool_numbers(pooling, window[0] * window[1])})

    def lookup(self, source: TensorView, output: TensorView, table: NDArray[np.uint8]) -> Step:
        """Every byte of a map replaced by what a table has for it."""
        return Step(self._record(steps.LOOKUP, source, output), tables={("tables", "columns"): table})

    def argmax(self, source: TensorView, output: TensorView) -> Step:
        """Numbers (int64) of the largest channels."""
        return Step(self._record(steps.ARGMAX, source, output))

    def quantize(self, source: TensorView, output: TensorView, quantization: TensorQuantization) -> Step:
        """Bytes of real numbers; both maps lie as arrays do."""
        numbers, arithmetic = np.zeros(steps.N_NUMBERS, np.int32), self.integer_target.arithmetic
        numbers[steps.ZERO] = unsigned_zero(quantization)
        scale = np.float32(quantization.scale[0])
        factor = np.float32(1) / scale if arithmetic == "xnnpack" else scale
        low, high = (limit - quantization.zero_point for limit in clip_range(quantization, arithmetic))
        _set_floats(numbers, {steps.POOL_FACTOR: factor, steps.POOL_LOW: low, steps.POOL_HIGH: high})
        return Step(self._record(steps.QUANTIZE, source, output), tables={("product", "finish"): numbers})

    # Parts of records

    def _product(self, packed: Any) -> dict[str, Any]:
        return {
            "weights": packed.weights,
            "bias": packed.bias,
            "vectors": self.target.vectors(packed.channels),
            "panels": packed.panels,
            "offsets": packed.offsets,
            "scales": packed.scales,
            "finish": packed.finish,
        }

    def _convolution(self, packed: Any, kernel: int, geometry: Geometry, width: int) -> dict[str, int]:
        return {**super()._convolution(packed, kernel, geometry, width), "padding": packed.padding}

    def _depthwise(self, packed: Any, geometry: Geometry) -> dict[str, Any]:
        return {
            "weights": packed.weights,
            "bias": packed.bias,
            "stride": geometry.stride,
            "dilation": geometry.dilation,
            "top": geometry.padding[0][0],
            "left": geometry.padding[1][0],
            "padding": packed.padding,
            "parts": packed.parts,
            "scales": packed.scales,
            "finish": packed.finish,
        }

    def _samples(self, size: int, out_size: int, variant: Variant) -> Any:
        return eleven_bit_samples(size, out_size, variant)

    def _pool_numbers(self, pooling: Pooling, count: int) -> NDArray[np.int32]:
        source, output, is_mean = pooling
        numbers = np.zeros(steps.N_NUMBERS, np.int32)
        low = output.limits[0]
        if not is_mean:
            # The halves of signed integers go away from their own zero.
            numbers[[steps.ZERO, steps.LOW, steps.HIGH]] = -low, 0, 255
            named = {steps.POOL_OFFSET: -low * count, steps.POOL_COUNT: count, steps.POOL_HALF: count // 2}
            numbers[list(named)] = list(named.values())
            return numbers
        bottom, top = clip_range(output, self.integer_target.arithmetic)
        numbers[[steps.LOW, steps.HIGH, steps.POOL_MEAN, steps.POOL_COUNT]] = bottom - low, top - low, 1, 1
        if self.integer_target.arithmetic == "xnnpack":
            # The zero point is added before the rounding, so it decides where ties go.
            numbers[[steps.ZERO, steps.POOL_OFFSET]] = -low, -low * count
            factor, bias = mean_terms(source, output, count)
            limits = {steps.POOL_LOW: bottom, steps.POOL_HIGH: top}
            _set_floats(numbers, {steps.POOL_FACTOR: factor, steps.POOL_BIAS: bias, **limits})
        else:
            numbers[[steps.ZERO, steps.POOL_OFFSET]] = unsigned_zero(output), unsigned_zero(source) * count
            by = factor_of_sum(source, output, count)
            shifts = max(int(by.exponent), 0), max(-int(by.exponent), 0)
            numbers[steps.POOL_FACTOR : steps.POOL_FACTOR + 3] = int(by.mantissa), *shifts
        return numbers


def _set_floats(numbers: NDArray[np.int32], values: dict[int, Any]) -> None:
    numbers[list(values)] = np.array([np.float32(np.squeeze(v)) for v in values.values()], np.float32).view(np.int32)


def _with_offsets(step: Step, expanded: ExpandedMap) -> Step:
    """The step with the offsets of the full convolution before it, if there is one."""
    return step._replace(tables=_offsets(step.record, expanded.packed)) if expanded.window else step


def _offsets(record: Any, packed: PackedBytes) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Where the words of a window lie in the staged rows."""
    conv = record["conv"]
    columns = (int(conv["out_width"]) - 1) * int(conv["stride"]) + int(conv["kernel"])
    row_bytes = columns * int(record["input"]["channels"])
    row, word = np.divmod(packed.words, packed.row_words)
    return {("product", "offsets"): row * row_bytes + word * WORD}
