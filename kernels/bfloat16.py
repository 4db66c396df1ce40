"""The arithmetic of ``precision="bf16"``: products of 16-bit numbers, sums of 32 bits.

A bfloat16 is the upper half of a float32: 8 bits of exponent, and 8 bits of mantissa with the one that is not written.
Here such numbers are kept as float32 arrays whose lower halves are zero. These functions say, bit by bit, what a
processor with AVX-512 BF16 computes; they are the definition, and slow.

* Results are rounded to nearest, ties to even. A denormal float32 becomes zero of its sign.
* A product takes two input channels at a time: the second channel's product is added to the sum, then the first's
  (instruction ``vdpbf16ps``). A product is exact, each addition rounds to float32, and denormals are zero before and
  after it.
* Depthwise filters and everything on the image stay float32, with fused multiply-adds as in the float kernels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .add import add as add_floats
from .clip import NO_CLIP, Clip, clip_in_place
from .conv import pad, sliding_windows
from .padding import Geometry
from .resize import Variant
from .resize import resize_bilinear as resize_floats
from .types import Array

_SMALLEST_NORMAL = np.float32(2.0**-126)
_HALF, _UPPER, _QUIET = np.uint32(0x7FFF), np.uint32(0xFFFF0000), np.uint32(0x00400000)


def flush(x: Array) -> Array:
    """Zero of the same sign in the place of denormals."""
    return np.where(np.abs(x) < _SMALLEST_NORMAL, np.copysign(np.float32(0), x), x)


def round_to_bfloat16(x: Array) -> Array:
    """The nearest bfloat16 numbers, as float32; of ties the even one. NaN stays NaN."""
    raw = flush(np.asarray(x, np.float32)).view(np.uint32)
    up = _HALF + (raw >> 16 & 1)
    with np.errstate(over="ignore"):
        rounded = (raw + up) & _UPPER
    return np.where(np.isnan(x), (raw | _QUIET) & _UPPER, rounded).view(np.float32)


def bits(x: Array) -> NDArray[np.uint16]:
    """The 16 bits of each number, rounded to bfloat16."""
    found: NDArray[np.uint16] = (round_to_bfloat16(x).view(np.uint32) >> 16).astype(np.uint16)
    return found


def add_product(total: Array, x: Array, y: Array) -> Array:
    """``total + x · y`` for float32 sums and bfloat16 factors, as the processor rounds it."""
    # In double precision the product is exact, and rounding twice gives what rounding once does: its mantissa is more
    # than twice as long as that of float32, and neither summand has a longer one than float32.
    with np.errstate(over="ignore", invalid="ignore"):
        exact = x.astype(np.float64) * y + flush(total)
        return flush(exact.astype(np.float32))


def add_pairs(total: Array, x: Array, y: Array) -> Array:
    """What ``vdpbf16ps`` adds to float32 sums, of pairs of bfloat16 along the last axis: the second product first."""
    return add_product(add_product(total, x[..., 1], y[..., 1]), x[..., 0], y[..., 0])


def multiply_add(x: Array, y: Array, total: Array) -> Array:
    """``x · y + total`` of float32, rounded once."""
    product = x.astype(np.float64) * y  # exact
    wide = total.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        found = product + wide
        back = found - product
        error = (product - (found - back)) + (wide - back)
        # A double that is not exact is made odd, so that rounding it to float32 cannot meet a tie that is none.
        even = (found.view(np.int64) & 1) == 0
        nudged = np.nextafter(found, np.copysign(np.inf, error))
        inexact = np.isfinite(found) & (error != 0) & even
        return np.where(inexact, nudged, found).astype(np.float32)


def pointwise(x: Array, kernel: Array, bias: Array, clip: Clip = NO_CLIP) -> Array:
    """Mix the channels of every pixel, see `npmnv2.kernels.pointwise`; float32, not rounded to bfloat16.

    Parameters
    ----------
    x : Array [shape=(…, Cin)]
        Of bfloat16 numbers.
    kernel : Array [shape=(Cin, Cout)]
        Rounded here.
    bias : Array [shape=(Cout,)]
    clip : (low, high)
    """
    x, kernel = _even(x, axis=-1), _even(round_to_bfloat16(kernel), axis=0)
    out = np.broadcast_to(bias, (*x.shape[:-1], len(bias)))
    for first in range(0, len(kernel), 2):
        for channel in (first + 1, first):
            out = add_product(out, x[..., channel, None], kernel[channel])
    clip_in_place(out, clip)
    return out


def conv(x: Array, kernel: Array, bias: Array, geometry: Geometry, clip: Clip = NO_CLIP) -> Array:
    """Convolve a map of bfloat16 numbers, see `npmnv2.kernels.conv`; float32, not rounded to bfloat16."""
    kh, kw, _, filters = kernel.shape
    windows = sliding_windows(pad(_even(x, axis=-1), geometry), kh, kw, geometry)
    matrix = _even(kernel, axis=2).reshape(-1, filters)
    return pointwise(windows.reshape(*windows.shape[:3], -1), matrix, bias, clip)


def image_conv(x: Array, kernel: Array, bias: Array, geometry: Geometry, clip: Clip = NO_CLIP) -> Array:
    """Convolve an image, see `npmnv2.kernels.conv`: all numbers are float32."""
    kh, kw, _, filters = kernel.shape
    windows = sliding_windows(pad(x, geometry), kh, kw, geometry)
    inputs, matrix = windows.reshape(*windows.shape[:3], -1), kernel.reshape(-1, filters)
    out = np.broadcast_to(bias, (*inputs.shape[:3], filters))
    for number, row in enumerate(matrix):
        out = multiply_add(inputs[..., number, None], row, out)
    clip_in_place(out, clip)
    return out


def depthwise(x: Array, kernel: Array, bias: Array, geometry: Geometry, clip: Clip = NO_CLIP) -> Array:
    """Filter every channel on its own, see `npmnv2.kernels.depthwise`, by float32 weights."""
    kh, kw, channels = kernel.shape
    windows = sliding_windows(pad(x, geometry), kh, kw, geometry)
    out = np.broadcast_to(bias, (*windows.shape[:3], channels))
    for a in range(kh):
        for b in range(kw):
            out = multiply_add(windows[:, :, :, a, b], kernel[a, b], out)
    clip_in_place(out, clip)
    return out


def average_pool(x: Array, window: tuple[int, int], stride: int = 1) -> Array:
    """Average over windows inside the map: sums in double precision, row by row, then one division."""
    windows = sliding_windows(x, *window, Geometry(stride, 1, ((0, 0), (0, 0))))
    total = np.zeros((*windows.shape[:3], x.shape[-1]))
    for a in range(window[0]):
        for b in range(window[1]):
            total += windows[:, :, :, a, b]
    return (total / (window[0] * window[1])).astype(np.float32)


def add(x: Array, y: Array) -> Array:
    """Add two maps; rounded to bfloat16."""
    return round_to_bfloat16(add_floats(x, y))


def resize_bilinear(x: Array, size: tuple[int, int], variant: Variant) -> Array:
    """Resize feature maps, see `npmnv2.kernels.resize_bilinear`; rounded to bfloat16."""
    return round_to_bfloat16(resize_floats(x, size, variant))


def _even(x: Array, axis: int) -> Array:
    """`x`, with zeros for one more channel if the number of channels is odd."""
    missing = [(0, 0)] * x.ndim
    missing[axis] = (0, x.shape[axis] % 2)
    return np.pad(x, missing) if x.shape[axis] % 2 else x
