"""Nearest rows and near duplicates among embeddings, by the cosine of their angle. NumPy only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npmnv2.errors import ArgumentError
from npmnv2.kernels import Array

# Cosine from which two photos count as near duplicates; docs/similar.md has the measurement behind it.
NEAR_DUPLICATE = 0.85

# Similarities are computed in blocks of so many rows by so many columns: 32 MB, whatever the number of photos.
_ROWS = 1024
_COLUMNS = 8192

Indices = NDArray[np.intp]


class Group(NamedTuple):
    """Near duplicates of one photo.

    Attributes
    ----------
    keep : int
        Row of the preferred one.
    others : tuple of int
        Rows of those that are near duplicates of it, in the order of preference.
    similarities : tuple of float
        Cosine of each of these to `keep`.
    """

    keep: int
    others: tuple[int, ...]
    similarities: tuple[float, ...]


class Neighbors(NamedTuple):
    """The rows nearest to one query, nearest first: `rows` and their cosines, `similarities`."""

    rows: tuple[int, ...]
    similarities: tuple[float, ...]


def near_duplicates(
    embeddings: ArrayLike, threshold: float = NEAR_DUPLICATE, preference: ArrayLike | None = None
) -> list[Group]:
    """Group rows around those to keep, so that every other row of a group is a near duplicate of the one that is kept.

    The preferred row comes first and takes all rows whose cosine to it is at least `threshold`; then the next one that
    was not taken, and so on. Each row is in one group at most. Similarity does not chain: two rows that both resemble
    a third one, but not each other, are not put together on its account, unless the third is the one that is kept.

    Parameters
    ----------
    embeddings : array_like [shape=(N, C)]
        Of any length, as `features` gives them.
    threshold : float
        Cosine, above 0 and up to 1.
    preference : array_like [shape=(N,)], optional
        The larger, the rather a row is kept. Among equals, and if not given, the earlier one is.

    Returns
    -------
    list of Group
        Of two or more rows each, in the order of preference.

    Raises
    ------
    ArgumentError
        If the shapes or the threshold are impossible, or an embedding is not finite.

    Notes
    -----
    Takes N² · C multiply-adds at most, and memory for one copy of the embeddings in float32 and a fixed block.
    """
    check_threshold(threshold)
    rows = _matrix(embeddings, "embeddings")
    order = _by_preference(preference, len(rows))
    return _Grouping(_scaled(rows[order].astype(np.float32, copy=False)), threshold).groups(order)


def check_threshold(threshold: float) -> None:
    """Raise an ArgumentError unless near duplicates can be told by this cosine."""
    if not 0 < threshold <= 1:
        raise ArgumentError(f"threshold (={threshold!r}) must be above 0 and at most 1")


def nearest(queries: ArrayLike, embeddings: ArrayLike, top: int, threshold: float = -1.0) -> list[Neighbors]:
    """The rows of `embeddings` nearest to each query.

    Parameters
    ----------
    queries : array_like [shape=(Q, C)]
    embeddings : array_like [shape=(N, C)]
    top : int
        Rows per query at most.
    threshold : float
        Least cosine.

    Returns
    -------
    list of Neighbors
        One for each query; among equal cosines the earlier row comes first.
    """
    rows, asked = _matrix(embeddings, "embeddings"), _matrix(queries, "queries")
    if len(rows) and len(asked) and rows.shape[1] != asked.shape[1]:
        raise ArgumentError(f"queries of shape {asked.shape} must have as many columns as embeddings {rows.shape}")
    lengths, found = _lengths(rows), []
    for query in asked / _lengths(asked)[:, None]:
        cosines = np.minimum(rows @ query / lengths, 1) if len(rows) else np.empty(0)
        chosen = _largest(cosines, top)
        chosen = chosen[cosines[chosen] >= threshold]
        found.append(Neighbors(tuple(chosen.tolist()), tuple(cosines[chosen].tolist())))
    return found


def _lengths(rows: Array) -> Array:
    """Length of each row; 1 for a row of zeros, so that it can be divided by."""
    lengths = np.sqrt(np.einsum("nc,nc->n", rows, rows, dtype=np.float64)).astype(rows.dtype)
    return np.where(lengths > 0, lengths, 1).astype(rows.dtype)


def _scaled(rows: Array) -> Array:
    """The same array with its rows at unit length; rows of zeros stay."""
    rows /= _lengths(rows)[:, None]
    return rows


class _Grouping:
    """Takes rows, most preferred first, in blocks.

    Within a block one row after the other decides whether it is kept. What the kept ones of the block take from the
    rows after it follows from one matrix product: each row goes to the first of those that it resembles.
    """

    def __init__(self, units: Array, threshold: float) -> None:
        self._units = units
        # A photo's cosine to itself may be rounded to just below 1.
        self._threshold = np.float32(threshold) - np.float32(1e-6)
        self._keeper = np.full(len(units), -1, np.intp)
        self._cosine = np.zeros(len(units), np.float32)

    def groups(self, order: Indices) -> list[Group]:
        """The groups, of rows as they were before they were put in `order`."""
        for start in range(0, len(self._units), _ROWS):
            kept = self._decide(start, min(start + _ROWS, len(self._units)))
            for column in range(start + _ROWS, len(self._units) if len(kept) else 0, _COLUMNS):
                self._take(kept, column, min(column + _COLUMNS, len(self._units)))
        return self._collected(order)

    def _decide(self, start: int, stop: int) -> Indices:
        """Which rows of a block are kept; the others of the block that resemble one of them are taken."""
        block = self._units[start:stop]
        cosines = block @ block.T
        keeper = self._keeper[start:stop]
        for row in range(stop - start):
            if keeper[row] < 0:
                keeper[row] = start + row
                taken = (cosines[row] >= self._threshold) & (keeper < 0)
                keeper[taken], self._cosine[start:stop][taken] = start + row, cosines[row][taken]
        return start + np.flatnonzero(keeper == np.arange(start, stop))

    def _take(self, kept: Indices, start: int, stop: int) -> None:
        cosines = self._units[kept] @ self._units[start:stop].T
        similar = cosines >= self._threshold
        first = similar.argmax(axis=0)
        columns = np.flatnonzero(similar.any(axis=0) & (self._keeper[start:stop] < 0))
        self._keeper[start + columns] = kept[first[columns]]
        self._cosine[start + columns] = cosines[first[columns], columns]

    def _collected(self, order: Indices) -> list[Group]:
        others = np.flatnonzero(self._keeper != np.arange(len(self._keeper)))
        members: dict[int, list[int]] = {}
        for row in others.tolist():
            members.setdefault(int(self._keeper[row]), []).append(row)
        similarities = np.minimum(self._cosine, 1).astype(float)
        return [
            Group(int(order[keep]), tuple(order[rows].tolist()), tuple(similarities[rows].tolist()))
            for keep, rows in sorted(members.items())
        ]


def _matrix(values: ArrayLike, name: str) -> Array:
    rows: Any = np.asarray(values)
    if rows.size == 0 and rows.ndim < 2:
        rows = rows.reshape(0, 0)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise ArgumentError(f"{name} must be numbers of shape (N, C), got {rows.dtype} of shape {rows.shape}")
    rows = rows if rows.dtype.kind == "f" else rows.astype(np.float32)
    if not all(np.isfinite(rows[start : start + _COLUMNS]).all() for start in range(0, len(rows), _COLUMNS)):
        raise ArgumentError(f"{name} must be finite")
    return np.asarray(rows)


def _by_preference(preference: ArrayLike | None, count: int) -> Indices:
    if preference is None:
        return np.arange(count)
    ranks = np.asarray(preference)
    if ranks.shape != (count,):
        raise ArgumentError(f"preference must have the shape ({count},), got {ranks.shape}")
    # Sorted upwards from behind, since unsigned numbers have no negatives.
    return count - 1 - np.argsort(ranks[::-1], kind="stable")[::-1]


def _largest(values: Array, count: int) -> Indices:
    """Positions of the `count` largest, largest first; among equals the earlier first."""
    if count < len(values):
        bound = np.partition(values, len(values) - count)[len(values) - count]
        candidates = np.flatnonzero(values >= bound)
    else:
        candidates = np.arange(len(values))
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]
