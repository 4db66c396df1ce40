"""Time per node, as a table."""

from __future__ import annotations

from npmnv2.results.profile import Profile, Timing

PROFILE = Profile([Timing("Conv1", 0.001, 5_000_000), Timing("block_1", 0.003, 3_000_000), Timing("add", 1e-7, 0)])


def test_table():
    assert str(PROFILE).splitlines() == [
        "layer                                  ms  GFLOP/s   share",
        "Conv1                               1.000     10.0   25.0%",
        "block_1                             3.000      2.0   75.0%",
        "add                                 0.000      0.0   <0.1%",
        "total                               4.000      4.0  100.0%",
    ]


def test_repr_is_short():
    assert repr(PROFILE) == "<Profile: 3 nodes, 4.00 ms>"


def test_nothing_took_no_time():
    assert str(Profile([Timing("a", 0.0, 7)])).splitlines()[-1].split() == ["total", "0.000", "0.0", "0.0%"]


def test_busy_threads():
    profile = Profile([Timing("Conv1", 0.001, 0, (0.001, 0.0005)), Timing("block_1", 0.003, 0, (0.002,))])
    assert [line.split()[-1] for line in str(profile).splitlines()] == ["busy", "75.0%", "33.3%", "43.8%"]
