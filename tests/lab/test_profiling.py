"""Medians of profiles, and the yardstick of speeds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npmnv2.backends.selection import get_backend
from npmnv2.lab.profiling import median_profile, peak_speed
from npmnv2.results.profile import Profile, Timing


def test_every_node_has_its_own_median() -> None:
    times = iter([(3.0, 1.0), (1.0, 9.0), (2.0, 2.0)])

    class Model:
        def profile(self, photo):
            assert photo == "a.jpg"
            return Profile([Timing(name, seconds, 5, (seconds,)) for name, seconds in zip("ab", next(times))])

    found = median_profile(Model(), "a.jpg", 3)
    assert list(found) == [Timing("a", 2.0, 5, (2.0,)), Timing("b", 2.0, 5, (2.0,))]


@pytest.mark.parametrize("name", ["numpy", "auto"])
def test_the_peak_is_a_speed(name) -> None:
    speed = peak_speed(get_backend(name, np.dtype(np.float32)), 1, seconds=0.01)
    assert math.isfinite(speed)
    assert speed > 1e7
