"""What ARM processors have: asked of every system in its own words, answered here by stand-ins."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from npmnv2.kernels.host.arm import arm_features


class Function:
    """A C function, whose types can be set."""

    def __init__(self, body: Callable[..., Any]) -> None:
        self.body = body

    def __call__(self, *arguments: Any) -> Any:
        return self.body(*arguments)


def linux(capabilities: int) -> SimpleNamespace:
    return SimpleNamespace(getauxval=Function(lambda entry: capabilities if entry == 16 else 0))


def macos(settings: dict[bytes, int]) -> SimpleNamespace:
    def sysctlbyname(key, value, size, new, new_size):
        assert size._obj.value == ctypes.sizeof(ctypes.c_int)
        assert new is None
        assert new_size.value == 0
        if key not in settings:
            return -1
        value._obj.value = settings[key]
        return 0

    return SimpleNamespace(sysctlbyname=Function(sysctlbyname))


def windows(features: set[int]) -> SimpleNamespace:
    return SimpleNamespace(IsProcessorFeaturePresent=Function(lambda number: int(number in features)))


DOT_PRODUCT = frozenset({"dotprod"})


@pytest.mark.parametrize(
    ("system", "library", "expected"),
    [
        ("linux", linux(1 << 20), DOT_PRODUCT),
        ("linux", linux(0xFFFF_FFFF_FFEF_FFFF), frozenset()),
        ("darwin", macos({b"hw.optional.arm.FEAT_DotProd": 1}), DOT_PRODUCT),
        ("darwin", macos({b"hw.optional.arm.FEAT_DotProd": 0}), frozenset()),
        ("darwin", macos({}), frozenset()),  # before macOS 12
        ("win32", windows({43}), DOT_PRODUCT),
        ("win32", windows({44}), frozenset()),
        ("freebsd14", None, frozenset()),
    ],
)
def test_systems_are_asked(system: str, library: Any, expected: frozenset[str]) -> None:
    assert arm_features(system, library) == expected


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "aarch64", reason="needs Linux on an ARM processor"
)
def test_linux_says_the_same_in_another_place() -> None:
    from pathlib import Path

    features = [line.split() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("Features")]
    if not features:
        pytest.skip("this system lists no features")
    assert arm_features() == (DOT_PRODUCT if "asimddp" in features[0] else frozenset())
