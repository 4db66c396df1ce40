"""Median durations, by a clock that stands still between calls."""

from __future__ import annotations

import time

import pytest

from npmnv2.lab.timing import median_seconds


@pytest.fixture
def clock(monkeypatch):
    """A list whose only entry is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_the_median_leaves_out_the_first_call(clock) -> None:
    durations = iter([60.0, 1.0, 2.0, 9.0, 1.0, 3.0])

    def call() -> None:
        clock[0] += next(durations)

    assert median_seconds(call, 15.5) == 2.0
    assert not [*durations], "it goes on until the time is up"


def test_one_call_is_timed_in_any_case(clock) -> None:
    calls = []

    def call() -> None:
        calls.append(0)
        clock[0] += 5.0

    assert median_seconds(call, 0.0) == 5.0
    assert len(calls) == 2
