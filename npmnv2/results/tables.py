"""Plans, profiles and results as text: tables, JSON, CSV and HTML."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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


def percent(share: float) -> str:
    """A share of 0…1 in percent. A share that would round to zero is "<0.1%"."""
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def json_line(values: Mapping[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(values, ensure_ascii=False)


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]], header: bool) -> str:
    """Lines of CSV; floats have six decimals."""
    import csv

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(columns)
    for row in rows:
        writer.writerow([f"{value:.6f}" if isinstance(value, float) else value for value in row])
    return text.getvalue()


def html_figure(caption: str, picture: str | None, rows: Iterable[Sequence[str]]) -> str:
    """A picture, given as a data URI, beside a table with one line per row. All text is escaped; there is no script.

    A cell that is a color, ``#rrggbb``, becomes a swatch.
    """
    import html

    image = f'<img src="{html.escape(picture)}" alt="" style="max-height: 256px">' if picture else ""
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<figure style="display: flex; gap: 1em; align-items: flex-start; margin: 0">{image}'
        f'<table style="margin: 0"><caption style="text-align: left">{html.escape(caption)}</caption>{lines}</table>'
        "</figure>"
    )


def _cell(text: str) -> str:
    if len(text) == 7 and text.startswith("#") and set(text[1:]) <= set("0123456789abcdef"):
        return f'<td><span style="background: {text}">&emsp;</span></td>'
    import html

    return f'<td style="text-align: left">{html.escape(text)}</td>'
