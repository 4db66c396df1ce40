"""Weights of integer layers in the order in which the kernels read them. NumPy only, once per model.

The kernels multiply unsigned by signed bytes. Everything is brought to that form without changing a result: int8 inputs
and outputs move up by 128 with their zero points, the input's zero point goes into the bias, and weights less their
zero point that need more than eight bits become sums of *parts* that do not. Processors that cannot multiply bytes get
the weights as 16-bit numbers, in pairs. Those that only multiply signed bytes lower the inputs by 128, and the bias
makes up for it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..quantized import Integers, TensorQuantization, clip_range, quantize_multiplier
from ..quantized.add import add_factors
from ..quantized.fixed_point import Multiplier
from ..quantized.rescale import reference_factor
from . import steps
from .target import IntegerTarget, Target

# Vectors in a panel of a matrix product, and of a depthwise convolution.
PRODUCT_VECTORS, PANEL_VECTORS = 2, 4
COLUMNS, OUTPUT_ROWS = 3, 2
# Parts of depthwise weights; other weights may have any number.
MAX_PARTS = 2
WORD = 4
_LOW, _HIGH = -128, 127
_INT32 = 1 << 31

LayerQuantization = tuple[TensorQuantization, TensorQuantization, TensorQuantization]


class PackedProduct(NamedTuple):
    """A matrix product: factors, PANEL records, and which words of a pixel each panel multiplies."""

    factors: NDArray[Any]
    panels: NDArray[Any]
    words: NDArray[np.int64]


class PackedFilters(NamedTuple):
    """Filters of a depthwise convolution: factors, and the number of parts of each panel."""

    factors: NDArray[Any]
    parts: NDArray[np.int64]


def unsigned_zero(tensor: TensorQuantization) -> int:
    """The byte that stands for zero."""
    return tensor.zero_point - tensor.limits[0]


def pack_product(target: Target, kernel: NDArray[np.int64]) -> PackedProduct:
    """Pack a matrix (K, N) of weights less their zero point; K is a multiple of a word."""
    width = PRODUCT_VECTORS * target.lanes
    inputs, count = len(kernel) // WORD, -(-kernel.shape[1] // width)
    padded = np.zeros((inputs, WORD, count, width), np.int64)
    padded.reshape(inputs * WORD, -1)[:, : kernel.shape[1]] = kernel
    # (panel, word, vector, lane, byte)
    by_panel = padded[..., _product_order(target)].reshape(inputs, WORD, count, PRODUCT_VECTORS, -1)
    by_panel = by_panel.transpose(2, 0, 3, 4, 1)
    panels, words, factors = np.zeros(count, steps.PANEL), [np.arange(inputs)], []
    weights_at, words_at = 0, inputs
    for panel, whole in zip(panels, by_panel):
        first, extra = _split(target, whole)
        panel["weights"], panel["words"] = weights_at, inputs + len(extra)
        if len(extra):
            panel["offsets"] = 8 * words_at
            words += [np.arange(inputs), extra]
            words_at += inputs + len(extra)
        factors.append(first)
        weights_at += first.nbytes
    return PackedProduct(np.concatenate(factors), panels, np.concatenate(words))


def _split(target: Target, panel: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Factors for the words of a panel, those of further parts behind them, and which words these multiply again."""
    if not target.multiplies_bytes:
        return _factors(target, panel), np.zeros(0, np.int64)
    found, numbers, rest = [], [], panel
    chosen = np.arange(len(panel))
    while len(chosen):
        part = np.clip(rest, _LOW, _HIGH)
        found.append(_factors(target, part))
        numbers.append(chosen)
        rest = rest - part
        left = rest.any(axis=(1, 2, 3))
        rest, chosen = rest[left], chosen[left]
    return np.concatenate(found), np.concatenate(numbers[1:]) if numbers[1:] else np.zeros(0, np.int64)


def _factors(target: Target, words: NDArray[np.int64]) -> NDArray[Any]:
    """Weights (…, lanes, 4) as bytes, or as two vectors of pairs: of bytes 0 and 2, and of 1 and 3."""
    if target.multiplies_bytes:
        return words.astype(np.int8)
    pairs = np.stack([words[..., 0::2], words[..., 1::2]], axis=-3)
    return pairs.astype(np.int16)


