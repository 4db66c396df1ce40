"""When the shares of a program's steps began and ended, as compiled code notes it down within one call."""

from __future__ import annotations

import ctypes
import functools
import itertools
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .calls import SPAN


class StepTime(NamedTuple):
    """What a step took.

    Attributes
    ----------
    seconds : float
        From the end of the step before to its own, meeting of the workers included.
    busy : tuple of float
        Seconds of work of each share.
    """

    seconds: float
    busy: tuple[float, ...]


def add_times(steps: Sequence[StepTime]) -> StepTime:
    """What some steps took together."""
    busy = itertools.zip_longest(*(step.busy for step in steps), fillvalue=0.0)
    return StepTime(sum(step.seconds for step in steps), tuple(map(sum, busy)))


class Clock:
    """Spans of all steps of one call.

    Parameters
    ----------
    n_steps, n_workers : int
    """

    def __init__(self, n_steps: int, n_workers: int) -> None:
        self._n_steps = n_steps
        self.spans = np.zeros(n_steps * n_workers, SPAN)

    @property
    def function(self) -> int:
        """Address of the function that tells the time."""
        return _function()

    def read(self, started: int, n_workers: int) -> list[StepTime]:
        """What every step took in a call that `n_workers` served, from `started` (nanoseconds, `time.time_ns`) on."""
        spans = self.spans[: self._n_steps * n_workers].reshape(self._n_steps, n_workers)
        begin, end = (spans[name] @ [1_000_000_000, 1] for name in ("begin", "end"))
        ends = np.concatenate([[started], end.max(axis=1)])
        return [
            StepTime(float(took) * 1e-9, tuple(float(share) * 1e-9 for share in busy))
            for took, busy in zip(np.diff(ends), end - begin)
        ]


@functools.cache
def _function() -> int:
    """Address of C11's ``timespec_get(span, 1)``: the time of day, which `time.time_ns` tells too."""
    function = ctypes.CDLL("ucrtbase")._timespec64_get if sys.platform == "win32" else ctypes.CDLL(None).timespec_get
    return ctypes.cast(function, ctypes.c_void_p).value or 0
