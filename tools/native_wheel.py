"""setuptools' build backend, which compiles the kernels ahead of time where it can when it builds a wheel.

NPMNV2_NATIVE=1 insists on it, NPMNV2_NATIVE=0 forbids it. Without it, wheels are native where this platform is known, a
C compiler is there, and Numba supports this Python. NPMNV2_PLATFORM names another platform to build for.
Editable installations and source distributions are always pure: they need none of the packages below.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

# Exact: the same sources then give the same bytes.
_COMPILER = ["numba==0.68.1", "llvmlite==0.50.0", "numpy>=1.24"]
_LINKER = ["ziglang==0.17.1"]
# Platforms, as `build_native.PLATFORMS` calls them, and the tags of their wheels.
TAGS = {
    "linux-x86_64": "manylinux_2_17_x86_64.manylinux2014_x86_64",
    "linux-aarch64": "manylinux_2_17_aarch64.manylinux2014_aarch64",
    "musllinux-x86_64": "musllinux_1_2_x86_64",
    "musllinux-aarch64": "musllinux_1_2_aarch64",
    "macosx-x86_64": "macosx_11_0_x86_64",
    "macosx-arm64": "macosx_11_0_arm64",
    "win-amd64": "win_amd64",
}
# How setup.py is told what to build.
SETTING = "_NPMNV2_BUILD_FOR"


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What has to be installed to build a wheel here."""
    needed = list(build_meta.get_requires_for_build_wheel(config_settings))
    target = native_platform()
    if target:
        needed += _COMPILER
        needed += [] if target == this_platform() and _has_compiler() else _LINKER
    return needed


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build a wheel, native or pure."""
    target = native_platform()
    if target is None:
        print("npmnv2: a pure wheel, without native kernels (NPMNV2_NATIVE=1 insists on them)", file=sys.stderr)
    os.environ[SETTING] = target or ""
    try:
        return str(build_meta.build_wheel(wheel_directory, config_settings, metadata_directory))
    finally:
        del os.environ[SETTING]


def native_platform() -> str | None:
    """The platform that a native wheel is to be built for; None for a pure one."""
    wanted = os.environ.get("NPMNV2_NATIVE", "")
    chosen = os.environ.get("NPMNV2_PLATFORM", "") or this_platform()
    if wanted == "0":
        return None
    if wanted == "1" or os.environ.get("NPMNV2_PLATFORM"):
        if chosen not in TAGS:
            raise SystemExit(f"NPMNV2_PLATFORM (={chosen}) must be one of {', '.join(TAGS)}")
        return chosen
    return chosen if chosen in TAGS and _has_compiler() and sys.version_info < (3, 14) else None


def this_platform() -> str:
    """The key in TAGS of the platform that this runs on; none of them where it is unknown."""
    machine = platform.machine().lower()
    if sys.platform == "win32":
        return f"win-{machine}"
    if sys.platform == "darwin":
        return f"macosx-{machine}"
    return f"{'linux' if platform.libc_ver()[0] == 'glibc' else 'musllinux'}-{machine}"


def _has_compiler() -> bool:
    return shutil.which((os.environ.get("CC") or "cc").split()[0]) is not None
