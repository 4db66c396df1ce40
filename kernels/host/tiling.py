"""How a FILTER step is cut, so that each piece fits in its cache; see the drawing in kernels/README.md."""

from __future__ import annotations

from typing import NamedTuple

from npmnv2.kernels import Geometry

from .memory import round_up
from .target import FLOAT_BYTES, Target

# The rows of a panel that are in use should stay near the first-level cache, a filtered strip in a part of the second.
# Measured on 48 KB + 1 MB: between 40 and 100 KB of rows, and 100 to 300 KB of strip, nothing changes by more than 1 %.
RING_BYTES = 64 * 1024
STRIP_BYTES = 192 * 1024
# Blocks share the columns at their edges, so they should not be narrow.
MIN_BLOCK_COLUMNS = 28


class MapLayout(NamedTuple):
    """How the channels of one kind of numbers lie in memory.

    Attributes
    ----------
    lanes : int
        Channels in a vector.
    channel_bytes : int
    pixel_unit, ring_unit : int
        Pixels of a map, and those of all rings together, hold a multiple of so many vectors.
    widest_panel : int
        Vectors in the widest kind of panel of a depthwise convolution.
    """

    lanes: int
    channel_bytes: int
    pixel_unit: int
    ring_unit: int
    widest_panel: int

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector of channels."""
        return self.lanes * self.channel_bytes

    def pixel_bytes(self, channels: int) -> int:
        """Bytes of a pixel of a map."""
        return self._filled(channels, self.pixel_unit) * self.vector_bytes

    def ring_vectors(self, channels: int) -> int:
        """Vectors of a pixel in the rings of all panels."""
        return self._filled(channels, self.ring_unit)

    def _filled(self, channels: int, unit: int) -> int:
        return -(-channels // (self.lanes * unit)) * unit


def layout_of_floats(target: Target) -> MapLayout:
    """Panels of two vectors; the last one has one to three."""
    return MapLayout(target.lanes, FLOAT_BYTES, 1, 1, 3)


def layout_of_bytes(target: Target) -> MapLayout:
    """Panels of two vectors in products, of four in depthwise convolutions."""
    return MapLayout(target.lanes, 1, 2, 4, 4)


class Window(NamedTuple):
    """Window of the full convolution that produces an expanded map."""

    channels: int
    kernel: int
    stride: int


class Tiling(NamedTuple):
    """The pieces of a FILTER step, and where they lie in the scratch memory.

    Attributes
    ----------
    rows, columns : int
        Output rows of a strip, output columns of a block.
    group_rows : int
        Output rows of a row group, which are computed together.
    ring_rows, ring_columns : int
        Size of a panel's ring of expanded rows.
    staged, filtered : int
        Offsets of the image rows for the first convolution and of the filtered strip; the rings come first.
    scratch_bytes : int
    """

    rows: int
    columns: int
    group_rows: int
    ring_rows: int
    ring_columns: int
    staged: int
    filtered: int
    scratch_bytes: int


def choose(
    layout: MapLayout, size: tuple[int, int, int], window: Window | None, geometry: Geometry, output: tuple[int, int],
    *, projected: bool,
) -> Tiling:  # fmt: skip
    """Choose the pieces and lay out the scratch memory: rings, staged rows, strip.

    Parameters
    ----------
    layout : MapLayout
        Of the expanded map.
    size : (height, width, channels)
        Of the expanded map.
    window : Window or None
        Of the full convolution that produces the expanded map, if one does.
    geometry : Geometry
        Of the depthwise convolution.
    output : (height, width)
    projected : bool
        Whether a projection follows, strip by strip.
    """
    height, width = output
    vectors, vector_bytes = layout.ring_vectors(size[2]), layout.vector_bytes
    row_bytes = layout.pixel_bytes(size[2]) * width
    columns, group_rows = _row_groups(vector_bytes, geometry, height, width)
    rows = min(height, max(group_rows, STRIP_BYTES // row_bytes)) if projected else height
    rows = -(-height // -(-height // rows))  # strips of one size rather than a small rest
    group_rows = min(group_rows, rows)
    ring_rows, ring_columns = min(reach(geometry, group_rows), size[0]), reach(geometry, columns)
    # Rows outlast a panel only where another strip follows.
    kept_vectors = vectors * -(-width // columns) if rows < height else layout.widest_panel
    staged = round_up(ring_rows * ring_columns * kept_vectors * vector_bytes)
    filtered = staged
    if window:
        filtered += round_up(layout.channel_bytes * staged_channels(window, size[1], reach(geometry, rows)))
    scratch_bytes = filtered + (rows * row_bytes if projected else 0)
    return Tiling(rows, columns, group_rows, ring_rows, ring_columns, staged, filtered, scratch_bytes)


def _row_groups(vector_bytes: int, geometry: Geometry, height: int, width: int) -> tuple[int, int]:
    """Columns per block and output rows per row group, such that the rows of one panel stay in the cache."""

    def ring_bytes(columns: int, rows: int) -> int:
        return reach(geometry, rows) * reach(geometry, columns) * 2 * vector_bytes

    blocks = 1
    while ring_bytes(-(-width // blocks), 1) > RING_BYTES and width // (blocks + 1) >= MIN_BLOCK_COLUMNS:
        blocks += 1
    columns = -(-width // blocks)
    rows = 1
    while rows < height and ring_bytes(columns, rows + 1) <= RING_BYTES:
        rows += 1
    return columns, rows


def reach(geometry: Geometry, count: int) -> int:
    """Rows (or columns) under `count` neighboring 3×3 windows."""
    return (count - 1) * geometry.stride + 2 * geometry.dilation + 1


def staged_channels(window: Window, columns: int, rows: int) -> int:
    """Channels of all pixels of the image rows under a strip of a full convolution's output."""
    across, down = ((count - 1) * window.stride + window.kernel for count in (columns, rows))
    return down * across * window.channels
