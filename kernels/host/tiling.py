"""How a FILTER step is cut, so that each piece fits in its cache; see the drawing in kernels/README.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from npmnv2.kernels import Geometry

from .memory import round_up
from .processor import Processor
from .target import Target

# The model, see docs/performance.md. The rows of a panel that are in use come from the second-level cache as fast as
# they are filtered, if they leave room there; smaller groups of rows cost more runs of tiles.
RING_OF_L2 = 1 / 8
# A strip comes back to its filtered rows and to the rings of all panels; weights and maps need the rest of the cache.
STRIP_OF_L2 = 1 / 2
# What every value costs for each time that a strip exceeds that, in multiply-adds, and a run of tiles, in pixels.
MISS, START = 1.5, 1.5
# Blocks expand the columns at their edges twice: at most this part of all.
MAX_OVERLAP = 1 / 14
# The image rows of a full convolution are read again for every panel of its output.
STAGED_OF_L1 = 0.5


class MapLayout(NamedTuple):
    """How the channels of one kind of numbers lie in memory.

    Attributes
    ----------
    lanes : int
        Channels in a vector.
    channel_bytes : int
    pixel_unit, ring_unit : int
        Pixels of a map, and those of all rings together, hold a multiple of so many vectors.
    panel, widest_panel : int
        Vectors in a panel of a depthwise convolution, and in its widest kind.
    tile, rows_together : int
        Pixels that matrix products compute together, and output rows that the filter does: what is left over costs as
        much. Several rows lie one tap apart.
    """

    lanes: int
    channel_bytes: int
    pixel_unit: int
    ring_unit: int
    panel: int
    widest_panel: int
    tile: int
    rows_together: int

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector of channels."""
        return self.lanes * self.channel_bytes

    def filter_unit(self, geometry: Geometry) -> int:
        """Output rows of which the filter leaves none over."""
        apart = geometry.dilation if geometry.stride == 1 and self.rows_together > 1 else 1
        return self.rows_together * apart

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
    return MapLayout(target.lanes, target.map_bytes, 1, 1, 2, 3, target.tile_pixels, 1)


def layout_of_bytes(target: Target) -> MapLayout:
    """Panels of two vectors in products, of four in depthwise convolutions."""
    return MapLayout(target.lanes, 1, 2, 4, 4, 4, target.byte_tile_pixels, 2)


class Window(NamedTuple):
    """Window of the full convolution that produces an expanded map."""

    channels: int
    kernel: int
    stride: int
    channel_bytes: int


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


class Work(NamedTuple):
    """Multiply-adds for each value of the expanded map, and of the filtered one (0: no projection follows)."""

    expand: int
    project: int


