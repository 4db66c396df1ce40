"""Time per node."""

from __future__ import annotations

from typing import NamedTuple

from npmnv2.results.tables import percent


class Timing(NamedTuple):
    """What one node cost."""

    name: str
    seconds: float
    multiply_adds: int


class Profile(list[Timing]):
    """Time per node; prints as a table."""

    def __str__(self) -> str:
        """Milliseconds, GFLOP/s (two operations a multiply-add) and share of the whole, node by node."""
        lines = [f"{'layer':32} {'ms':>8} {'GFLOP/s':>8} {'share':>7}", *(self._line(*timing) for timing in self)]
        return "\n".join([*lines, self._line("total", self.seconds, sum(timing.multiply_adds for timing in self))])

    def __repr__(self) -> str:
        """The number of nodes and their time."""
        return f"<Profile: {len(self)} nodes, {self.seconds * 1e3:.2f} ms>"

    @property
    def seconds(self) -> float:
        """Time of all nodes."""
        return sum(timing.seconds for timing in self)

    def _line(self, name: str, seconds: float, multiply_adds: int) -> str:
        speed = 2e-9 * multiply_adds / seconds if seconds else 0.0
        share = seconds / self.seconds if self.seconds else 0.0
        return f"{name:32} {seconds * 1e3:8.3f} {speed:8.1f} {percent(share):>7}"
