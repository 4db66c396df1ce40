"""Where the time of a network goes, and what the machine could do at best."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from npmnv2.backends.interface import Backend
from npmnv2.network.layers import Conv
from npmnv2.network.plan import IMAGE, Node, Plan
from npmnv2.results.profile import Profile, Timing

# A pointwise convolution whose weights and maps stay in the second-level cache: a matrix product, and nothing else.
_CHANNELS, _SIDE = 192, 32
_BEST = "best"


def median_profile(model: Any, photo: Any, runs: int = 10) -> Profile:
    """Profile a model several times on one photo; of every node the run of median length."""
    profiles = [model.profile(photo) for _ in range(runs)]
    return Profile(_median(timings) for timings in zip(*profiles, strict=True))


def _median(timings: tuple[Timing, ...]) -> Timing:
    middle = statistics.median_low(timing.seconds for timing in timings)
    return next(timing for timing in timings if timing.seconds == middle)


def peak_speed(backend: Backend, n_threads: int | None = None, seconds: float = 0.2) -> float:
    """FLOP/s of the best run of a pointwise convolution that stays in the cache, a multiply-add counted as two.

    The compiled kernels come near the processor's own peak there, which makes it a yardstick for other layers.
    """
    layer = Conv(filters=_CHANNELS, kernel=1, activation="linear", norm=None)
    plan = Plan((Node(_BEST, layer, (IMAGE,)),), channels=_CHANNELS)
    rng = np.random.default_rng(0)
    weights = {
        f"{_BEST}/kernel": rng.normal(size=(_CHANNELS, _CHANNELS)).astype(np.float32),
        f"{_BEST}/bias": np.zeros(_CHANNELS, np.float32),
    }
    x = rng.normal(size=(1, _SIDE, _SIDE, _CHANNELS)).astype(np.float32)
    run = backend.compile(plan, weights, n_threads)
    return 2 * plan.multiply_adds(_SIDE) / _shortest(lambda: run(x, [_BEST]), seconds)


def _shortest(call: Callable[[], object], seconds: float) -> float:
    call()
    shortest, end = float("inf"), time.perf_counter() + seconds
    while shortest == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest
