"""Vectors of integers, emitted as LLVM IR in the style of `device.simd`.

A vector holds as many 32-bit lanes as a vector of floats. Sums lie in the lanes; a lane of factors is four bytes.
All sums are exact, so every processor gives the same bits; which instructions it has decides about time only. They are
taken from `Target.features`, never tried: LLVM ends the process at an instruction that the processor lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from ...host.target import Target
from ..simd import BYTE, FLOAT, INT32, INT64, Emitter, emitted

INT16 = ir.IntType(16)
# Between 2²³ and 2²⁴ floats are whole numbers: adding this rounds, halves to even, as every processor does.
_ROUNDING = 1.5 * 2**23
_ROUNDING_BITS = 0x4B400000

_SHORT_VECTORS = ({"avxvnni"}, {"avx512vnni", "avx512vl"})
# An instruction for four products per lane, by the lanes of a vector, and of what the processor must have one set.
_DOT_INSTRUCTIONS: dict[int, tuple[str, tuple[set[str], ...]]] = {
    16: ("llvm.x86.avx512.vpdpbusd.512", ({"avx512vnni"},)),
    8: ("llvm.x86.avx512.vpdpbusd.256", _SHORT_VECTORS),
    4: ("llvm.x86.avx512.vpdpbusd.128", _SHORT_VECTORS),
}
_OPERANDS_ARE_BYTES = llvm.llvm_version_info[0] >= 22


class IntegerEmitter(Emitter):
    """Writes instructions on vectors of integers where an IR builder stands.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    target : Target
    """

    def __init__(self, builder: ir.IRBuilder, target: Target) -> None:
        super().__init__(builder, target.lanes)
        self.target = target
        self.integers = ir.VectorType(INT32, target.lanes)

    def load_integers(self, address: ir.Value, index: int = 0) -> ir.Value:
        """Return the `index`-th vector of integers from `address` on."""
        pointer = self._pointer(address, index * self.lanes, self.integers)
        return self.builder.load(pointer, align=1)

    def load_bytes(self, address: ir.Value) -> ir.Value:
        """Load one unsigned byte into every lane."""
        kind = ir.VectorType(BYTE, self.lanes)
        return self.builder.zext(self.builder.load(self._pointer(address, 0, kind), align=1), self.integers)

    def broadcast_integer(self, address: ir.Value) -> ir.Value:
        """Load 32 bits into all lanes."""
        return self.splat_integer(self.builder.load(self._pointer(address, 0, INT32), align=1))

    def splat_integer(self, scalar: ir.Value) -> ir.Value:
        """Copy 32 bits into all lanes."""
        return self.builder.bitcast(self.splat(self.builder.bitcast(scalar, FLOAT)), self.integers)

    def dot(self, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        """Add to every lane its four products of an unsigned and a signed byte."""
        name, alternatives = _DOT_INSTRUCTIONS.get(self.lanes, ("", ()))
        if any(features <= self.target.features for features in alternatives):
            return self._dot_instruction(name, total, unsigned, signed)
        return self._dot_by_pairs(total, unsigned, signed)

    def _dot_instruction(self, name: str, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        kind = ir.VectorType(BYTE, 4 * self.lanes) if _OPERANDS_ARE_BYTES else self.integers
        factors = [self.builder.bitcast(factor, kind) for factor in (unsigned, signed)]
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(self.integers, [self.integers, kind, kind]), name)
        return self.builder.call(function, [total, *factors])

    def dot_pairs(self, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        """Add to every lane its two products of signed 16-bit numbers."""
        halves = ir.VectorType(INT16, 2 * self.lanes)
        products = self._multiply_pairs(*(self.builder.bitcast(factor, halves) for factor in (a, b)))
        return self.builder.add(total, products)

    def _dot_by_pairs(self, total: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        """The same by 16-bit factors: bytes 0 and 2, then 1 and 3. LLVM makes ``vpmaddwd`` of each on x86."""
        builder, halves = self.builder, ir.VectorType(INT16, 2 * self.lanes)
        eight, mask = (ir.Constant(halves, [value] * (2 * self.lanes)) for value in (8, 0xFF))
        u, s = builder.bitcast(unsigned, halves), builder.bitcast(signed, halves)
        even = self._multiply_pairs(builder.and_(u, mask), builder.ashr(builder.shl(s, eight), eight))
        odd = self._multiply_pairs(builder.lshr(u, eight), builder.ashr(s, eight))
        return builder.add(total, builder.add(even, odd))

    def _multiply_pairs(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Multiply 16-bit numbers and add neighbors, in 32 bits."""
        builder, wide = self.builder, ir.VectorType(INT32, 2 * self.lanes)
        products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
        first, second = (ir.Constant(self.integers, list(range(start, 2 * self.lanes, 2))) for start in (0, 1))
        return builder.add(
            builder.shuffle_vector(products, products, first), builder.shuffle_vector(products, products, second)
        )

    def rescale(self, total: ir.Value, scale: ir.Value, low: ir.Value, high: ir.Value, zero: ir.Value) -> ir.Value:
        """``round(clip(total · scale, low, high)) + zero``, halves to even, where low and high are below 2²².

        The clip stands between product and rounding, so no compiler can fuse the two.
        """
        builder = self.builder
        scaled = builder.fmul(builder.sitofp(total, self.type), scale)
        rounded = builder.fadd(self.clip(scaled, low, high), ir.Constant(self.type, [_ROUNDING] * self.lanes))
        whole = builder.sub(builder.bitcast(rounded, self.integers), self.constant(_ROUNDING_BITS))
        return builder.add(whole, zero)

    def sum_lanes(self, value: ir.Value) -> ir.Value:
        """The sum of all lanes."""
        name, module = f"llvm.vector.reduce.add.v{self.lanes}i32", self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(INT32, [self.integers]), name)
        return self.builder.call(function, [value])

    def store_bytes(self, value: ir.Value, address: ir.Value, index: int = 0) -> None:
        """Store the lowest byte of every lane as the `index`-th piece of that many bytes from `address` on."""
        kind = ir.VectorType(BYTE, self.lanes)
        pointer = self.builder.inttoptr(address, BYTE.as_pointer())
        pointer = self.builder.gep(pointer, [INT64(index * self.lanes)])
        self.builder.store(self.builder.trunc(value, kind), self.builder.bitcast(pointer, kind.as_pointer()), align=1)

    def constant(self, value: int) -> ir.Constant:
        """A number in all lanes."""
        return ir.Constant(self.integers, [value] * self.lanes)


def integers_emitted(target: Target) -> Callable[[Callable[..., Any]], Any]:
    """As `simd.emitted`, with an `IntegerEmitter`."""

    def decorate(body: Callable[..., Any]) -> Any:
        return emitted(target)(lambda emit, *arguments: body(IntegerEmitter(emit.builder, target), *arguments))

    return decorate
