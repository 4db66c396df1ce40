"""Time per node."""

from __future__ import annotations

from typing import NamedTuple

from npmnv2.results.tables import percent


class Timing(NamedTuple):
    """What one node cost.

    Attributes
    ----------
    name : str
    seconds : float
    multiply_adds : int
    busy : tuple of float
        Seconds of work of each thread that shared it; empty where that is not measured.
    """

    name: str
    seconds: float
    multiply_adds: int
    busy: tuple[float, ...] = ()


class Profile(list[Timing]):
    """Time per node; prints as a table."""

    def __str__(self) -> str:
        """Milliseconds, GFLOP/s (two operations a multiply-add) and share of the whole, node by node.

        Where several threads computed, also how busy they were: their time of work of the time that they had.
        """
        busy = tuple(sum(timing.busy) for timing in self)
        total = Timing("total", self.seconds, sum(timing.multiply_adds for timing in self), busy)
        threads = max((len(timing.busy) for timing in self), default=0)
        header = f"{'layer':32} {'ms':>8} {'GFLOP/s':>8} {'share':>7}{'    busy' if threads > 1 else ''}"
        return "\n".join([header, *(self._line(timing, threads) for timing in [*self, total])])

    def __repr__(self) -> str:
        """The number of nodes and their time."""
        return f"<Profile: {len(self)} nodes, {self.seconds * 1e3:.2f} ms>"

    @property
    def seconds(self) -> float:
        """Time of all nodes."""
        return sum(timing.seconds for timing in self)

    def _line(self, timing: Timing, threads: int) -> str:
        name, seconds, multiply_adds, busy = timing
        speed = 2e-9 * multiply_adds / seconds if seconds else 0.0
        share = seconds / self.seconds if self.seconds else 0.0
        line = f"{name:32} {seconds * 1e3:8.3f} {speed:8.1f} {percent(share):>7}"
        return line + (f" {percent(sum(busy) / (threads * seconds)):>7}" if threads > 1 and seconds else "")
