"""The values of a run by the endpoint's name, and what can be said of their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from npmnv2.kernels import Array
from npmnv2.results.tables import percent


class ValueSummary(NamedTuple):
    """The numbers of one value.

    Attributes
    ----------
    name : str
    shape : tuple of int
    low, mean, high : float
    zeros : float
        Share of numbers that are 0: what a ReLU cut off.
    saturated : float or None
        Share of numbers at the activation's upper limit (6 for ReLU6); None where there is none.
    """

    name: str
    shape: tuple[int, ...]
    low: float
    mean: float
    high: float
    zeros: float
    saturated: float | None


class TraceSummary(tuple[ValueSummary, ...]):
    """One `ValueSummary` for every value; prints as a table."""

    def __str__(self) -> str:
        """Name, shape, minimum, mean, maximum, zeros and share at the upper limit."""
        lines = [f"{'value':28} {'shape':>15} {'min':>9} {'mean':>9} {'max':>9} {'zeros':>7} {'at top':>7}"]
        for row in self:
            shape = "×".join(map(str, row.shape))
            top = "–" if row.saturated is None else percent(row.saturated)
            numbers = f"{row.low:9.4f} {row.mean:9.4f} {row.high:9.4f} {percent(row.zeros):>7} {top:>7}"
            lines.append(f"{row.name:28} {shape:>15} {numbers}")
        return "\n".join(lines)


class Trace(dict[str, Array]):
    """Values by the names of their endpoints, in order: a dictionary that knows the upper limits of its activations.

    Parameters
    ----------
    values : dict of str to Array
    tops : dict of str to float
        Upper limits of the values that have one.
    """

    def __init__(self, values: Mapping[str, Array], tops: Mapping[str, float]) -> None:
        super().__init__(values)
        self.tops = dict(tops)

    def summary(self) -> TraceSummary:
        """Minimum, mean, maximum, zeros and saturated numbers of every value; prints as a table."""
        return TraceSummary(_summary(name, value, self.tops.get(name)) for name, value in self.items())


def _summary(name: str, value: Array, top: float | None) -> ValueSummary:
    def share(where: np.ndarray) -> float:
        return float(np.count_nonzero(where) / max(value.size, 1))

    return ValueSummary(
        name,
        value.shape,
        float(value.min()),
        float(value.mean(dtype=np.float64)),
        float(value.max()),
        share(value == 0),
        None if top is None else share(value >= value.dtype.type(top)),
    )
