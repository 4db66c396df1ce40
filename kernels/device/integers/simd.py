"""Vectors of integers, emitted as LLVM IR in the style of `device.simd`.

A vector holds as many 32-bit lanes as a vector of floats. Sums lie in the lanes, and a lane of inputs is a *word*: four
bytes. All sums are exact, so every processor gives the same bits; which instructions it has decides about time only.
They are taken from `Target.features`, never tried: LLVM ends the process at an instruction that the processor lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from ...host.target import Target
from ..simd import BYTE, FLOAT, INT32, INT64, Emitter, emitted

INT16 = ir.IntType(16)
# Between 2²³ and 2²⁴ floats are whole numbers: adding this rounds, halves to even, as every processor does.
_ROUNDING = 1.5 * 2**23
_ROUNDING_BITS = 0x4B400000
# Beyond ± this every result is the end of a byte's range, whatever its zero point.
_BEYOND_BYTES = 1024.0

_DOT = {lanes: f"llvm.x86.avx512.vpdpbusd.{32 * lanes}" for lanes in (4, 8, 16)}
# ARM's product of signed bytes. A compiler for another processor knows no such instruction: for it there is a function,
# which `tools/build_native.py` replaces.
SIGNED_DOT, SIGNED_DOT_STAND_IN = "llvm.aarch64.neon.sdot.v4i32.v16i8", "npmnv2_sdot"
_OPERANDS_ARE_BYTES = llvm.llvm_version_info[0] >= 22
# Conversions to narrower numbers that saturate, by the lanes of a vector: 32 to 16 bits, 16 to unsigned 8.
_NARROW = {
    16: ("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512"),
    8: ("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packuswb"),
}


class IntegerEmitter(Emitter):
    """Writes instructions on vectors of integers where an IR builder stands.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
    target : Target
    layout : Target, optional
        What weights were packed for, if its vectors are longer: then the first lanes of each are computed.
    """

    def __init__(self, builder: ir.IRBuilder, target: Target, layout: Target | None = None) -> None:
        super().__init__(builder, target.lanes)
        self.target, self.layout = target, layout or target
        self.integers = ir.VectorType(INT32, target.lanes)

    # Loads

    def load(self, address: ir.Value, index: int = 0) -> ir.Value:
        """Return the `index`-th packed vector of floats from `address` on."""
        return self.builder.load(self._pointer(address, index * self.layout.lanes, self.type), align=1)

    def load_integers(self, address: ir.Value, index: int = 0) -> ir.Value:
        """Return the `index`-th packed vector of integers from `address` on."""
        return self.builder.load(self._pointer(address, index * self.layout.lanes, self.integers), align=1)

    def load_raw(self, address: ir.Value, count: int) -> ir.Value:
        """Load `count` bytes."""
        return self.builder.load(self._pointer(address, 0, ir.VectorType(BYTE, count)), align=1)

    def load_bytes(self, address: ir.Value) -> ir.Value:
        """Load one unsigned byte into every lane."""
        return self.builder.zext(self.load_raw(address, self.lanes), self.integers)

    def load_number(self, address: ir.Value, index: int = 0) -> ir.Value:
        """Load one 32-bit number."""
        return self.builder.load(self._pointer(address, index, INT32), align=1)

    def load_address(self, address: ir.Value) -> ir.Value:
        """Load one 64-bit number."""
        return self.builder.load(self._pointer(address, 0, INT64), align=1)

    def broadcast_integer(self, address: ir.Value, index: int = 0) -> ir.Value:
        """Load 32 bits into all lanes."""
        return self.splat_integer(self.load_number(address, index))

    def splat_integer(self, scalar: ir.Value) -> ir.Value:
        """Copy 32 bits into all lanes."""
        return self.builder.bitcast(self.splat(self.builder.bitcast(scalar, FLOAT)), self.integers)

    def constant(self, value: int) -> ir.Constant:
        """A number in all lanes."""
        return ir.Constant(self.integers, [value] * self.lanes)

    # Products

    @property
    def factor_bytes(self) -> int:
        """Bytes of a packed vector of factors for words."""
        return self.layout.factor_bytes

    def load_factors(self, address: ir.Value, index: int = 0) -> tuple[ir.Value, ...]:
        """Load the `index`-th vector of what words are multiplied by: signed bytes, or two vectors of 16-bit pairs."""
        vectors = self.factor_bytes // self.layout.vector_bytes
        return tuple(self.load_integers(address, index * vectors + i) for i in range(vectors))

    def dot(self, total: ir.Value, word: ir.Value, factors: tuple[ir.Value, ...]) -> ir.Value:
        """Add to every lane the four products of a word and its factors."""
        if len(factors) == 1:
            multiply = self._dot_signed if self.target.input_offset else self._dot_unsigned
            return multiply(total, word, *factors)
        even, odd = factors
        halves = ir.VectorType(INT16, 2 * self.lanes)
        eight, mask = (ir.Constant(halves, [value] * (2 * self.lanes)) for value in (8, 0xFF))
        word = self.builder.bitcast(word, halves)
        low, high = self.builder.and_(word, mask), self.builder.lshr(word, eight)
        total = self.builder.add(total, self._multiply_pairs(low, self.builder.bitcast(even, halves)))
        return self.builder.add(total, self._multiply_pairs(high, self.builder.bitcast(odd, halves)))

    def _dot_unsigned(self, total: ir.Value, word: ir.Value, factor: ir.Value) -> ir.Value:
        kind = ir.VectorType(BYTE, 4 * self.lanes) if _OPERANDS_ARE_BYTES else self.integers
        operands = [self.builder.bitcast(value, kind) for value in (word, factor)]
        return self._call(_DOT[self.lanes], self.integers, total, *operands)

    def _dot_signed(self, total: ir.Value, word: ir.Value, factor: ir.Value) -> ir.Value:
        """As `dot`, of a word whose bytes are lowered by 128, for which the bias makes up."""
        builder, kind = self.builder, ir.VectorType(BYTE, 4 * self.lanes)
        lowered = builder.xor(builder.bitcast(word, kind), ir.Constant(kind, [-128] * kind.count))
        at_home = builder.module.triple.startswith(("aarch64", "arm64"))
        name = SIGNED_DOT if at_home else SIGNED_DOT_STAND_IN
        dot = self._call(name, self.integers, total, lowered, builder.bitcast(factor, kind))
        for attribute in ("readnone", "nounwind"):  # of an intrinsic LLVM knows it
            dot.callee.attributes.add(attribute)
        return dot

    def _multiply_pairs(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Multiply 16-bit numbers and add neighbors, in 32 bits: LLVM makes ``vpmaddwd`` of it on x86."""
        builder, wide = self.builder, ir.VectorType(INT32, 2 * self.lanes)
        products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
        first, second = (ir.Constant(self.integers, list(range(start, 2 * self.lanes, 2))) for start in (0, 1))
        return builder.add(
            builder.shuffle_vector(products, products, first), builder.shuffle_vector(products, products, second)
        )

    # Roundings and bytes

    def round(self, value: ir.Value) -> ir.Value:
        """Floats to integers, halves to even. What lies far beyond a byte may become any number beyond it.

        No product and sum may be fused here: callers round products, and a sum only after it is clipped.
        """
        if not self._narrows:
            limits = [ir.Constant(self.type, [limit] * self.lanes) for limit in (-_BEYOND_BYTES, _BEYOND_BYTES)]
            magic = ir.Constant(self.type, [_ROUNDING] * self.lanes)
            rounded = self.builder.bitcast(self.builder.fadd(self.clip(value, *limits), magic), self.integers)
            return self.builder.sub(rounded, self.constant(_ROUNDING_BITS))
        if self.lanes == 8:
            return self._call("llvm.x86.avx.cvt.ps2dq.256", self.integers, value)
        mask, current = ir.Constant(INT16, -1), ir.Constant(INT32, 4)
        return self._call("llvm.x86.avx512.mask.cvtps2dq.512", self.integers, value, self.constant(0), mask, current)

    def pack(self, values: Sequence[ir.Value], zero: ir.Value | None, limits: tuple[ir.Value, ...] = ()) -> ir.Value:
        """Four vectors as bytes, after `zero` is added, within the limits low and high; all are 32-bit scalars.

        Of each vector the first four lanes come first, then of each the next four, and so on.
        """
        narrow = self._pack_by_instruction if self._narrows else self._pack_by_shuffles
        packed = narrow(values, zero)
        if not limits:
            return packed
        low, high = (self._splat_to(packed.type, limit) for limit in limits)
        packed = self.select(">", low, packed, low)
        return self.select("<", high, packed, high)

    @property
    def _narrows(self) -> bool:
        needed = {16: "avx512bw", 8: "avx2"}.get(self.lanes)
        return needed in self.target.features

    def _pack_by_instruction(self, values: Sequence[ir.Value], zero: ir.Value | None) -> ir.Value:
        to_16, to_8 = _NARROW[self.lanes]
        halves, packed = ir.VectorType(INT16, 2 * self.lanes), ir.VectorType(BYTE, 4 * self.lanes)
        pairs = [self._call(to_16, halves, *values[i : i + 2]) for i in (0, 2)]
        if zero is not None:
            offset = self._splat_to(halves, zero)
            pairs = [self._call(f"llvm.sadd.sat.v{2 * self.lanes}i16", halves, pair, offset) for pair in pairs]
        return self._call(to_8, packed, *pairs)

    def _pack_by_shuffles(self, values: Sequence[ir.Value], zero: ir.Value | None) -> ir.Value:
        builder = self.builder
        moved = values if zero is None else [builder.add(v, self.splat_integer(zero)) for v in values]
        limited = [self.limit(v, self.constant(0), self.constant(255)) for v in moved]
        first, second, third, fourth = (builder.trunc(v, ir.VectorType(BYTE, self.lanes)) for v in limited)
        joined = [self.shuffle(a, b, range(2 * self.lanes)) for a, b in ((first, second), (third, fourth))]
        lanes = range(0, self.lanes, 4)
        order = [v * self.lanes + lane + i for lane in lanes for v in range(4) for i in range(4)]
        return self.shuffle(*joined, order)

    def for_range(
        self,
        zero: ir.Value,
        low: ir.Value,
        high: ir.Value,
        body: Callable[[ir.Value | None, tuple[ir.Value, ...]], None],
    ) -> None:
        """Write `body` twice: with a zero point and limits, and without for where they are 0 and those of a byte."""
        builder = self.builder
        others = builder.or_(zero, builder.or_(low, builder.xor(high, INT32(255))))
        plain = builder.icmp_signed("==", others, INT32(0))
        self.either(plain, lambda: body(None, ()), lambda: body(zero, (low, high)))

    def either(self, condition: ir.Value, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Write two pieces of code, of which the condition chooses one."""
        builder = self.builder
        blocks = [builder.append_basic_block(name) for name in ("first", "second", "joined")]
        builder.cbranch(condition, *blocks[:2])
        for block, body in zip(blocks, (first, second)):
            builder.position_at_end(block)
            body()
            builder.branch(blocks[2])
        builder.position_at_end(blocks[2])

    def split_pixels(self, packed: ir.Value) -> list[ir.Value]:
        """The two halves of what `pack` made of two pixels with two vectors each, in the order of PERMUTATION."""
        builder, count = self.builder, self.lanes // 2
        words = builder.bitcast(packed, ir.VectorType(INT64, count))
        sorted_words = self.shuffle(words, words, [*range(0, count, 2), *range(1, count, 2)])
        ordered = builder.bitcast(sorted_words, packed.type)
        half = 2 * self.lanes
        return [self.shuffle(ordered, ordered, range(first, first + half)) for first in (0, half)]

    def join_pixels(self, raw: ir.Value) -> list[ir.Value]:
        """The two vectors of integers of a pixel from its bytes, the reverse of `split_pixels`."""
        order = permutation(self.lanes)
        pieces = [self.shuffle(raw, raw, order[first : first + self.lanes]) for first in (0, self.lanes)]
        return [self.builder.zext(piece, self.integers) for piece in pieces]

    def store_raw(self, value: ir.Value, address: ir.Value) -> None:
        """Store a vector of bytes."""
        self.builder.store(value, self._pointer(address, 0, value.type), align=1)

    def store_bytes(self, value: ir.Value, address: ir.Value) -> None:
        """Store the lowest byte of every lane."""
        self.store_raw(self.builder.trunc(value, ir.VectorType(BYTE, self.lanes)), address)

    # Parts

    def largest_lane(self, value: ir.Value) -> ir.Value:
        """The largest of all lanes."""
        return self._call(f"llvm.vector.reduce.smax.v{self.lanes}i32", INT32, value)

    def limit(self, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        """Limit signed integers to low … high."""
        builder = self.builder
        value = builder.select(builder.icmp_signed(">", low, value), low, value)
        return builder.select(builder.icmp_signed("<", high, value), high, value)

    def select(self, comparison: str, a: ir.Value, b: ir.Value, chosen: ir.Value) -> ir.Value:
        """`chosen` where unsigned a and b compare so, else `b`."""
        return self.builder.select(self.builder.icmp_unsigned(comparison, a, b), chosen, b)

    def _splat_to(self, kind: ir.VectorType, scalar: ir.Value) -> ir.Value:
        """Copy the lowest bits of a 32-bit number into all elements."""
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, self.builder.trunc(scalar, kind.element), INT32(0))
        return self.shuffle(first, undefined, [0] * kind.count)

    def shuffle(self, a: ir.Value, b: ir.Value, order: Sequence[int]) -> ir.Value:
        """Elements of two vectors in some order."""
        chosen = ir.Constant(ir.VectorType(INT32, len(order)), list(order))
        return self.builder.shuffle_vector(a, b, chosen)

    def _call(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            kind = ir.FunctionType(result, [argument.type for argument in arguments])
            function = ir.Function(module, kind, name)
        return self.builder.call(function, arguments)


def permutation(lanes: int) -> list[int]:
    """Which channel of a panel of two vectors every lane holds, so that packed bytes need one permutation less."""
    return [8 * (lane // 4) + 4 * vector + lane % 4 for vector in range(2) for lane in range(lanes)]


def integers_emitted(target: Target, layout: Target | None = None) -> Callable[[Callable[..., Any]], Any]:
    """As `simd.emitted`, with an `IntegerEmitter`."""

    def decorate(body: Callable[..., Any]) -> Any:
        return emitted(target)(lambda emit, *arguments: body(IntegerEmitter(emit.builder, target, layout), *arguments))

    return decorate
