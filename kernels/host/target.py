"""The processor that kernels are compiled for, as far as layouts of memory and shapes of tiles depend on it."""

from __future__ import annotations

from typing import NamedTuple

FLOAT_BYTES = 4


class Target(NamedTuple):
    """The vector registers of a processor.

    Kernels are made for a target and weights are packed for one; several can live in one process. Any target runs on
    any processor, but for its features: LLVM splits vectors that are too long and leaves longer registers unused.

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

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector."""
        return self.lanes * FLOAT_BYTES

    @property
    def name(self) -> str:
        """Tells targets apart in file names and cache keys."""
        return "-".join([f"{self.lanes}x{self.registers}", *sorted(self.features)])

    @property
    def halves(self) -> bool:
        """Whether products may end with a tile of one and a half vectors, which pays where vectors are long."""
        return self.lanes == 16

    def vectors(self, channels: int) -> int:
        """Vectors that hold a number of channels."""
        return -(-channels // self.lanes)
