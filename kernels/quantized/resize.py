"""Bilinear resize of integers; the scale stays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..resize import Variant
from .tensor import Arithmetic, Integers


class _Samples(NamedTuple):
    """For every output entry of an axis: two neighbors, and the weight of the second."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[Any]


def resize_bilinear(x: Integers, size: tuple[int, int], variant: Variant, arithmetic: Arithmetic) -> Integers:
    """Resize maps (N, H, W, C) to (N, height, width, C).

    XNNPACK has weights of 11 bits, the reference kernels float32 for uint8 and 10 bits for int8.
    """
    if arithmetic == "xnnpack":
        return _xnnpack(x, size, variant)
    return _float(x, size, variant) if x.dtype == np.uint8 else _ten_bits(x, size, variant)


def _corners(x: Integers, rows: _Samples, columns: _Samples, dtype: type) -> list[NDArray[Any]]:
    """The four neighbors of every output pixel: upper left, lower left, upper right, lower right."""
    wide: list[NDArray[Any]] = [x[:, :, side].astype(dtype) for side in (columns.lower, columns.upper)]
    return [half[:, side] for half in wide for side in (rows.lower, rows.upper)]


def _xnnpack(x: Integers, size: tuple[int, int], variant: Variant) -> Integers:
    rows, columns = (eleven_bit_samples(*axis, variant) for axis in zip(x.shape[1:3], size))
    top_left, low_left, top_right, low_right = _corners(x, rows, columns, np.int64)
    across, down = columns.weight[:, None], rows.weight[:, None, None]
    top = (top_left << 11) + (top_right - top_left) * across
    low = (low_left << 11) + (low_right - low_left) * across
    rounded: Integers = ((top << 11) + (low - top) * down + (1 << 21)) >> 22
    return rounded.astype(x.dtype)


def eleven_bit_samples(inputs: int, outputs: int, variant: Variant) -> _Samples:
    """XNNPACK's samples of an axis: weights in steps of 1/2048."""
    at, one = np.arange(outputs, dtype=np.float32), np.float32(1)
    aligned = variant == "tf1_align_corners" and outputs > 1
    step = np.float32(inputs - 1) / np.float32(outputs - 1) if aligned else np.float32(inputs) / np.float32(outputs)
    offset = np.float32(0.5) * step - np.float32(0.5) if variant == "half_pixel" else np.float32(0)
    source = np.clip(at * step + offset, 0, np.float32(inputs) - one)
    lower = source.astype(np.intp)
    weight = np.rint((source - lower.astype(np.float32)) * np.float32(2048)).astype(np.int64)
    return _Samples(lower, np.minimum(lower + 1, inputs - 1), weight)


def _float(x: Integers, size: tuple[int, int], variant: Variant) -> Integers:
    rows, columns = (_float_samples(*axis, variant) for axis in zip(x.shape[1:3], size))
    top_left, low_left, top_right, low_right = _corners(x, rows, columns, np.float32)
    across, down, one = columns.weight[:, None], rows.weight[:, None, None], np.float32(1)
    total = top_left * (one - down) * (one - across)
    total += low_left * down * (one - across)
    total += top_right * (one - down) * across
    total += low_right * down * across
    rounded: Integers = (total + np.float32(0.5)).astype(x.dtype)
    return rounded


def _float_samples(inputs: int, outputs: int, variant: Variant) -> _Samples:
    at = np.arange(outputs, dtype=np.float32)
    aligned = variant == "tf1_align_corners" and outputs > 1
    step = np.float32(inputs - 1) / np.float32(outputs - 1) if aligned else np.float32(inputs) / np.float32(outputs)
    half = np.float32(0.5)
    source = (at + half) * step - half if variant == "half_pixel" else at * step
    lower = np.maximum(np.floor(source), 0).astype(np.intp)
    upper = np.minimum(np.ceil(source).astype(np.intp), inputs - 1)
    return _Samples(lower, upper, source - lower.astype(np.float32))


def _ten_bits(x: Integers, size: tuple[int, int], variant: Variant) -> Integers:
    rows, columns = (_ten_bit_samples(*axis, variant) for axis in zip(x.shape[1:3], size))
    top_left, low_left, top_right, low_right = _corners(x, rows, columns, np.int64)
    across, down, one = columns.weight[:, None], rows.weight[:, None, None], 1 << 10
    total = top_left * (one - down) * (one - across)
    total += low_left * down * (one - across)
    total += top_right * (one - down) * across
    total += low_right * down * across
    half = 1 << 19
    # Halves away from zero, by a division that rounds toward zero.
    rounded: Integers = np.where(total > 0, (total + half) >> 20, -((half - total) >> 20))
    return rounded.astype(x.dtype)


def _ten_bit_samples(inputs: int, outputs: int, variant: Variant) -> _Samples:
    first, last = (inputs - 1, outputs - 1) if variant == "tf1_align_corners" and outputs > 1 else (inputs, outputs)
    step = ((first << 10) + last // 2) // last
    source = np.arange(outputs, dtype=np.int64) * step
    if variant == "half_pixel":
        source += step // 2 - (1 << 9)
    # C's division rounds toward zero: what lies before the first pixel belongs to it.
    lower = np.maximum(source, 0) >> 10
    upper = np.minimum(np.maximum(source + 1023, 0) >> 10, inputs - 1)
    return _Samples(lower.astype(np.intp), upper.astype(np.intp), source - (lower << 10))
