"""How many threads to use."""

from __future__ import annotations

import operator
import os
from contextlib import suppress
from pathlib import Path
from typing import SupportsIndex

from npmnv2.errors import ArgumentError, ArgumentTypeError

MAX_WORKERS = 256


def default_threads(n_threads: SupportsIndex | None = None) -> int:
    """Return how many threads to use: `n_threads`, else NPMNV2_NUM_THREADS, else OMP_NUM_THREADS, else all usable CPUs.

    CPUs are usable if the process may run on them (its affinity) and its control group has time on them (its quota).
    Only the first two may exceed them: OMP_NUM_THREADS is often set for a whole machine.

    Raises
    ------
    ArgumentTypeError, ArgumentError
        If `n_threads` or NPMNV2_NUM_THREADS is not a whole number from 1 to 256.
    """
    if n_threads is not None:
        if isinstance(n_threads, bool) or not hasattr(n_threads, "__index__"):
            raise ArgumentTypeError(
                f"n_threads (={n_threads!r}) must be a whole number or None, got {type(n_threads).__name__}"
            )
        return _in_range("n_threads", operator.index(n_threads), n_threads)
    if own := os.environ.get("NPMNV2_NUM_THREADS", "").strip():
        return _in_range("NPMNV2_NUM_THREADS", int(own) if own.isdecimal() else 0, own)
    most = min(usable_cpus(), MAX_WORKERS)
    # OpenMP allows a list, one number per level of nesting, and other programs' mistakes are not ours to report.
    openmp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(int(openmp), most) if openmp.isdecimal() and int(openmp) > 0 else most


def _in_range(name: str, number: int, given: object) -> int:
    if not 1 <= number <= MAX_WORKERS:
        raise ArgumentError(f"{name} (={given}) must be a whole number from 1 to {MAX_WORKERS}")
    return number


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use at a time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _cpu_quota() -> float | None:
    """CPUs' worth of time that the control group grants (containers set this), None if there is no limit."""
    with suppress(OSError, ValueError, IndexError):  # version 2: "max 100000" or "150000 100000"
        quota, period = (_CGROUPS / "cpu.max").read_text().split()[:2]
        return int(quota) / int(period)
    with suppress(OSError, ValueError):  # version 1: -1 means no limit
        quota_us = int((_CGROUPS / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((_CGROUPS / "cpu" / "cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else None
    return None


_CGROUPS = Path("/sys/fs/cgroup")
