"""Layers of integers for the compiled kernels: packed, and run on arrays.

The kernels multiply unsigned by signed bytes. Everything is brought to that form without changing a result: int8 inputs
and outputs move up by 128 with their zero points; the input's zero point goes into the bias; weights less their zero
point that need nine bits are stored less 128, and what is missing, a multiple of each pixel's sum, is a *correction*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..padding import Geometry
from ..quantized import Integers, TensorQuantization
from ..quantized.rescale import clip_range
from .target import Target

_VECTORS = 2
_WORD = 4
_MIDDLE = 128


class PackedBytes(NamedTuple):
    """A matrix product of bytes, as kernels read it.

    Attributes
    ----------
    weights : int8 [shape=(panels, words, 2, lanes, 4)]
    bias : int32 [shape=(panels, 2 · lanes)]
    scales : float32 [shape=(panels, 2 · lanes)]
    ones : int8
        1 for every input channel, up to whole vectors.
    factor : int
        Of a pixel's sum in its correction; 0 for none.
    low, high : float32
        Limits of outputs before the zero point is added.
    zero : int
        Zero point of the output as an unsigned byte.
    """

    weights: NDArray[Any]
    bias: NDArray[np.int32]
    scales: NDArray[np.float32]
    ones: NDArray[np.int8]
    factor: int
    low: Any
    high: Any
    zero: int


def pack_bytes(
    target: Target,
    kernel: Integers,
    bias: Integers,
    quantization: tuple[TensorQuantization, TensorQuantization, TensorQuantization],
) -> PackedBytes:
    """Pack a matrix (K, N) of integers with its bias (N,) and the quantization of input, kernel and output."""
    source, filters, output = quantization
    centered = filters.centered(kernel, np.int64)
    fits = centered.min() >= -_MIDDLE and centered.max() < _MIDDLE
    signed = centered if fits else kernel.astype(np.int64) - _MIDDLE
    low, high = (np.float32(limit - output.zero_point) for limit in clip_range(output, "xnnpack"))
    scales = np.broadcast_to(source.scales * filters.scales / output.scales, bias.shape)
    return PackedBytes(
        weights=_pack_weights(target, signed),
        bias=_pad(_VECTORS * target.lanes, bias - _unsigned_zero(source) * centered.sum(axis=0), np.int32),
        scales=_pad(_VECTORS * target.lanes, scales, np.float32),
        ones=_pack_ones(target, len(kernel)),
        factor=0 if fits else _MIDDLE - filters.zero_point,
        low=low,
        high=high,
        zero=_unsigned_zero(output),
    )


def _pack_weights(target: Target, signed: NDArray[np.int64]) -> NDArray[np.int8]:
    inputs, outputs = signed.shape
    words, panels = -(-inputs // _WORD), -(-outputs // (_VECTORS * target.lanes))
    padded = np.zeros((words * _WORD, panels * _VECTORS * target.lanes), np.int8)
    padded[:inputs, :outputs] = signed
    by_word = padded.reshape(words, _WORD, panels, _VECTORS, target.lanes)
    return np.ascontiguousarray(by_word.transpose(2, 0, 3, 4, 1))


def _pad(width: int, row: NDArray[Any], dtype: Any) -> NDArray[Any]:
    padded = np.zeros(-(-len(row) // width) * width, dtype)
    padded[: len(row)] = row
    return padded.reshape(-1, width)


def pack_byte_filters(
    target: Target,
    kernel: Integers,
    bias: Integers,
    quantization: tuple[TensorQuantization, TensorQuantization, TensorQuantization],
) -> PackedBytes:
    """Pack depthwise filters (3, 3, C): weights int16 [shape=(vectors, 3, 2, lanes, 2)], a vector per bias row."""
    source, filters, output = quantization
    centered = filters.centered(kernel, np.int64)
    channels, vectors = kernel.shape[2], target.vectors(kernel.shape[2])
    rows = np.zeros((4, 3, vectors * target.lanes), np.int16)  # a row of zeros completes the second pair
    rows[:3, :, :channels] = centered
    by_pair = rows.reshape(2, 2, 3, vectors, target.lanes).transpose(3, 2, 0, 4, 1)
    low, high = (np.float32(limit - output.zero_point) for limit in clip_range(output, "xnnpack"))
    scales = np.broadcast_to(source.scales * filters.scales / output.scales, bias.shape)
    return PackedBytes(
        weights=np.ascontiguousarray(by_pair),
        bias=_pad(target.lanes, bias - _unsigned_zero(source) * centered.sum(axis=(0, 1)), np.int32),
        scales=_pad(target.lanes, scales, np.float32),
        ones=np.zeros(0, np.int8),
        factor=0,
        low=low,
        high=high,
        zero=_unsigned_zero(output),
    )


def _pack_ones(target: Target, inputs: int) -> NDArray[np.int8]:
    ones = np.zeros(-(-inputs // target.vector_bytes) * target.vector_bytes, np.int8)
    ones[:inputs] = 1
    return ones


def _unsigned_zero(tensor: TensorQuantization) -> int:
    return tensor.zero_point + (_MIDDLE if tensor.dtype == "int8" else 0)


def pointwise(
    x: Integers,
    kernel: Integers,
    bias: Integers,
    quantization: tuple[TensorQuantization, TensorQuantization, TensorQuantization],
    target: Target,
) -> Integers:
    """Mix the channels of pixels (N, K) by a matrix (K, N), in the arithmetic of XNNPACK; see `quantized.conv`."""
    from ..device.addressing import View
    from ..device.integers.product import ByteProduct, Scaling, make_multiply_bytes, make_sum_bytes

    packed = pack_bytes(target, kernel, bias, quantization)
    panels, words = packed.weights.shape[:2]
    inside = _in_words(target, x, words)
    pixels, width = len(x), packed.bias.shape[1]
    out, corrections = np.empty((pixels, panels * width), np.uint8), np.zeros(pixels, np.int32)
    source = View(inside.ctypes.data, inside.strides[0], 0)
    if packed.factor:
        vectors = len(packed.ones) // target.vector_bytes
        sum_bytes = make_sum_bytes(target)
        sum_bytes(source, packed.ones.ctypes.data, vectors, packed.factor, corrections.ctypes.data, pixels)
    for panel in range(panels):
        make_multiply_bytes(target)(
            source,
            ByteProduct(packed.weights[panel].ctypes.data, packed.bias[panel].ctypes.data, words),
            Scaling(packed.scales[panel].ctypes.data, packed.low, packed.high, packed.zero),
            View(corrections.ctypes.data, 4, 0),
            View(out.ctypes.data + panel * width, out.strides[0], 0),
            pixels,
        )
    return _typed(out[:, : len(bias)], quantization[2])


def depthwise(
    x: Integers,
    kernel: Integers,
    bias: Integers,
    geometry: Geometry,
    quantization: tuple[TensorQuantization, TensorQuantization, TensorQuantization],
    target: Target,
) -> Integers:
    """Filter every channel of a map (H, W, C) by 3×3 windows, as XNNPACK does; see `quantized.depthwise`."""
    from ..device.addressing import View
    from ..device.depthwise import Rows
    from ..device.integers.depthwise import make_filter_bytes
    from ..device.integers.product import ByteProduct, Scaling

    packed, filter_bytes = pack_byte_filters(target, kernel, bias, quantization), make_filter_bytes(target)
    width = len(packed.bias) * target.lanes
    padding = (*geometry.padding, (0, width - x.shape[2]))
    inside = np.pad(_unsigned(x), padding, constant_values=_unsigned_zero(quantization[0]))
    reach = 2 * geometry.dilation + 1
    height, columns = ((size - reach) // geometry.stride + 1 for size in inside.shape[:2])
    out = np.empty((height, columns, width), np.uint8)
    for y in range(height):
        top, step = inside.ctypes.data + y * geometry.stride * inside.strides[0], geometry.dilation * inside.strides[0]
        for vector in range(len(packed.bias)):
            at = top + vector * target.lanes
            filter_bytes(
                (geometry.stride, geometry.dilation),
                Rows(at, at + step, at + 2 * step),
                width,
                ByteProduct(packed.weights[vector].ctypes.data, packed.bias[vector].ctypes.data, 0),
                Scaling(packed.scales[vector].ctypes.data, packed.low, packed.high, packed.zero),
                View(out[y].ctypes.data + vector * target.lanes, width, 0),
                columns,
            )
    return _typed(out[..., : len(bias)], quantization[2])


def _unsigned(x: Integers) -> NDArray[np.uint8]:
    return (x if x.dtype == np.uint8 else x.astype(np.int16) + _MIDDLE).astype(np.uint8)


def _in_words(target: Target, x: Integers, words: int) -> NDArray[np.uint8]:
    """Inputs as unsigned bytes, pixels padded to whole words, and a vector more that sums may read."""
    inside = np.zeros((len(x), words * _WORD), np.uint8)
    inside[:, : x.shape[1]] = _unsigned(x)
    raw = np.zeros(inside.size + target.vector_bytes, np.uint8)
    raw[: inside.size] = inside.ravel()
    return raw[: inside.size].reshape(inside.shape)


def _typed(unsigned: NDArray[np.uint8], tensor: TensorQuantization) -> Integers:
    if tensor.dtype == "uint8":
        return np.ascontiguousarray(unsigned)
    return (unsigned.astype(np.int16) - _MIDDLE).astype(np.int8)
