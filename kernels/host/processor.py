"""The processor at hand, whose caches sizes of tiles follow; no result depends on it."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

KIB = 1024
_CPUS = Path("/sys/devices/system/cpu")
# What is outside of these limits is no cache of a processor, but what a virtual machine makes of one.
_L1_LIMITS, _L2_LIMITS = (8 * KIB, 512 * KIB), (64 * KIB, 16 * KIB * KIB)


@dataclass(frozen=True)
class Processor:
    """What one core can keep at hand, and how it multiplies.

    Attributes
    ----------
    l1_bytes : int
        Size of its first-level data cache. The default is what most processors have at least.
    l2_bytes : int
        Its part of the second-level cache, which other cores may share.
    half_width : bool
        Whether a vector of 512 bits takes its units two cycles. Then there is time to load what a multiply-add needs
        anew for each of them; others can load two vectors in a cycle, and need them all for two multiply-adds.
    """

    l1_bytes: int = 32 * KIB
    l2_bytes: int = 512 * KIB
    half_width: bool = False


class Cache(NamedTuple):
    """A cache of data: its level, its size in bytes, and how many of the system's CPUs share it."""

    level: int
    size: int
    sharers: int = 1


@functools.cache
def this_processor() -> Processor:
    """The processor that this process runs on, as far as its system tells."""
    return processor_of(_caches(sys.platform))


def processor_of(caches: list[Cache]) -> Processor:
    """What the smallest core has, of the caches of all cores: any of them may run any piece of a network."""
    # A core of several threads counts as so many CPUs, which share its first level too.
    threads = min((cache.sharers for cache in caches if cache.level == 1), default=1)
    of_core = [(cache.level, cache.size * threads // max(cache.sharers, threads, 1)) for cache in caches]
    l1, l2 = (_smallest(of_core, level, limits) for level, limits in ((1, _L1_LIMITS), (2, _L2_LIMITS)))
    known = Processor()
    return Processor(l1 or known.l1_bytes, max(l2 or known.l2_bytes, 2 * (l1 or known.l1_bytes)))


def _smallest(of_core: list[tuple[int, int]], level: int, limits: tuple[int, int]) -> int:
    """The smallest believable size of a level; 0 if there is none."""
    return min((size for at, size in of_core if at == level and limits[0] <= size <= limits[1]), default=0)


def _caches(system: str) -> list[Cache]:
    """All caches of data that a system tells of; none where it cannot be asked."""
    with suppress(OSError, ValueError, AttributeError):
        if system == "linux":
            return [cache for cache in linux_caches(_CPUS) if cache.size] or list(libc_caches())
        if system == "darwin":
            return list(macos_caches(ctypes.CDLL(None)))
        if system == "win32":
            return list(windows_caches(ctypes.CDLL("kernel32")))
    return []


# ---- Linux -----------------------------------------------------------------------------------------------------------


def linux_caches(cpus: Path) -> Iterator[Cache]:
    """What the kernel tells in a folder for every cache of every CPU."""
    for folder in sorted(cpus.glob("cpu[0-9]*/cache/index[0-9]*")):
        with suppress(OSError, ValueError):
            if _read(folder, "type") in ("Data", "Unified"):
                yield Cache(int(_read(folder, "level")), _bytes(_read(folder, "size")), _sharers(folder))


def _read(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip()


def _bytes(size: str) -> int:
    """Bytes of a size such as "32K"."""
    found = re.fullmatch(r"(\d+)([KMG]?)", size)
    if found is None:
        raise ValueError(size)
    return int(int(found[1]) * KIB ** " KMG".index(found[2] or " "))


def _sharers(folder: Path) -> int:
    """CPUs in a list such as "0-3,8"; 1 where it is missing."""
    with suppress(OSError, ValueError):
        ranges = (piece.split("-") for piece in _read(folder, "shared_cpu_list").split(","))
        return sum(int(ends[-1]) - int(ends[0]) + 1 for ends in ranges)
    return 1


# glibc's numbers of what `sysconf` tells; Python has no names for them.
_LEVEL1_DCACHE_SIZE, _LEVEL2_CACHE_SIZE = 188, 191


def libc_caches() -> Iterator[Cache]:
    """What the C library finds out where the kernel's folders are hidden: glibc asks an x86 processor itself."""
    for level, number in ((1, _LEVEL1_DCACHE_SIZE), (2, _LEVEL2_CACHE_SIZE)):
        yield Cache(level, os.sysconf(number))


# ---- macOS -----------------------------------------------------------------------------------------------------------


def macos_caches(libc: Any) -> Iterator[Cache]:
    """What sysctl tells: of each kind of cores ("perflevel"), or of all where there is only one."""
    kinds = [f"hw.perflevel{kind}." for kind in range(_sysctl(libc, "hw.nperflevels"))] or ["hw."]
    for kind in kinds:
        yield Cache(1, _sysctl(libc, f"{kind}l1dcachesize"))
        yield Cache(2, _sysctl(libc, f"{kind}l2cachesize"), max(_sysctl(libc, f"{kind}cpusperl2"), 1))


def _sysctl(libc: Any, name: str) -> int:
    value = ctypes.c_int64(0)
    size = ctypes.c_size_t(ctypes.sizeof(value))
    missing = libc.sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return 0 if missing else int(value.value)


# ---- Windows ---------------------------------------------------------------------------------------------------------


class _CacheDescriptor(ctypes.Structure):
    _fields_ = (
        ("level", ctypes.c_uint8),
        ("associativity", ctypes.c_uint8),
        ("line", ctypes.c_uint16),
        ("size", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
    )


class _About(ctypes.Union):
    _fields_ = (("cache", _CacheDescriptor), ("reserved", 2 * ctypes.c_uint64))


class WindowsRecord(ctypes.Structure):
    """SYSTEM_LOGICAL_PROCESSOR_INFORMATION."""

    _fields_ = (("mask", ctypes.c_size_t), ("relationship", ctypes.c_uint32), ("about", _About))


_RELATION_CACHE, _UNIFIED, _DATA = 2, 0, 2


def windows_caches(kernel32: Any) -> Iterator[Cache]:
    """What kernel32 tells of every cache."""
    length = ctypes.c_uint32(0)
    kernel32.GetLogicalProcessorInformation(None, ctypes.byref(length))
    records = (WindowsRecord * (length.value // ctypes.sizeof(WindowsRecord)))()
    if kernel32.GetLogicalProcessorInformation(records, ctypes.byref(length)):
        for each in records:
            cache = each.about.cache
            if each.relationship == _RELATION_CACHE and cache.type in (_UNIFIED, _DATA):
                yield Cache(cache.level, cache.size, bin(each.mask).count("1"))
