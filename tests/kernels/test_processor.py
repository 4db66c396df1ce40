"""Sizes of caches: what systems tell, and what is made of nothing or of nonsense."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import pytest
from npmnv2.kernels.host import processor
from npmnv2.kernels.host.processor import (
    Cache,
    Processor,
    WindowsRecord,
    libc_caches,
    linux_caches,
    macos_caches,
    processor_of,
    this_processor,
    windows_caches,
)

KIB = 1024
MIB = KIB * KIB


def write_cpu(cpus: Path, number: int, *caches: tuple[object, str, str, str]) -> None:
    """A CPU of a fake system: level, type, size and CPUs of every cache."""
    for index, (level, kind, size, shared) in enumerate(caches):
        folder = cpus / f"cpu{number}" / "cache" / f"index{index}"
        folder.mkdir(parents=True)
        for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
            (folder / name).write_text(f"{text}\n")


def test_linux_tells_of_every_core(tmp_path: Path) -> None:
    for cpu in (0, 1):  # two threads of one core
        write_cpu(
            tmp_path, cpu, (1, "Data", "48K", "0-1"), (1, "Instruction", "32K", "0-1"), (2, "Unified", "2048K", "0-1"),
            (3, "Unified", "36M", "0-19"),
        )  # fmt: skip
    found = list(linux_caches(tmp_path))
    assert found[-1] == Cache(3, 36 * MIB, 20)
    assert processor_of(found) == Processor(48 * KIB, 2 * MIB)


def test_the_smallest_core_counts(tmp_path: Path) -> None:
    write_cpu(tmp_path, 0, (1, "Data", "48K", "0"), (2, "Unified", "2M", "0"))
    write_cpu(tmp_path, 10, (1, "Data", "32K", "10"), (2, "Unified", "2M", "10-12,15"))
    assert processor_of(list(linux_caches(tmp_path))) == Processor(32 * KIB, 512 * KIB)


@pytest.mark.parametrize(
    "caches",
    [
        (),
        ((1, "Data", "0K", "0"), (2, "Unified", "0K", "0")),
        ((1, "Data", "", ""), (2, "Unified", "much", "0")),
        (("one", "Data", "32K", "0"),),
        ((1, "Data", "4096M", "0"), (2, "Unified", "1K", "0")),
        ((3, "Unified", "32M", "0-1"),),
    ],
    ids=["nothing", "zeros", "no numbers", "no level", "out of bounds", "only the third level"],
)
def test_nonsense_counts_as_nothing(tmp_path: Path, caches: tuple[Any, ...]) -> None:
    write_cpu(tmp_path, 0, *caches)
    assert processor_of(list(linux_caches(tmp_path))) == Processor()


def test_a_missing_file_counts_as_nothing(tmp_path: Path) -> None:
    write_cpu(tmp_path, 0, (1, "Data", "64K", "0"), (2, "Unified", "1M", "0"))
    (tmp_path / "cpu0" / "cache" / "index0" / "shared_cpu_list").unlink()
    (tmp_path / "cpu0" / "cache" / "index1" / "size").unlink()
    assert processor_of(list(linux_caches(tmp_path))) == Processor(64 * KIB, 512 * KIB)


def test_a_second_level_holds_more_than_the_first() -> None:
    shared = [Cache(1, 128 * KIB), Cache(2, 1 * MIB, 16)]
    assert processor_of(shared) == Processor(128 * KIB, 256 * KIB)


def test_this_processor_is_known() -> None:
    found = this_processor()
    assert 8 * KIB <= found.l1_bytes <= found.l2_bytes // 2
    assert this_processor() is found


def test_the_c_library_is_asked_where_folders_hold_zeros(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_cpu(tmp_path, 0, (1, "Data", "0K", "0"), (2, "Unified", "0K", "0"))
    monkeypatch.setattr(processor, "_CPUS", tmp_path)
    monkeypatch.setattr(processor, "libc_caches", lambda: iter([Cache(1, 64 * KIB)]))
    assert processor._caches("linux") == [Cache(1, 64 * KIB)]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_c_library_is_asked_where_folders_are_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor, "_CPUS", tmp_path / "nothing")
    expected = list(libc_caches())
    assert processor._caches("linux") == expected


@pytest.mark.parametrize("system", ["linux", "darwin", "win32", "plan9"])
def test_a_system_that_cannot_be_asked_has_the_usual_sizes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(processor, "_CPUS", tmp_path)
    monkeypatch.setattr(processor.os, "sysconf", refuse, raising=False)
    monkeypatch.setattr(processor.ctypes, "CDLL", refuse)
    assert processor_of(processor._caches(system)) == Processor()


class Mac:
    """A C library whose sysctl knows some numbers."""

    def __init__(self, **numbers: int) -> None:
        self.numbers = {name.replace("_", "."): value for name, value in numbers.items()}

    def sysctlbyname(self, name: bytes, value: Any, *_: object) -> int:
        if name.decode() not in self.numbers:
            return -1
        value._obj.value = self.numbers[name.decode()]
        return 0


def test_macos_tells_of_every_kind_of_cores() -> None:
    fast = {"hw_perflevel0_l1dcachesize": 128 * KIB, "hw_perflevel0_l2cachesize": 12 * MIB}
    slow = {"hw_perflevel1_l1dcachesize": 64 * KIB, "hw_perflevel1_l2cachesize": 4 * MIB}
    shared = {"hw_perflevel0_cpusperl2": 4, "hw_perflevel1_cpusperl2": 4}
    found = list(macos_caches(Mac(hw_nperflevels=2, **fast, **slow, **shared)))
    assert processor_of(found) == Processor(64 * KIB, 1 * MIB)
    intel = Mac(hw_l1dcachesize=32 * KIB, hw_l2cachesize=256 * KIB)
    assert processor_of(list(macos_caches(intel))) == Processor(32 * KIB, 256 * KIB)
    assert processor_of(list(macos_caches(Mac()))) == Processor()


class Windows:
    """A kernel32 that tells of some records: relationship, mask, level, size, type."""

    def __init__(self, *records: tuple[int, int, int, int, int]) -> None:
        self.records = records

    def GetLogicalProcessorInformation(self, buffer: Any, length: Any) -> int:
        length._obj.value = len(self.records) * ctypes.sizeof(WindowsRecord)
        for each, (relationship, mask, level, size, kind) in zip(buffer or (), self.records):
            each.relationship, each.mask = relationship, mask
            each.about.cache.level, each.about.cache.size, each.about.cache.type = level, size, kind
        return int(buffer is not None)


def test_windows_tells_of_caches_among_others() -> None:
    core, instructions = (0, 0b11, 0, 0, 0), (2, 0b11, 1, 64 * KIB, 1)
    data, unified = (2, 0b11, 1, 32 * KIB, 2), (2, 0b11, 2, 1 * MIB, 0)
    found = list(windows_caches(Windows(core, data, instructions, unified)))
    assert found == [Cache(1, 32 * KIB, 2), Cache(2, 1 * MIB, 2)]
    assert processor_of(found) == Processor(32 * KIB, 1 * MIB)
    assert processor_of(list(windows_caches(Windows()))) == Processor()
