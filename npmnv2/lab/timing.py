"""Timing of calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def median_seconds(call: Callable[[], object], seconds: float) -> float:
    """Call repeatedly for about `seconds` and return the median duration of a call.

    A first call warms up and is not counted; at least one is.
    """
    call()
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while not durations or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)
