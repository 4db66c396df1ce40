"""What the benchmarks share: CPUs, rounds in rotating order, medians, the machine's description, tables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from npmnv2.lab.timing import median_seconds

VECTORS = ("sse4_2", "avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "asimd", "sve")


def pin(threads: int) -> list[int]:
    """Bind this process, and every thread it starts later, to its last ``threads`` CPUs; return them."""
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, cpus)
    return cpus


def rounds(
    calls: Mapping[str, Callable[[], object]], count: int, seconds: float, rest: float = 0.15
) -> dict[str, list[float]]:
    """Time every call in turn, ``count`` times over, each round starting with another one.

    Before each it rests: the threads of the one before may spin for a while, those of OpenBLAS for 0.1 s.

    Returns the seconds per call of every round, so that callers can compare within a round: the machine's clock
    and its other load change from round to round, but little within one.
    """
    names = list(calls)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(count):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            time.sleep(rest)
            figures[name].append(median_seconds(calls[name], seconds))
    return figures


def ratio(figures: Sequence[float], base: Sequence[float]) -> float:
    """Return the median over the rounds of one time divided by the other of the same round."""
    return statistics.median(a / b for a, b in zip(figures, base))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a Markdown table with aligned columns, numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths)))
        return "| " + " | ".join([first, *others]) + " |"

    rule = "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    return "\n".join([line(header), f"|{rule}|", *(line(row) for row in rows)])


def machine() -> dict[str, Any]:
    """Return what a reader needs to judge the figures: processor, its vector instructions, CPUs used, system."""
    about: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cpus_used": len(os.sched_getaffinity(0)),
        "system": platform.system(),
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().split("\n\n")[0].splitlines()
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if "model name" in fields:
            numbers = f"family {fields.get('cpu family')}, model {fields.get('model')}"
            about["processor"] = f"{fields['model name']} ({numbers})"
        known = set(fields.get("flags", fields.get("Features", "")).split())
        about["vectors"] = [name for name in VECTORS if name in known]
    return about


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
