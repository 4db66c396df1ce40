"""Plans and profiles as text."""

from __future__ import annotations

from npmnv2.network.plan import Plan


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
