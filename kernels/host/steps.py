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

STEP = np.dtype(
    [
        (name, np.int64)
        for name in (
            "operation",
            # Input map: place, bytes from pixel to pixel, size, channels that count.
            "source", "source_step", "height", "width", "channels",
            # Output map: place, bytes from pixel to pixel, size; and the map that is added to it, or NOTHING.
            "target", "target_step", "out_height", "out_width", "residual",
            # First convolution: window, geometry, packed weights and bias, vectors of its output,
            # whether the last of them is half empty, width of its output.
            "kernel", "stride", "top", "left", "weights", "bias", "vectors", "half", "conv_width",
            # POOL: the window.
            "kernel_height", "kernel_width",
            # FILTER: where the rows of the wide map come from, and the size of that map.
            "producer", "wide_height", "wide_width", "wide_channels",
            # FILTER: depthwise convolution.
            "filter_stride", "filter_dilation", "filter_top", "filter_left", "filters", "filter_bias",
            # FILTER: how it is cut, see kernels/README.md. Strips of `rows` output rows, blocks of `columns` output
            # columns, `turn_rows` output rows at a time; whether workers share rows or panels.
            "rows", "columns", "turn_rows", "by_panels",
            # FILTER: a ring of so many rows and columns, for every panel its own or one for all; a row of zeros, image
            # rows for the first convolution.
            "ring", "ring_shared", "ring_rows", "ring_columns", "zeros", "staged",
            # FILTER: the filtered map, and its projection to so many vectors (0: it is the output itself).
            "filtered", "filtered_step", "project_vectors", "project_half", "project", "project_bias",
        )
    ]
    + [(name, np.float32) for name in ("low", "high", "filter_low", "filter_high")],
    align=True,
)  # fmt: skip

# An entry of the tables of a RESIZE step: byte offsets of the two neighbors, and the weight of the second.
SAMPLE = np.dtype([("lower", np.int64), ("upper", np.int64), ("weight", np.float64)])


def ref(buffer: int, offset: int) -> int:
    """A reference to the byte at `offset` of a buffer."""
    return (buffer << OFFSET_BITS) + offset


def split(ref: int) -> tuple[int, int]:
    """The buffer and the offset of a reference."""
    return ref >> OFFSET_BITS, ref & ((1 << OFFSET_BITS) - 1)
