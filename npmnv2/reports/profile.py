"""A profile as a page: time, and share of what the machine can do, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from npmnv2.reports.charts import Bar, bar_chart
from npmnv2.reports.html import Markup, tag
from npmnv2.reports.page import Cell, Column, facts, page, row_id, section, table, verdict, write_page
from npmnv2.results.profile import Profile, Timing
from npmnv2.results.tables import percent

_COLUMNS = (
    Column("layer", "Node of the plan, in the order in which it runs; nodes with + between run as one"),
    Column("ms", "Time of the node"),
    Column("share", "Of the time of all nodes"),
    Column("multiply-adds", "For this image"),
    Column("GFLOP/s", "Two operations a multiply-add"),
    Column("of peak", "Speed as a share of the fastest layer that this machine can run"),
    Column("busy", "Time of work of all threads as a share of the time that they had"),
)


def profile_page(profile: Profile, model: str, environment: Mapping[str, Any], peak: float | None = None) -> str:
    """The text of a page.

    Parameters
    ----------
    profile : Profile
    model : str
        What was profiled.
    environment : dict
        Machine and versions (`npmnv2.lab.environment`).
    peak : float, optional
        FLOP/s that the machine reaches at best (`npmnv2.lab.profiling.peak_speed`).
    """
    # A layer may be faster than what was to be the fastest, by chance or because it is.
    peak = None if peak is None else max([peak, *map(_speed, profile)])
    return page(
        f"Profile of {model}",
        verdict(_sentence(profile, peak)),
        _sections(profile, environment, peak),
        "Times are medians of several runs of one image, node by node.",
    )


def write_profile(
    profile: Profile, model: str, environment: Mapping[str, Any], path: str | Path, peak: float | None = None
) -> None:
    """Write `profile_page`. Atomic."""
    write_page(profile_page(profile, model, environment, peak), path)


def _sentence(profile: Profile, peak: float | None) -> str:
    if not profile:
        return "there is nothing to time"
    slowest = max(profile, key=lambda timing: timing.seconds)
    speed = _speed(Timing("", profile.seconds, sum(timing.multiply_adds for timing in profile)))
    of_peak = f", {percent(speed / peak)} of the peak" if peak else ""
    took = f"{profile.seconds * 1e3:.2f} ms an image, {speed / 1e9:.1f} GFLOP/s{of_peak}"
    return f"{took}; {slowest.name} takes most, {percent(slowest.seconds / (profile.seconds or 1))}"


def _speed(timing: Timing) -> float:
    """FLOP/s."""
    return 2 * timing.multiply_adds / timing.seconds if timing.seconds else 0.0


def _sections(profile: Profile, environment: Mapping[str, Any], peak: float | None) -> Iterator[Markup]:
    longest = max((timing.seconds for timing in profile), default=0) or 1.0
    bars = [Bar(t.name, t.seconds / longest, f"{t.seconds * 1e3:.3f} ms") for t in profile]
    yield section("Time of each layer", bar_chart(bars, "Time of each layer in milliseconds"))
    if peak:
        speeds = [Bar(t.name, _speed(t) / peak, percent(_speed(t) / peak)) for t in profile]
        note = (
            f"The peak, {peak / 1e9:.0f} GFLOP/s, is measured: a 1×1 convolution whose numbers stay in the cache, or "
            "the fastest layer."
        )
        chart = bar_chart(speeds, "Speed of each layer as a share of the peak")
        yield section("Share of the peak", tag("p", note, class_="faint"), chart)
    yield section("All layers", _table(profile, peak))
    yield section("Environment", facts(environment))


def _table(profile: Profile, peak: float | None) -> Markup:
    shown = [column for column in _COLUMNS if column.head != "of peak" or peak]
    shown = [column for column in shown if column.head != "busy" or any(len(timing.busy) > 1 for timing in profile)]
    cells = [_cells(at, timing, profile.seconds or 1.0, peak) for at, timing in enumerate(profile)]
    rows = [(row_id(t.name), [row[column.head] for column in shown]) for t, row in zip(profile, cells)]
    return table(shown, rows, "Times of all layers")


def _cells(at: int, timing: Timing, total: float, peak: float | None) -> dict[str, Cell]:
    name, seconds, multiply_adds, busy = timing
    speed = _speed(timing)
    used = sum(busy) / (len(busy) * seconds) if busy and seconds else 0.0
    return {
        "layer": Cell(name, at),
        "ms": Cell(f"{seconds * 1e3:.3f}", seconds),
        "share": Cell(percent(seconds / total), seconds),
        "multiply-adds": Cell(f"{multiply_adds:,}", multiply_adds),
        "GFLOP/s": Cell(f"{speed / 1e9:.1f}", speed),
        "of peak": Cell(percent(speed / (peak or 1.0)), speed),
        "busy": Cell(percent(used), used),
    }
