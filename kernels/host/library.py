"""The library of kernels that were compiled ahead of time (`tools/build_native.py`), if the package came with one.

A manifest beside it says what it is. A library that is damaged, or was built from other sources or for other layouts of
memory than this package has, is never loaded: the system's loader would crash on the first, the kernels on the others.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .abi import layout_digest, source_digest
from .arm import arm_features
from .instruction_sets import BFLOAT16, FLOAT, X86, Bits, InstructionSet, instruction_sets
from .target import IntegerTarget, Target

FOLDER = Path(__file__).parents[1] / "native"
MANIFEST = "manifest.json"
# Bits of CPUID's leaf 0x8000001A: how wide the units for vectors are.
_FP256, _FP512 = 1 << 2, 1 << 3


class NativeKernels(NamedTuple):
    """The two entry points of one kind for one instruction set, and the `Target` or `IntegerTarget` of its kernels.

    `half_width` is what `Processor` says of the one at hand.
    """

    name: str
    target: Any
    run: Callable[[int, int, int], int]
    serve: Callable[[int, int], int]
    half_width: bool = False


def load(name: str = "", folder: Path = FOLDER, kind: str = FLOAT) -> NativeKernels | None:
    """Return the best kernels of a kind that this processor can run, or those for the instruction set `name`.

    None if there are none.
    """
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        opened = _open(folder / manifest["file"], manifest)
        built = manifest["kernels"].get(kind, {})
        usable = [each.name for each in _usable(opened) if each.name in built]
        chosen = name or next(iter(usable), "")
        return _kernels(opened, chosen, kind, built[chosen]) if chosen in usable else None
    # Whatever is wrong with the files, there is another engine.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as reason:
        import logging

        log = logging.getLogger("npmnv2")
        log.warning("The native kernels in %s are not used: %s. Reinstalling npmnv2 mends it.", folder, reason)
        return None


def _open(file: Path, manifest: dict[str, Any]) -> ctypes.CDLL:
    if manifest["layouts"] != layout_digest() or source_digest() not in ("", manifest["sources"]):
        raise ValueError("they were built from another version")
    if hashlib.sha256(file.read_bytes()).hexdigest() != manifest["sha256"]:
        raise ValueError(f"{file.name} is damaged")
    return ctypes.CDLL(str(file))


def _kernels(library: ctypes.CDLL, name: str, kind: str, about: dict[str, Any]) -> NativeKernels:
    run, serve = library[f"npmnv2_run_{kind}_{name}"], library[f"npmnv2_serve_{kind}_{name}"]
    run.argtypes, run.restype = [ctypes.c_int64] * 3, ctypes.c_int64
    serve.argtypes, serve.restype = [ctypes.c_int64] * 2, ctypes.c_int64
    target: Any = Target(about["lanes"], about["registers"], frozenset(about["features"]))
    rounded: Any = kind
    known = target if kind in (FLOAT, BFLOAT16) else IntegerTarget(target, rounded)
    return NativeKernels(name, known, run, serve, _half_width(library))


def _usable(library: ctypes.CDLL) -> list[InstructionSet]:
    known = instruction_sets(platform.machine())
    if known == X86:
        has = _processor(library)
        return [each for each in known if has.covers(each.needs)]
    features = arm_features() if known else frozenset()
    return [each for each in known if each.feature_names <= features]


def _cpuid(library: ctypes.CDLL) -> Callable[..., tuple[int, int, int, int]]:
    """The instruction CPUID of x86: registers EAX to EDX for a leaf and a subleaf."""
    out = (ctypes.c_uint32 * 4)()

    def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
        library.npmnv2_cpuid(ctypes.c_uint32(leaf), ctypes.c_uint32(subleaf), out)
        return tuple(out)

    return cpuid


def _half_width(library: ctypes.CDLL) -> bool:
    """Whether an x86 processor says that its units are as wide as 256 bits, and no wider; only AMD's do."""
    if instruction_sets(platform.machine()) != X86:
        return False
    cpuid = _cpuid(library)
    width = cpuid(0x8000_001A)[0] if cpuid(0x8000_0000)[0] >= 0x8000_001A else 0
    return bool(width & _FP256) and not width & _FP512


def _processor(library: ctypes.CDLL) -> Bits:
    """What this x86 processor has, asked through the library."""
    cpuid = _cpuid(library)
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
