"""Times of the steps of a call."""

from __future__ import annotations

import ctypes
import time

import numpy as np
from npmnv2.kernels.host.clock import Clock, StepTime, add_times


def test_steps_last_from_the_end_of_the_one_before():
    clock = Clock(2, 2)
    begin, end = clock.spans["begin"].reshape(2, 2, 2), clock.spans["end"].reshape(2, 2, 2)
    begin[0], end[0] = [[5, 100], [5, 200]], [[5, 400], [5, 900]]
    begin[1], end[1] = [[5, 950], [5, 940]], [[6, 0], [5, 999_999_950]]
    first, second = clock.read(5_000_000_050, 2)
    np.testing.assert_allclose([first.seconds, *first.busy], [850e-9, 300e-9, 700e-9])
    np.testing.assert_allclose([second.seconds, *second.busy], [999_999_100e-9, 999_999_050e-9, 999_999_010e-9])


def test_fewer_workers_than_there_was_room_for():
    clock = Clock(3, 4)
    clock.spans["begin"][:3, 1], clock.spans["end"][:3, 1] = [1, 2, 3], [2, 3, 4]
    assert clock.read(1, 1) == [StepTime(1e-9, (1e-9,))] * 3


def test_the_function_tells_the_time_of_day():
    clock = Clock(1, 1)
    tell = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(clock.function)
    before = time.time_ns()
    assert tell(clock.spans.ctypes.data, 1) == 1
    seconds, nanoseconds = (int(number) for number in clock.spans["begin"][0])
    # The kernel may serve the two clocks from different ticks.
    assert before - 10_000_000 <= seconds * 1_000_000_000 + nanoseconds <= time.time_ns() + 10_000_000


def test_times_add_up_by_share():
    total = add_times([StepTime(1.0, (0.5,)), StepTime(2.0, (1.5, 1.0))])
    assert total == StepTime(3.0, (2.0, 1.0))
