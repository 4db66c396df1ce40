"""The processor that kernels are compiled for, as far as layouts of memory and choices of kernels depend on it."""

from __future__ import annotations

from typing import NamedTuple

FLOAT_BYTES = 4


class Target(NamedTuple):
    """The vector registers of a processor.

    Attributes
    ----------
    lanes : int
        Floats in one register.
    registers : int
    features : frozenset of str
        Instruction sets beyond the architecture's base, by LLVM's names: ``"fma"``, ``"avx512vnni"``, ….
    """

    lanes: int
    registers: int
    features: frozenset[str] = frozenset()

    def count(self, channels: int) -> int:
        """Vectors that hold a number of channels."""
        return -(-channels // self.lanes)


def vectors() -> Target:
    """The target of the kernels in this process."""
    from ..device.simd import host_target

    return host_target()
