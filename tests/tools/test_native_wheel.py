"""When a wheel is native, and what has to be installed to build it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
if not TOOLS.is_dir():
    pytest.skip("needs the repository", allow_module_level=True)
pytest.importorskip("setuptools", "64")


@pytest.fixture
def native_wheel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(TOOLS)
    for setting in ("NPMNV2_NATIVE", "NPMNV2_PLATFORM", "CC"):
        monkeypatch.delenv(setting, raising=False)
    import native_wheel

    monkeypatch.setattr(native_wheel.build_meta, "get_requires_for_build_wheel", lambda settings: [])
    monkeypatch.setattr(native_wheel, "this_platform", lambda: "linux-x86_64")
    monkeypatch.setattr(native_wheel, "_has_compiler", lambda: True)
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    return native_wheel


def test_with_a_compiler_wheels_are_native(native_wheel) -> None:
    assert native_wheel.native_platform() == "linux-x86_64"
    needed = native_wheel.get_requires_for_build_wheel()
    assert [each.partition("==")[0] for each in needed if "==" in each] == ["numba", "llvmlite"]


def test_without_one_they_are_pure_and_need_nothing(native_wheel, monkeypatch) -> None:
    monkeypatch.setattr(native_wheel, "_has_compiler", lambda: False)
    assert native_wheel.native_platform() is None
    assert not [each for each in native_wheel.get_requires_for_build_wheel() if "numba" in each]


def test_they_can_be_insisted_on_and_forbidden(native_wheel, monkeypatch) -> None:
    monkeypatch.setenv("NPMNV2_NATIVE", "0")
    assert native_wheel.native_platform() is None
    monkeypatch.setattr(native_wheel, "_has_compiler", lambda: False)
    monkeypatch.setenv("NPMNV2_NATIVE", "1")
    assert native_wheel.native_platform() == "linux-x86_64"
    assert any(each.startswith("ziglang==") for each in native_wheel.get_requires_for_build_wheel())


def test_another_platform_is_linked_by_zig(native_wheel, monkeypatch) -> None:
    monkeypatch.setenv("NPMNV2_PLATFORM", "macosx-arm64")
    assert native_wheel.native_platform() == "macosx-arm64"
    assert any(each.startswith("ziglang==") for each in native_wheel.get_requires_for_build_wheel())


def test_unknown_platforms(native_wheel, monkeypatch) -> None:
    monkeypatch.setattr(native_wheel.build_meta, "get_requires_for_build_wheel", lambda settings: [])
    monkeypatch.setattr(native_wheel, "this_platform", lambda: "linux-riscv64")
    assert native_wheel.native_platform() is None
    monkeypatch.setenv("NPMNV2_NATIVE", "1")
    with pytest.raises(SystemExit, match=r"NPMNV2_PLATFORM \(=linux-riscv64\) must be one of linux-x86_64, "):
        native_wheel.native_platform()


def test_a_python_that_numba_does_not_know(native_wheel, monkeypatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert native_wheel.native_platform() is None


def test_editable_installations_need_what_setuptools_needs(native_wheel) -> None:
    from setuptools import build_meta

    assert native_wheel.get_requires_for_build_editable == build_meta.get_requires_for_build_editable
    assert native_wheel.build_editable == build_meta.build_editable
