"""What an ARM processor has beyond NEON, by LLVM's names. The system is asked: nothing is tried."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# Features that kernels choose by: entry and bit of Linux's auxiliary vector, macOS's name, Windows' number.
_HWCAP = {"dotprod": (16, 1 << 20)}
_SYSCTL = {"dotprod": b"hw.optional.arm.FEAT_DotProd"}
_PROCESSOR_FEATURE = {"dotprod": 43}


def arm_features(system: str = sys.platform, library: Any = None) -> frozenset[str]:
    """The features of this processor, of those that kernels choose instructions by.

    Parameters
    ----------
    system : str
        As in `sys.platform`.
    library : ctypes.CDLL, optional
        What is asked: the C library, or Windows' kernel32.

    Returns
    -------
    frozenset of str
        Empty where the system cannot be asked.
    """
    if system == "linux":
        libc = library or ctypes.CDLL(None)
        return frozenset(name for name, place in _HWCAP.items() if _auxiliary_has(libc, *place))
    if system == "darwin":
        libc = library or ctypes.CDLL(None)
        return frozenset(name for name, key in _SYSCTL.items() if _sysctl_is_1(libc, key))
    if system == "win32":
        kernel32 = library or ctypes.CDLL("kernel32")
        return frozenset(
            name for name, number in _PROCESSOR_FEATURE.items() if kernel32.IsProcessorFeaturePresent(number)
        )
    return frozenset()


def _auxiliary_has(libc: Any, entry: int, bit: int) -> bool:
    libc.getauxval.argtypes, libc.getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return bool(libc.getauxval(entry) & bit)


def _sysctl_is_1(libc: Any, key: bytes) -> bool:
    value = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(value))
    missing = libc.sysctlbyname(key, ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return not missing and value.value == 1
