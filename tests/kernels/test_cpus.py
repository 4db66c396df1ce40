"""How many threads to use: arguments, settings, affinity and quotas."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from npmnv2.kernels.host import cpus
from npmnv2.kernels.host.cpus import default_threads

from npmnv2.errors import ArgumentError, ArgumentTypeError


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("NPMNV2_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 7)
    return monkeypatch


@pytest.mark.parametrize(
    ("argument", "own", "openmp", "expected"),
    [
        (3, "4", "5", 3),
        (None, "4", "5", 4),
        (None, "", "5", 5),
        (None, None, "5,2", 5),
        (None, None, "64", 7),
        (None, "64", None, 64),
        (None, None, "many", 7),
        (None, None, "0", 7),
        (None, None, None, 7),
        (np.int64(2), None, None, 2),
    ],
)
def test_settings_in_order_of_precedence(
    no_settings: pytest.MonkeyPatch, argument: int | None, own: str | None, openmp: str | None, expected: int
) -> None:
    for name, value in (("NPMNV2_NUM_THREADS", own), ("OMP_NUM_THREADS", openmp)):
        if value is not None:
            no_settings.setenv(name, value)
    assert default_threads(argument) == expected


@pytest.mark.parametrize("number", [0, -1, 257])
def test_impossible_number_of_threads(number: int) -> None:
    with pytest.raises(ArgumentError, match=rf"n_threads \(={number}\) must be a whole number from 1 to 256"):
        default_threads(number)


@pytest.mark.parametrize("value", [2.0, "2", True])
def test_number_of_threads_of_a_wrong_type(value: object) -> None:
    with pytest.raises(ArgumentTypeError, match=r"n_threads \(=.*\) must be a whole number or None, got"):
        default_threads(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["0", "two", "1.5", "-1", "257"])
def test_wrong_setting(no_settings: pytest.MonkeyPatch, value: str) -> None:
    no_settings.setenv("NPMNV2_NUM_THREADS", value)
    with pytest.raises(ArgumentError, match=rf"NPMNV2_NUM_THREADS \(={value}\) must be"):
        default_threads()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "300000 100000\n"}, 3),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "\n"}, 4),
        ({}, 4),
    ],
)
def test_quota_of_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cpus, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert cpus.usable_cpus() == expected
