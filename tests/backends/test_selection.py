"""Which backend runs a model."""

from __future__ import annotations

import importlib.util
import logging

import numpy as np
import pytest

from npmnv2.backends import selection
from npmnv2.backends.selection import BACKENDS, get_backend

HAVE_NUMBA = importlib.util.find_spec("numba") is not None


@pytest.fixture
def without_numba(monkeypatch):
    """As if Numba were not installed, and nothing said about it yet."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "numba" else found(name))
    monkeypatch.setattr(selection, "_hinted", False)


@pytest.mark.skipif(not HAVE_NUMBA, reason="needs Numba")
@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("auto", np.float32, "numba"),
        ("auto", "float32", "numba"),
        ("auto", np.float64, "numpy"),
        ("numba", np.float32, "numba"),
        ("numpy", np.float32, "numpy"),
        ("numpy", np.float64, "numpy"),
    ],
)
def test_choice(name, dtype, expected) -> None:
    assert get_backend(name, dtype).name == expected


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("cuda", np.float32, rf"backend \(='cuda'\) must be one of {', '.join(BACKENDS)}"),
        ("numba", np.float64, r"dtype \(=float64\) must be float32 with backend='numba'; use backend='numpy'"),
    ],
)
def test_what_there_is_not(name, dtype, message) -> None:
    with pytest.raises(ValueError, match=message):
        get_backend(name, dtype)


def test_without_numba_numpy_runs_and_says_so_once(without_numba, caplog) -> None:
    with caplog.at_level(logging.WARNING, "npmnv2"):
        assert get_backend().name == "numpy"
        assert get_backend("auto").name == "numpy"
        assert get_backend("numpy").name == "numpy"
    assert [record.getMessage() for record in caplog.records] == [
        "Running on NumPy alone. pip install 'npmnv2[numba]' makes it several times as fast."
    ]


def test_numba_by_name_must_be_installed(without_numba) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'npmnv2\[numba\]'"):
        get_backend("numba")
