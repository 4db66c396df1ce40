"""Plans and profiles as text."""

from __future__ import annotations

from collections.abc import Sequence

from npmnv2.backends import Timing
from npmnv2.numerics import Difference
from npmnv2.plan import Plan


def plan_table(plan: Plan, height: int = 224, width: int | None = None) -> str:
    """Every node of a plan with its output shape, parameters and multiply-adds, and their sums."""
    rows = plan.table(height, width)
    lines = [f"{'layer':26} {'output':>15} {'parameters':>12} {'multiply-adds':>15}"]
    for row in rows:
        shape = "×".join(map(str, row.output_shape))
        lines.append(f"{row.name:26} {shape:>15} {row.parameters:12,} {row.multiply_adds:15,}")
    totals = sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)
    lines.append(f"{'total':26} {'':>15} {totals[0]:12,} {totals[1]:15,}")
    return "\n".join(lines)


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


def difference_table(differences: Sequence[Difference]) -> str:
    """Layer by layer: largest difference, its share of the layer's largest value, units in the last place, cosine."""
    lines = [f"{'layer':26} {'largest':>10} {'relative':>10} {'ulps':>8} {'1 - cosine':>11}"]
    for name, largest, relative, ulps, cosine in differences:
        lines.append(f"{name:26} {largest:10.2e} {relative:10.2e} {ulps:8.1f} {1 - cosine:11.1e}")
    return "\n".join(lines)