class _Cut(NamedTuple):
    """What all strips of a step have in common.

    Attributes
    ----------
    layout, geometry
        Of the expanded map, and of the depthwise convolution.
    size : (height, width, channels)
        Of the expanded map.
    height, width : int
        Of the output.
    blocks : int
        Blocks of columns.
    most_rows : int
        Output rows of a panel that may be computed together.
    """

    layout: MapLayout
    geometry: Geometry
    size: tuple[int, int, int]
    height: int
    width: int
    blocks: int
    most_rows: int

    @property
    def columns(self) -> int:
        return -(-self.width // self.blocks)

    @property
    def ring_columns(self) -> int:
        return reach(self.geometry, self.columns)

    @property
    def row_bytes(self) -> int:
        """Bytes of a filtered row."""
        return self.layout.pixel_bytes(self.size[2]) * self.width

    def group_rows(self, rows: int) -> int:
        """Rows of the groups of a strip, of one size rather than with a small rest."""
        together = self.layout.filter_unit(self.geometry)
        return min(rows, _even(-(-rows // together), self.most_rows // together) * together)

    def ring_rows(self, rows: int) -> int:
        return min(reach(self.geometry, self.group_rows(rows)), self.size[0])

    def ring_bytes(self, rows: int) -> int:
        """Bytes of the rings of all panels, or of the one that they share: rows outlast a panel for a further strip."""
        vectors = self.layout.ring_vectors(self.size[2]) * self.blocks
        kept = vectors if rows < self.height else self.layout.widest_panel
        return self.ring_rows(rows) * self.ring_columns * kept * self.layout.vector_bytes

    def time(self, rows: int, work: Work, room: float) -> float:
        """Estimated time of strips of so many rows, in multiply-adds of every channel."""
        group, stride = self.group_rows(rows), self.geometry.stride
        new_columns = min(self.columns * stride, self.size[1])
        expanded = sum(
            strips * groups * self._padded(strip_group * stride * new_columns)
            for strips, strip in _pieces(self.height, rows)
            for groups, strip_group in _pieces(strip, group)
        )
        projected = sum(strips * self._padded(strip * self.width) for strips, strip in _pieces(self.height, rows))
        excess = max((self.ring_bytes(rows) + rows * self.row_bytes) / room - 1, 0)
        missed = MISS * excess * self.height * self.width
        return self.blocks * expanded * work.expand + projected * work.project + missed

    def _padded(self, pixels: int) -> float:
        """What a run of tiles costs, in pixels."""
        return -(-pixels // self.layout.tile) * self.layout.tile + START


def choose(
    layout: MapLayout, processor: Processor, size: tuple[int, int, int], window: Window | None, geometry: Geometry,
    output: tuple[int, int], work: Work,
) -> Tiling:  # fmt: skip
    """Choose the pieces and lay out the scratch memory: rings, staged rows, strip.

    Parameters
    ----------
    layout : MapLayout
        Of the expanded map.
    processor : Processor
    size : (height, width, channels)
        Of the expanded map.
    window : Window or None
        Of the full convolution that produces the expanded map, if one does.
    geometry : Geometry
        Of the depthwise convolution.
    output : (height, width)
    work : Work
    """
    height, width = output
    cut = _Cut(layout, geometry, size, height, width, *_row_groups(layout, processor, geometry, height, width))
    rows, room = height, STRIP_OF_L2 * processor.l2_bytes
    if work.project:
        heights = {_even(height, rows) for rows in range(1, height + 1)}
        rows = min(sorted(heights, reverse=True), key=lambda rows: cut.time(rows, work, room))
    staged = round_up(cut.ring_bytes(rows))
    filtered = staged
    if window:
        filtered += round_up(staged_bytes(window, size[1], reach(geometry, rows)))
    scratch_bytes = filtered + (rows * cut.row_bytes if work.project else 0)
    group_rows, ring_rows = cut.group_rows(rows), cut.ring_rows(rows)
    return Tiling(rows, cut.columns, group_rows, ring_rows, cut.ring_columns, staged, filtered, scratch_bytes)


def _even(count: int, most: int) -> int:
    """The size of as few pieces as possible of at most so many, all of about one size."""
    return -(-count // -(-count // most))


def _pieces(count: int, size: int) -> list[tuple[int, int]]:
    """How many pieces of a size something is cut into, and what is left as one more."""
    whole, rest = divmod(count, size)
    return [(whole, size), (1, rest)] if rest else [(whole, size)]


def _row_groups(
    layout: MapLayout, processor: Processor, geometry: Geometry, height: int, width: int
) -> tuple[int, int]:
    """Blocks of columns, and most output rows per row group, such that the rows of one panel stay in the cache."""
    panel_bytes, together = layout.panel * layout.vector_bytes, layout.filter_unit(geometry)

    def fits(blocks: int, rows: int) -> bool:
        columns = reach(geometry, -(-width // blocks))
        return reach(geometry, rows * together) * columns * panel_bytes <= RING_OF_L2 * processor.l2_bytes

    overlap = max(2 * geometry.dilation + 1 - geometry.stride, 1)
    most_blocks = max(1, int(width * geometry.stride * MAX_OVERLAP / overlap))
    blocks = next((count for count in range(1, most_blocks) if fits(count, 1)), most_blocks)
    return blocks, _most(lambda rows: fits(blocks, rows), -(-height // together)) * together


def _most(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to a limit that fits, at least 1; what does not fit all at once may fit in part."""
    return next((count for count in range(limit, 1, -1) if fits(count)), 1)


def conv_rows(processor: Processor, window: Window, output: tuple[int, int]) -> int:
    """Output rows (of `output`, height and width) per strip of a full convolution."""

    def fits(rows: int) -> bool:
        return staged_bytes(window, output[1], rows) <= STAGED_OF_L1 * processor.l1_bytes

    return _most(fits, output[0])


def reach(geometry: Geometry, count: int) -> int:
    """Rows (or columns) under `count` neighboring 3×3 windows."""
    return (count - 1) * geometry.stride + 2 * geometry.dilation + 1


def staged_bytes(window: Window, columns: int, rows: int) -> int:
    """Bytes of the image rows under a strip of a full convolution's output."""
    across, down = ((count - 1) * window.stride + window.kernel for count in (columns, rows))
    return down * across * window.channels * window.channel_bytes
