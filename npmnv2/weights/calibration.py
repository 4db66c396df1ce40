"""Ranges of values from samples of them: what a network's integers have to reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import ArgumentError

METHODS = ("minmax", "percentile", "mse")

Range = tuple[float, float]

_BINS = 2048
_STEPS = 255
# Shares of the full range among which the smallest error is looked for.
_SHRINKS = np.linspace(1.0, 0.3, 71)


@dataclass
class Calibration:
    """Extremes, means and histograms of every value of a network.

    Values are added twice: first to find the extremes and means (`widen`), then, for the methods that look at how
    values are spread, to count them in the bins between these (`count`).

    Attributes
    ----------
    ranges : dict of str to (low, high)
        Extremes of every value.
    counts : dict of str to integers
        Histogram of every value.
    largest : dict of str to numbers [shape=(C,)]
        Size of the largest number in every channel of each value.
    """

    ranges: dict[str, Range] = field(default_factory=dict)
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    largest: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _energies: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)

    def widen(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Take in the smallest and largest number of each array, and what its channels hold."""
        for name, x in values.items():
            low, high = self.ranges.get(name, (np.inf, -np.inf))
            self.ranges[name] = min(low, float(x.min())), max(high, float(x.max()))
            pixels = x.reshape(-1, x.shape[-1])
            nothing = np.zeros(x.shape[-1])
            self.largest[name] = np.maximum(self.largest.get(name, nothing), np.abs(pixels).max(axis=0))
            self._sums[name] = self._sums.get(name, nothing) + pixels.sum(axis=0, dtype=np.float64)
            self._energies[name] = self._energies.get(name, nothing) + np.square(pixels, dtype=np.float64).sum(axis=0)
            self._sizes[name] = self._sizes.get(name, 0) + len(pixels)

    @property
    def means(self) -> dict[str, NDArray[np.float64]]:
        """Mean of every channel of each value."""
        return {name: total / self._sizes[name] for name, total in self._sums.items()}

    @property
    def squares(self) -> dict[str, NDArray[np.float64]]:
        """Mean square of every channel of each value."""
        return {name: total / self._sizes[name] for name, total in self._energies.items()}

    def count(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Count the numbers of each array in equal bins between the extremes."""
        for name, x in values.items():
            found, _ = np.histogram(x, _BINS, self.ranges[name])
            self.counts[name] = self.counts.get(name, np.zeros(_BINS, np.int64)) + found

    def settle(self, method: str, percentile: float) -> dict[str, Range]:
        """The range of each value.

        Parameters
        ----------
        method : {"minmax", "percentile", "mse"}
            The extremes; the range that holds `percentile` percent, leaving as much out at either end; or the range at
            which rounding and clipping together have the least mean squared error.
        """
        if method == "minmax":
            return dict(self.ranges)
        settle = _by_percentile if method == "percentile" else _by_error
        return {name: settle(self.ranges[name], counts, percentile) for name, counts in self.counts.items()}


def check_method(method: str, percentile: float) -> None:
    """Refuse a method that there is not, and percentages that make no sense.

    Raises
    ------
    ArgumentError
    """
    if method not in METHODS:
        raise ArgumentError(f"method (={method!r}) must be one of {', '.join(METHODS)}")
    if not 50 < percentile <= 100:
        raise ArgumentError(f"percentile (={percentile!r}) must be above 50 and at most 100")


def _by_percentile(extremes: Range, counts: NDArray[np.int64], percentile: float) -> Range:
    edges = np.linspace(*extremes, _BINS + 1)
    share = np.cumsum(counts) / max(1, counts.sum())
    outside = (1 - percentile / 100) / 2
    low = int(np.searchsorted(share, outside, side="right"))
    high = int(np.searchsorted(share, 1 - outside, side="left"))
    return float(edges[min(low, _BINS - 1)]), float(edges[min(high, _BINS - 1) + 1])


def _by_error(extremes: Range, counts: NDArray[np.int64], _: float) -> Range:
    edges = np.linspace(*extremes, _BINS + 1)
    centers = (edges[:-1] + edges[1:]) / 2
    low, high = min(extremes[0], 0.0), max(extremes[1], 0.0)
    best, least = (low, high), np.inf
    for shrink in _SHRINKS:
        bottom, top = low * shrink, high * shrink
        clipped = np.clip(centers, bottom, top) - centers
        # Rounding to steps of s has the mean squared error s²/12.
        error = float((counts * clipped**2).sum() + counts.sum() * ((top - bottom) / _STEPS) ** 2 / 12)
        if error < least:
            best, least = (bottom, top), error
    return best
