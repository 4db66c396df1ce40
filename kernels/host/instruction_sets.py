"""The instruction sets that kernels are compiled for ahead of time, as data for the builder and for the loader."""

from __future__ import annotations

from typing import NamedTuple


class Bits(NamedTuple):
    """What an x86 processor and its system must have: bits of CPUID's results and of register XCR0.

    Attributes
    ----------
    leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_1_eax, extended_ecx : int
        Of leaves 1, 7, 7 (subleaf 1) and 0x80000001.
    saved : int
        Registers that the system keeps when it switches threads (XCR0).
    """

    leaf1_ecx: int = 0
    leaf7_ebx: int = 0
    leaf7_ecx: int = 0
    leaf7_1_eax: int = 0
    extended_ecx: int = 0
    saved: int = 0

    def __or__(self, other: tuple[int, ...]) -> Bits:
        return Bits(*(mine | its for mine, its in zip(self, other)))

    def covers(self, needed: Bits) -> bool:
        """Whether every needed bit is set."""
        return all(have & need == need for have, need in zip(self, needed))


# Kinds of kernels.
FLOAT, BFLOAT16, XNNPACK, REFERENCE = KINDS = "float", "bfloat16", "xnnpack", "reference"


class InstructionSet(NamedTuple):
    """What the builder tells LLVM, and what the loader asks the processor.

    Attributes
    ----------
    name : str
        As in the names of the library's functions.
    cpu, features : str
        LLVM's names of the processor and of what it has in addition.
    needs : Bits
        None of them outside x86: an ARM processor must have the features.
    kinds : tuple of str
        Kinds of kernels that are compiled for it: of floats, of bfloat16, and of integers by their arithmetic.
    """

    name: str
    cpu: str
    features: str = ""
    needs: Bits = Bits()
    kinds: tuple[str, ...] = (FLOAT, XNNPACK, REFERENCE)

    @property
    def feature_names(self) -> frozenset[str]:
        """The features one by one, without LLVM's plus signs."""
        return frozenset(self.features.replace("+", "").split(",")) - {""}

    def includes(self, other: InstructionSet) -> bool:
        """Whether every processor that has this has the other."""
        return self.needs.covers(other.needs) and self.feature_names >= other.feature_names


def _mask(*bits: int) -> int:
    return sum(1 << bit for bit in bits)


# FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT; XMM and YMM registers: x86-64-v3.
_V3 = Bits(leaf1_ecx=_mask(12, 22, 27, 28, 29), leaf7_ebx=_mask(3, 5, 8), extended_ecx=_mask(5), saved=_mask(1, 2))
# AVX-512 F, DQ, CD, BW, VL; mask and ZMM registers: x86-64-v4.
_V4 = _V3 | Bits(leaf7_ebx=_mask(16, 17, 28, 30, 31), saved=_mask(5, 6, 7))

# AVX-512 VNNI, and the same for shorter vectors.
_VNNI = _V4 | Bits(leaf7_ecx=_mask(11))
_AVX_VNNI = _V3 | Bits(leaf7_1_eax=_mask(4))
_BF16 = _V4 | Bits(leaf7_1_eax=_mask(5))
# Features that integer kernels choose instructions by are named, though the processor's name implies some.
_V3_FEATURES, _V4_FEATURES = "+avx2", "+avx2,+avx512bw,+avx512vl"

# Best first. Nothing narrower: without an FMA unit every product is a call of the C library, and NumPy is faster. The
# reference kernels' rounding costs more than the products, so it needs no instruction set of its own.
X86 = (
    InstructionSet("avx512bf16", "x86-64-v4", f"{_V4_FEATURES},+avx512bf16", _BF16, (BFLOAT16,)),
    InstructionSet("avx512vnni", "x86-64-v4", f"{_V4_FEATURES},+avx512vnni", _VNNI, (XNNPACK, REFERENCE)),
    InstructionSet("avx512", "x86-64-v4", _V4_FEATURES, _V4, (FLOAT, XNNPACK)),
    InstructionSet("avxvnni", "x86-64-v3", f"{_V3_FEATURES},+avxvnni", _AVX_VNNI, (XNNPACK,)),
    InstructionSet("avx2", "x86-64-v3", _V3_FEATURES, _V3),
)
# Nothing is asked of an ARM processor but what integer kernels choose by, so nothing else of ARMv8.2 is used.
_DOT_PRODUCT = InstructionSet("neondot", "generic", "+dotprod", kinds=(XNNPACK, REFERENCE))
_NEON = InstructionSet("neon", "generic")
ARM = (_DOT_PRODUCT, _NEON)
APPLE = tuple(each._replace(cpu="apple-m1") for each in ARM)


def instruction_sets(machine: str) -> tuple[InstructionSet, ...]:
    """Those of a processor by the name that its system gives it; none if it is unknown."""
    machine = machine.lower()
    if machine in ("x86_64", "amd64"):
        return X86
    return ARM if machine in ("aarch64", "arm64") else ()


def with_kernels(name: str, kind: str, machine: str) -> str:
    """The instruction set whose kernels of a kind run where `name` is asked for: itself, or the best that it includes.

    Floats gain nothing from VNNI, for example, so those of ``"avx512vnni"`` are those of ``"avx512"``.
    """
    known = instruction_sets(machine)
    named = [each for each in known if each.name == name]
    found = [each.name for each in known if named and kind in each.kinds and named[0].includes(each)]
    return found[0] if found else name
