"""What a compiled network is made of: a table of steps, one record each, that `device.program` walks through.

A step says where its numbers lie and how large they are. Memory is named by *refs*: the number of a buffer and an
offset in bytes, in one integer. So the same table serves every batch, every worker and every call, which only bring
other buffers.
"""

from __future__ import annotations

import numpy as np

# Operations.
POINTWISE, CONV, FILTER, POOL, RESIZE, ADD, COPY, DENSE = range(8)
# How a FILTER step gets the rows that its depthwise convolution reads.
FROM_COPY, FROM_POINTWISE, FROM_CONV = range(3)
# Buffers. ARENA holds the activations of one image, SCRATCH belongs to one worker, BATCH holds one piece per image,
# WEIGHTS and TABLES are constants; from EXTERNAL on there is one buffer for every array of the caller.
ARENA, SCRATCH, BATCH, WEIGHTS, TABLES, EXTERNAL = range(6)

NOTHING = -1
OFFSET_BITS = 48


def _group(integers: str, floats: str = "") -> np.dtype:
    kinds = [(name, np.int64) for name in integers.split()] + [(name, np.float32) for name in floats.split()]
    return np.dtype(kinds, align=True)


# A feature map: ref to its first pixel, bytes from pixel to pixel, size, channels that count.
VIEW = _group("ref pixel_stride height width channels")
# A matrix product: refs to packed weights and bias, vectors of its output, whether the last is half empty, clip.
PRODUCT = _group("weights bias vectors half", "low high")
# A full convolution: its window, and the width of its output.
CONVOLUTION = _group("kernel stride top left out_width")
# A depthwise convolution 3×3: refs to filters and bias, clip.
DEPTHWISE = _group("weights bias stride dilation top left", "low high")
# How a FILTER step is cut, see `tiling.Tiling`. Refs to: rings, a row of zeros, image rows for the first convolution,
# the filtered map. Rings are one for every panel, or one for all; workers share rows, or panels.
TILING = _group(
    "rows columns group_rows by_panels ring ring_shared ring_rows ring_columns zeros staged filtered filtered_stride"
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
