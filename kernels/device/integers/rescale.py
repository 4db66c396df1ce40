"""From 32-bit sums to integers of another scale, as each arithmetic rounds: `quantized.rescale` and `quantized.add`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ...host import steps
from ...host.target import IntegerTarget
from ..simd import INT64
from .simd import IntegerEmitter

# gemmlowp's mantissas have 31 bits.
_MANTISSA_BITS = 31
# How far the reference kernels move both maps up before they add them.
_ADD_BITS = 20


class Rescaler:
    """Rescales vectors of sums where an emitter stands.

    Parameters
    ----------
    emit : IntegerEmitter
    target : IntegerTarget
    """

    def __init__(self, emit: IntegerEmitter, target: IntegerTarget) -> None:
        self._emit, self._arithmetic = emit, target.arithmetic
        self._vectors = target.scale_vectors

    def load(self, address: ir.Value, index: int = 0) -> tuple[ir.Value, ...]:
        """The `index`-th vector of scales: float32 factors, or mantissas and shifts to the left and right."""
        load = self._emit.load if self._arithmetic == "xnnpack" else self._emit.load_integers
        return tuple(load(address, index * self._vectors + i) for i in range(self._vectors))

    def __call__(self, total: ir.Value, scale: tuple[ir.Value, ...]) -> ir.Value:
        """The rounded product of sums and scales."""
        emit, builder = self._emit, self._emit.builder
        if self._arithmetic == "xnnpack":
            return emit.round(builder.fmul(builder.sitofp(total, emit.type), *scale))
        mantissa, left, right = scale
        return self._shift(self._multiply(builder.shl(total, left), mantissa), right)

    def add(self, x: ir.Value, y: ir.Value, numbers: ir.Value) -> ir.Value:
        """The sum of two vectors of bytes, as 32-bit numbers, in the scale of the output, before its zero point."""
        emit, builder = self._emit, self._emit.builder

        def number(index: int) -> Any:
            return emit.broadcast_integer(numbers, index)

        if self._arithmetic == "xnnpack":
            total = builder.add(number(steps.BASE), builder.mul(x, number(steps.FACTOR_A)))
            total = builder.add(total, builder.mul(y, number(steps.FACTOR_B)))
            return builder.ashr(total, number(steps.SHIFT))
        up, total = emit.constant(_ADD_BITS), emit.constant(0)
        a, b = (steps.ZERO_A, steps.MANTISSA_A, steps.SHIFT_A), (steps.ZERO_B, steps.MANTISSA_B, steps.SHIFT_B)
        for value, (zero, mantissa, shift) in ((x, a), (y, b)):
            moved = builder.shl(builder.sub(value, number(zero)), up)
            total = builder.add(total, self._shift(self._multiply(moved, number(mantissa)), number(shift)))
        return self._shift(self._multiply(total, number(steps.MANTISSA)), number(steps.SUM_SHIFT))

    def _multiply(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """``a · b / 2³¹``, halves up, which is what gemmlowp's doubling product comes to for both signs."""
        builder, wide = self._emit.builder, ir.VectorType(INT64, self._emit.lanes)
        product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
        half, bits = (
            ir.Constant(wide, [value] * self._emit.lanes) for value in (1 << (_MANTISSA_BITS - 1), _MANTISSA_BITS)
        )
        return builder.trunc(builder.ashr(builder.add(product, half), bits), self._emit.integers)

    def _shift(self, value: ir.Value, bits: ir.Value) -> ir.Value:
        """``value / 2^bits``, halves away from zero."""
        builder, emit = self._emit.builder, self._emit
        one = emit.constant(1)
        mask = builder.sub(builder.shl(one, bits), one)
        negative = builder.lshr(value, emit.constant(31))
        threshold = builder.add(builder.lshr(mask, one), negative)
        up = builder.zext(builder.icmp_signed(">", builder.and_(value, mask), threshold), emit.integers)
        return builder.add(builder.ashr(value, bits), up)
