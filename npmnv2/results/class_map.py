"""From logits at the network's stride to one label per pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npmnv2.kernels import Array, LinearWeights, Variant, lerp, linear_weights, resize_bilinear, softmax

# Logits are resized and compared in pieces of about this size, which stay in the processor's cache. A mask of
# 10,000 × 10,000 pixels needs no gigabytes of scores.
_BLOCK_BYTES = 256 * 1024


class Grid(NamedTuple):
    """Where the pixels of a label map lie on the logits: two neighbors and a weight for every row and column."""

    rows: LinearWeights
    columns: LinearWeights

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the label map."""
        return len(self.rows.weight), len(self.columns.weight)

    @classmethod
    def resize(cls, source: tuple[int, int], size: tuple[int, int], variant: Variant) -> Grid:
        """The grid of a bilinear resize of logits of (height, width) `source` to `size`."""
        return cls(*(linear_weights(before, after, variant) for before, after in zip(source, size)))

    def bands(self, bytes_per_row: int) -> Iterator[slice]:
        """Slices of rows of about `_BLOCK_BYTES` each."""
        step = max(1, _BLOCK_BYTES // bytes_per_row)
        return (slice(start, start + step) for start in range(0, self.size[0], step))


def resized_logits(logits: Array, size: tuple[int, int], variant: Variant) -> Array:
    """Resize logits (height, width, classes) bilinearly to `size`; at their own size they stay as they are."""
    return logits if logits.shape[:2] == tuple(size) else resize_bilinear(logits[None], size, variant)[0]


def class_map(logits: Array, size: tuple[int, int], variant: Variant) -> NDArray[np.int64]:
    """Best class for every pixel of the logits resized to `size`.

    Parameters
    ----------
    logits : Array [shape=(h, w, classes)]
        Scores at the network's stride.
    size : (height, width)
        Of the result.
    variant : {"tf1", "tf1_align_corners", "half_pixel"}
        See `npmnv2.kernels.resize_bilinear`.

    Returns
    -------
    array [shape=(height, width)], int64
        Of two equal classes the lower index. The resized logits are never held as a whole.
    """
    if logits.shape[:2] == tuple(size):
        labels: NDArray[np.int64] = logits.argmax(-1)
        return labels
    return best_classes(logits, Grid.resize((logits.shape[0], logits.shape[1]), size, variant))


def best_classes(logits: Array, grid: Grid, dtype: DTypeLike = np.int64) -> NDArray[Any]:
    """Best class at every point of `grid`, as `class_map`.

    Parameters
    ----------
    logits : Array [shape=(h, w, classes)]
    grid : Grid
    dtype : integer type
        Of the result.

    Returns
    -------
    array [shape=grid.size]
    """
    # Class after class: comparing whole planes is several times as fast as an argmax over a short last axis.
    possible = _possible_winners(logits)
    planes = np.ascontiguousarray(_at_columns(logits[..., possible], grid).transpose(2, 0, 1))
    labels = np.full(grid.size, possible[0], dtype)
    for band in grid.bands(planes[0, 0].nbytes):
        best = _at_rows(planes[0], grid, band)
        for index, plane in zip(possible[1:], planes[1:]):
            scores = _at_rows(plane, grid, band)
            np.copyto(labels[band], index, where=scores > best)
            np.maximum(best, scores, out=best)
    return labels


def _possible_winners(logits: Array) -> NDArray[np.intp]:
    """Classes that can be best at some point between neighboring logits, in order. Usually they are few.

    Between four neighbors a value is neither above the largest nor below the smallest of the four. So a class loses
    there if its largest is below the smallest of some other.
    """
    low = high = logits
    for axis, side in enumerate(logits.shape[:2]):
        following = np.minimum(np.arange(side) + 1, side - 1)
        low = np.minimum(low, low.take(following, axis))
        high = np.maximum(high, high.take(following, axis))
    # What interpolation may lose to rounding, with room to spare.
    slack = 16 * np.finfo(logits.dtype).eps * np.abs(logits).max()
    loses = high < low.max(axis=-1, keepdims=True) - slack
    return np.flatnonzero(~loses.all(axis=(0, 1)))


def sampled(logits: Array, grid: Grid) -> Iterator[tuple[slice, Array]]:
    """Logits (h, w, classes) at the points of `grid`, one band of rows after the other.

    Yields
    ------
    rows : slice
    values : Array [shape=(height of the band, width, classes)]
    """
    wide = _at_columns(logits, grid)
    for band in grid.bands(wide[0].nbytes):
        yield band, _at_rows(wide, grid, band)


def mean_scores(maps: Sequence[Array], grids: Sequence[Grid]) -> Iterator[tuple[slice, Array]]:
    """Softmax of each of `maps` (h, w, classes) at the points of its grid, averaged, as `sampled`.

    All grids have one size.
    """
    for bands in zip(*(sampled(logits, grid) for logits, grid in zip(maps, grids))):
        scores = [softmax(values) for _, values in bands]
        yield bands[0][0], sum(scores[1:], start=scores[0]) / scores[0].dtype.type(len(scores))


def _at_columns(logits: Array, grid: Grid) -> Array:
    lower, upper, weight = grid.columns
    return lerp(logits[:, lower], logits[:, upper], weight[:, None].astype(logits.dtype, copy=False))


def _at_rows(values: Array, grid: Grid, band: slice) -> Array:
    lower, upper, weight = grid.rows
    across = weight[band].reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype, copy=False)
    return lerp(values[lower[band]], values[upper[band]], across)