def pack_filters(target: Target, kernel: NDArray[np.int64]) -> PackedFilters:
    """Pack depthwise weights (3, 3, C) less their zero point: (panel, part, column, output row, vector, lane, row)."""
    width = PANEL_VECTORS * target.lanes
    count = -(-kernel.shape[2] // width)
    rows = np.zeros((OUTPUT_ROWS, WORD, COLUMNS, count * width), np.int64)
    for row in range(OUTPUT_ROWS):
        rows[row, row : row + 3, :, : kernel.shape[2]] = kernel
    ordered = rows.reshape(OUTPUT_ROWS, WORD, COLUMNS, count, width)[..., filter_order(target)]
    by_panel = ordered.reshape(OUTPUT_ROWS, WORD, COLUMNS, count, PANEL_VECTORS, -1).transpose(3, 2, 0, 4, 5, 1)
    if not target.multiplies_bytes:
        parts = [by_panel, np.zeros_like(by_panel)]
    else:
        first = np.clip(by_panel, _LOW, _HIGH)
        parts = [first, by_panel - first]
    needed = np.asarray(1 + parts[1].any(axis=(1, 2, 3, 4, 5)), np.int64)
    return PackedFilters(_factors(target, np.stack(parts, axis=1)), needed)


def _product_order(target: Target) -> list[int]:
    """The channel of a panel that each lane of a product's vectors holds, see `device.integers.simd.permutation`."""
    lanes = range(target.lanes)
    return [8 * (lane // 4) + 4 * vector + lane % 4 for vector in range(PRODUCT_VECTORS) for lane in lanes]


def filter_order(target: Target) -> list[int]:
    """The channel of a panel that each lane of a depthwise convolution's vectors holds."""
    lanes = range(target.lanes)
    return [16 * (lane // 4) + 4 * vector + lane % 4 for vector in range(PANEL_VECTORS) for lane in lanes]


def pack_row(target: Target, values: NDArray[Any], vectors: int, dtype: Any) -> NDArray[Any]:
    """One number per output channel, filled up to whole panels of `vectors` vectors, in the order of their lanes."""
    order = _product_order(target) if vectors == PRODUCT_VECTORS else filter_order(target)
    padded = np.zeros(-(-len(values) // len(order)) * len(order), values.dtype)
    padded[: len(values)] = values
    # A bias may leave the range of int32; sums do not, and 32-bit additions come round.
    return padded.reshape(-1, len(order))[:, order].astype(dtype)


def pack_scales(target: IntegerTarget, quantization: LayerQuantization, channels: int, vectors: int) -> NDArray[Any]:
    """What `device.integers.rescale` needs of every output channel."""
    source, filters, output = quantization
    if target.arithmetic == "xnnpack":
        scales = np.broadcast_to(source.scales * filters.scales / output.scales, (channels,))
        return pack_row(target.processor, scales, vectors, np.float32)
    factor = quantize_multiplier(np.broadcast_to(reference_factor(*quantization), (channels,)))
    rows = [pack_row(target.processor, row, vectors, np.int32) for row in _fixed_point(factor)]
    lanes = target.processor.lanes
    return np.stack([row.reshape(-1, vectors, lanes) for row in rows], axis=2)


def _fixed_point(factor: Multiplier) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Mantissa, and shifts to the left and to the right."""
    return factor.mantissa, np.maximum(factor.exponent, 0), np.maximum(-factor.exponent, 0)


def fits(target: IntegerTarget, quantization: LayerQuantization, largest: int) -> bool:
    """Whether sums up to `largest` can be rescaled in 32 bits."""
    source, filters, output = quantization
    if target.arithmetic == "xnnpack":
        return bool(largest * float((source.scales * filters.scales / output.scales).max()) < _INT32)
    factor = quantize_multiplier(reference_factor(*quantization))
    return bool((largest << np.maximum(factor.exponent, 0).max()) < _INT32)


def filters_fit(kernel: Integers, filters: TensorQuantization) -> bool:
    """Whether depthwise weights less their zero point are sums of MAX_PARTS parts."""
    centered = filters.centered(kernel, np.int64)
    return bool(centered.min() >= MAX_PARTS * _LOW and centered.max() <= MAX_PARTS * _HIGH)


def pack_numbers(
    target: IntegerTarget, output: TensorQuantization, residual: tuple[TensorQuantization, ...] = ()
) -> NDArray[np.int32]:
    """Numbers to finish a layer with, see `steps`; `residual` are the other summand and the sum."""
    numbers = np.zeros(steps.N_NUMBERS, np.int64)
    numbers[[steps.ZERO, steps.LOW, steps.HIGH]] = _limits(target, output)
    if residual:
        other, total = residual
        numbers[[steps.SUM_ZERO, steps.SUM_LOW, steps.SUM_HIGH]] = _limits(target, total)
        factors = _xnnpack_sum if target.arithmetic == "xnnpack" else _reference_sum
        found = factors(output, other, total)
        numbers[steps.SUM_NUMBERS : steps.SUM_NUMBERS + len(found)] = found
    return numbers.astype(np.int32)


def _limits(target: IntegerTarget, output: TensorQuantization) -> tuple[int, int, int]:
    """The zero point and the limits of a map as unsigned bytes."""
    low, high = clip_range(output, target.arithmetic)
    return unsigned_zero(output), low - output.limits[0], high - output.limits[0]


def sum_fits(target: IntegerTarget, a: TensorQuantization, b: TensorQuantization, total: TensorQuantization) -> bool:
    """Whether two maps can be added in 32 bits."""
    if target.arithmetic == "xnnpack":
        return 1 <= _xnnpack_sum(a, b, total)[3] <= 29
    return all(0 <= shift <= 31 for shift in _reference_sum(a, b, total)[2::3]) and _reference_sum(a, b, total)[-1] >= 0


def _xnnpack_sum(a: TensorQuantization, b: TensorQuantization, total: TensorQuantization) -> tuple[int, ...]:
    first, second, shift = add_factors(a, b, total)
    base = (1 << max(shift - 1, 0)) - first * unsigned_zero(a) - second * unsigned_zero(b)
    return first, second, base, shift


def _reference_sum(a: TensorQuantization, b: TensorQuantization, total: TensorQuantization) -> tuple[int, ...]:
    twice = 2 * max(a.scale[0], b.scale[0])
    found: list[int] = []
    for q in (a, b):
        factor = quantize_multiplier(q.scale[0] / twice)
        found += [unsigned_zero(q), int(factor.mantissa), -int(factor.exponent)]
    last = quantize_multiplier(twice / ((1 << 20) * total.scale[0]))
    return (*found, int(last.mantissa), -int(last.exponent))


def layer_parameters(
    target: Target, kernel: Integers, bias: Integers, quantization: LayerQuantization
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Weights (…, N) less their zero point, and the bias with which sums of the target's products come out right."""
    source, filters, _ = quantization
    centered = filters.centered(kernel, np.int64)
    sums = centered.reshape(-1, centered.shape[-1]).sum(axis=0)
    return centered, bias.astype(np.int64) - (unsigned_zero(source) - target.input_offset) * sums
