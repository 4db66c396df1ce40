"""What is said while kernels are compiled."""

from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("numba")

import numba
from npmnv2.kernels.device import notice


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def event(module: str = "npmnv2.kernels.device.program") -> SimpleNamespace:
    function = SimpleNamespace(__module__=module)
    return SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=function)})


def compile_once(module: str = "npmnv2.kernels.device.program") -> None:
    """One function that calls two others."""
    listener = notice._Notice()
    listener.on_start(event(module))
    for _ in range(2):
        listener.on_start(event(module))
        listener.on_end(event(module))
    listener.on_end(event(module))


def test_one_message_where_nobody_looks(caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    # A command that ran in this process has left its handler, which prints messages.
    monkeypatch.setattr(logging.getLogger("npmnv2"), "handlers", [])
    with caplog.at_level(logging.INFO, "npmnv2"):
        compile_once()
    assert [record.getMessage() for record in caplog.records] == [notice._MESSAGE]
    assert sys.stderr.getvalue() == ""


def test_a_bar_on_a_terminal(caplog, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with caplog.at_level(logging.INFO, "npmnv2"):
        compile_once()
    assert "compiling the kernels" in sys.stderr.getvalue()
    assert sys.stderr.getvalue().endswith("\r")  # cleared when all is done
    assert caplog.records == []


def test_functions_of_others_are_not_announced(caplog, monkeypatch):
    with caplog.at_level(logging.INFO, "npmnv2"):
        compile_once("somebody.else")
        assert numba.njit(lambda x: x + 1)(1) == 2
    assert caplog.records == []


def test_numba_tells_of_real_kernels(caplog):
    from npmnv2.kernels.device.jit import njit

    def increment(x):
        return x + 1

    increment.__module__ = notice.__name__
    with caplog.at_level(logging.INFO, "npmnv2"):
        assert njit(increment, variant="test of the notice", cached=False)(1) == 2
    assert [record.getMessage() for record in caplog.records] == [notice._MESSAGE]
