"""Time per node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Timing(NamedTuple):
    """What one node cost."""

    name: str
    seconds: float
    multiply_adds: int


class Profile(list[Timing]):
    """What every node took; prints as a table."""

    def __str__(self) -> str:
        """Milliseconds, GFLOP/s (two operations a multiply-add) and share of the whole, node by node."""
        return _profile_table(self)


def _profile_table(timings: Sequence[Timing]) -> str:
    total = sum(timing.seconds for timing in timings)
    lines = [f"{'layer':32} {'ms':>8} {'GFLOP/s':>8} {'share':>7}"]
    for name, seconds, multiply_adds in timings:
        speed = 2e-9 * multiply_adds / seconds if seconds else 0.0
        lines.append(f"{name:32} {seconds * 1e3:8.3f} {speed:8.1f} {seconds / total:7.1%}")
    operations = 2e-9 * sum(timing.multiply_adds for timing in timings)
    lines.append(f"{'total':32} {total * 1e3:8.3f} {operations / total:8.1f} {1:7.1%}")
    return "\n".join(lines)
