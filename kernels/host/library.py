"""The library of kernels that were compiled ahead of time (`tools/build_native.py`), if the package came with one.

A manifest beside it says what it is. A library that is damaged, or was built from other sources or for other layouts of
memory than this package has, is never loaded: the system's loader would crash on the first, the kernels on the others.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .abi import layout_digest, source_digest
from .instruction_sets import Bits, InstructionSet, instruction_sets
from .target import Target

_log = logging.getLogger("npmnv2")

FOLDER = Path(__file__).parents[1] / "native"
MANIFEST = "manifest.json"


class NativeKernels(NamedTuple):
    """The two entry points for one instruction set, see `npmnv2.kernels.device.entry`."""

    name: str
    target: Target
    run: Callable[[int, int, int], int]
    serve: Callable[[int, int], int]


def load(name: str = "", folder: Path = FOLDER) -> NativeKernels | None:
    """Return the best kernels that this processor can run, or those for the instruction set `name`; None without."""
    found = _open(folder)
    if found is None:
        return None
    library, manifest = found
    for usable in _usable(library):
        if usable.name in manifest and name in ("", usable.name):
            return _kernels(library, usable.name, manifest[usable.name])
    return None


def _open(folder: Path) -> tuple[ctypes.CDLL, dict[str, Any]] | None:
    """The library and what its manifest says of every instruction set."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        file = folder / manifest["file"]
        if reason := _unfit(manifest, file):
            raise ValueError(reason)
        return ctypes.CDLL(str(file)), manifest["instruction_sets"]
    except (OSError, ValueError, KeyError, TypeError) as reason:
        _log.warning("The native kernels in %s are not used: %s. Reinstalling npmnv2 mends it.", folder, reason)
        return None


def _unfit(manifest: dict[str, Any], file: Path) -> str:
    """Why a library cannot be used, or nothing."""
    if manifest["layouts"] != layout_digest() or source_digest() not in ("", manifest["sources"]):
        return "they were built from another version"
    if hashlib.sha256(file.read_bytes()).hexdigest() != manifest["sha256"]:
        return f"{file.name} is damaged"
    return ""


def _kernels(library: ctypes.CDLL, name: str, about: dict[str, Any]) -> NativeKernels:
    run, serve = library[f"npmnv2_run_{name}"], library[f"npmnv2_serve_{name}"]
    run.argtypes, run.restype = [ctypes.c_int64] * 3, ctypes.c_int64
    serve.argtypes, serve.restype = [ctypes.c_int64] * 2, ctypes.c_int64
    target = Target(about["lanes"], about["registers"], frozenset(about["features"]))
    return NativeKernels(name, target, run, serve)


def _usable(library: ctypes.CDLL) -> list[InstructionSet]:
    known = instruction_sets(platform.machine())
    if not any(any(each.needs) for each in known):
        return list(known)
    has = _processor(library)
    return [each for each in known if has.covers(each.needs)]


def _processor(library: ctypes.CDLL) -> Bits:
    """What this x86 processor has, asked through the library."""
    out = (ctypes.c_uint32 * 4)()

    def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
        library.npmnv2_cpuid(ctypes.c_uint32(leaf), ctypes.c_uint32(subleaf), out)
        return tuple(out)

    largest, largest_extended = cpuid(0)[0], cpuid(0x8000_0000)[0]
    leaf1_ecx = cpuid(1)[2]
    eax7, ebx7, ecx7, _ = cpuid(7) if largest >= 7 else (0, 0, 0, 0)
    os_saves = leaf1_ecx >> 27 & 1
    return Bits(
        leaf1_ecx=leaf1_ecx,
        leaf7_ebx=ebx7,
        leaf7_ecx=ecx7,
        leaf7_1_eax=cpuid(7, 1)[0] if eax7 >= 1 else 0,
        extended_ecx=cpuid(0x8000_0001)[2] if largest_extended >= 0x8000_0001 else 0,
        saved=library.npmnv2_xgetbv() & 0xFFFF_FFFF if os_saves else 0,
    )
