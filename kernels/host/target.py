"""The processor that kernels are compiled for, as far as layouts of memory and shapes of tiles depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..quantized import Arithmetic

FLOAT_BYTES, BFLOAT16_BYTES = 4, 2
# The feature, in LLVM's words, of a target whose maps hold bfloat16, see `npmnv2.kernels.bfloat16`.
BFLOAT16_PRODUCTS = "avx512bf16"
# Features, in LLVM's words, of which a processor has one set if it multiplies bytes, by the lanes of its vectors.
_SHORT_VNNI = (frozenset({"avxvnni"}), frozenset({"avx512vnni", "avx512vl"}))
_DOT_PRODUCT = frozenset({"dotprod"})
_BYTE_PRODUCTS = {16: (frozenset({"avx512vnni"}),), 8: _SHORT_VNNI, 4: (*_SHORT_VNNI, _DOT_PRODUCT)}


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
    def map_bytes(self) -> int:
        """Bytes of one channel of a map of real numbers."""
        return BFLOAT16_BYTES if BFLOAT16_PRODUCTS in self.features else FLOAT_BYTES

    @property
    def map_vector_bytes(self) -> int:
        """Bytes of one vector of channels of a map of real numbers."""
        return self.lanes * self.map_bytes

    @property
    def word_channels(self) -> int:
        """Channels that a product takes at once: a float, or two of bfloat16, in each lane."""
        return FLOAT_BYTES // self.map_bytes

    @property
    def name(self) -> str:
        """Tells targets apart in file names and cache keys."""
        return "-".join([f"{self.lanes}x{self.registers}", *sorted(self.features)])

    @property
    def halves(self) -> bool:
        """Whether products may end with a tile of one and a half vectors, which pays where vectors are long."""
        return self.lanes == 16

    @property
    def halved(self) -> Target:
        """The same processor with vectors of half the length: what integers are computed with where half is enough."""
        shorter = self.lanes == 16 and "avx512vl" in self.features
        return self._replace(lanes=self.lanes // 2) if shorter else self

    @property
    def tile_pixels(self) -> int:
        """Pixels that products of floats compute together, two vectors of each."""
        return 7 if self.registers >= 32 else 6

    @property
    def byte_tile_pixels(self) -> int:
        """The same for products of bytes, which need registers for words as well."""
        return 7 if self.registers >= 32 else 4

    @property
    def multiplies_bytes(self) -> bool:
        """Whether an instruction adds four products of bytes to every lane; otherwise 16-bit numbers are multiplied."""
        return any(features <= self.features for features in _BYTE_PRODUCTS.get(self.lanes, ()))

    @property
    def input_offset(self) -> int:
        """What inputs are lowered by before they are multiplied: ARM's ``sdot`` takes signed bytes only."""
        return 128 if self.lanes == 4 and self.features >= _DOT_PRODUCT else 0

    @property
    def factor_bytes(self) -> int:
        """Bytes of a vector of integer weights, four for every lane."""
        return self.vector_bytes if self.multiplies_bytes else 2 * self.vector_bytes

    def vectors(self, channels: int) -> int:
        """Vectors that hold a number of channels."""
        return -(-channels // self.lanes)


class IntegerTarget(NamedTuple):
    """A processor, and how sums are rounded: what integer kernels are made for.

    Attributes
    ----------
    processor : Target
    arithmetic : {"xnnpack", "reference"}
    """

    processor: Target
    arithmetic: Arithmetic

    @property
    def name(self) -> str:
        """Tells targets apart in file names and cache keys."""
        return f"{self.arithmetic}-{self.processor.name}"

    @property
    def scale_vectors(self) -> int:
        """Vectors of numbers that say how one vector of sums is rescaled."""
        return 1 if self.arithmetic == "xnnpack" else 3
