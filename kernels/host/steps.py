"""What a compiled network is made of: a table of steps, one record each, that `device.program` walks through.

A step says where its numbers lie and how large they are. Memory is named by *refs*: the number of a buffer and an
offset in bytes, in one integer. So the same table serves every batch, every worker and every call, which only bring
other buffers.
"""

from __future__ import annotations

import numpy as np

# Operations.
POINTWISE, CONV, FILTER, POOL, RESIZE, ADD, COPY, DENSE = range(8)
# Of integers only: bytes by a table, real numbers as bytes, numbers (int64) of the largest channels, and the sums of a
# product of one pixel in place of a bias.
LOOKUP, QUANTIZE, ARGMAX, SUMS = 8, 9, 10, 11
# How a FILTER step gets the rows that its depthwise convolution reads.
FROM_COPY, FROM_POINTWISE, FROM_CONV = range(3)
# Buffers. ARENA holds the activations of one image, SCRATCH belongs to one worker, BATCH holds one piece per image,
# WEIGHTS and TABLES are constants; from EXTERNAL on there is one buffer for every array of the caller.
ARENA, SCRATCH, BATCH, WEIGHTS, TABLES, EXTERNAL = range(6)

# Numbers (int32) by which integers are finished: zero point and limits of a layer's bytes; where a residual is added,
# those of the sum, and how both maps are brought to one scale.
ZERO, LOW, HIGH, SUM_ZERO, SUM_LOW, SUM_HIGH, SUM_NUMBERS = range(7)
# For XNNPACK: two factors, what is added to the products, a shift. For the reference kernels: zero point, mantissa and
# shift of each map, mantissa and shift of their sum.
FACTOR_A, FACTOR_B, BASE, SHIFT = range(SUM_NUMBERS, SUM_NUMBERS + 4)
ZERO_A, MANTISSA_A, SHIFT_A, ZERO_B, MANTISSA_B, SHIFT_B, MANTISSA, SUM_SHIFT = range(SUM_NUMBERS, SUM_NUMBERS + 8)
N_NUMBERS = SUM_NUMBERS + 8
# For pools after the layer's three: whether it is a mean with a scale of its own; what sums of bytes are too high by;
# the window's size and half of it; then float32 factor, summand and limits for XNNPACK (and for QUANTIZE), or mantissa
# and two shifts for the reference kernels.
POOL_MEAN, POOL_OFFSET, POOL_COUNT, POOL_HALF, POOL_FACTOR, POOL_BIAS, POOL_LOW, POOL_HIGH = range(3, 11)

NOTHING = -1
OFFSET_BITS = 48


def _group(integers: str, floats: str = "") -> np.dtype:
    kinds = [(name, np.int64) for name in integers.split()] + [(name, np.float32) for name in floats.split()]
    return np.dtype(kinds, align=True)


# A feature map: ref to its first pixel, bytes from pixel to pixel, size, channels that count, bytes of one.
VIEW = _group("ref pixel_stride height width channels channel_bytes")
# A matrix product: refs to packed weights and bias, vectors of its output, whether the last is half empty, whether
# inputs are loaded anew for every product, clip. Of integers: refs to PANEL records, offsets of words, scales, and
# numbers to finish with.
PRODUCT = _group("weights bias vectors half reload panels offsets scales finish", "low high")
# A panel of a matrix product of bytes: where its weights and the offsets of its words start, and how many words it has.
PANEL = _group("weights offsets words")
# A full convolution: its window, the width of its output, and the byte that surrounds the image.
CONVOLUTION = _group("kernel stride top left out_width padding")
# A depthwise convolution 3×3: refs to filters and bias, the byte that surrounds the map, clip. Of integers also refs to
# numbers of parts of panels, scales, and numbers to finish with.
DEPTHWISE = _group("weights bias stride dilation top left padding parts scales finish", "low high")
# How a FILTER step is cut, see `tiling.Tiling`. Refs to: rings, a row outside of the map, image rows for the first
# convolution, the filtered map. Rings are one for every panel, or one for all; workers share rows, or panels.
TILING = _group(
    "rows columns group_rows by_panels ring ring_shared ring_rows ring_columns outside staged filtered filtered_stride"
)
STEP = np.dtype(
    [
        ("operation", np.int64),
        ("input", VIEW),
        ("output", VIEW),
        # A map that is added to the output, or NOTHING.
        ("residual", np.int64),
        # POINTWISE, CONV, DENSE, and what expands the input of a FILTER.
        ("product", PRODUCT),
        ("conv", CONVOLUTION),
        # FILTER: where the expanded map comes from, and its size; `projection.vectors` is 0 where none follows.
        ("producer", np.int64),
        ("expanded", _group("height width channels")),
        ("depthwise", DEPTHWISE),
        ("projection", PRODUCT),
        ("tiling", TILING),
        ("pool", _group("height width stride")),
        # RESIZE: refs to tables of SAMPLE.
        ("tables", _group("rows columns")),
    ],
    align=True,
)
# An entry of the tables of a RESIZE step: byte offsets of the two neighbors, and the weight of the second.
SAMPLE = np.dtype([("lower", np.int64), ("upper", np.int64), ("weight", np.float64)])


def ref(buffer: int, offset: int) -> int:
    """A reference to the byte at `offset` of a buffer."""
    return (buffer << OFFSET_BITS) + offset


def split(ref: int) -> tuple[int, int]:
    """The buffer and the offset of a reference."""
    return ref >> OFFSET_BITS, ref & ((1 << OFFSET_BITS) - 1)
