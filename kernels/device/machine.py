"""What LLVM can do and Numba's Python cannot say: atomic numbers, functions and records behind plain addresses.

Everything is addressed by an ``int64``, as in `simd`. Atomic operations are sequentially consistent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import INT32, INT64

_X86 = ("x86_64", "i386", "i686", "amd64")
_ORDER = "seq_cst"


def _pointer(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, INT64.as_pointer())


@intrinsic
def atomic_load(typing: Any, address: Any) -> Any:
    """Read the number at an address."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        return builder.load_atomic(_pointer(builder, arguments[0]), ordering=_ORDER, align=8)

    return types.int64(types.int64), codegen


@intrinsic
def atomic_store(typing: Any, address: Any, value: Any) -> Any:
    """Set the number at an address."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        address, value = arguments
        builder.store_atomic(value, _pointer(builder, address), ordering=_ORDER, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def _read_modify_write(operation: str) -> Any:
    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        address, value = arguments
        return builder.atomic_rmw(operation, _pointer(builder, address), value, _ORDER)

    return codegen


@intrinsic
def atomic_add(typing: Any, address: Any, value: Any) -> Any:
    """Add to the number at an address; return what it was before."""
    return types.int64(types.int64, types.int64), _read_modify_write("add")


@intrinsic
def atomic_exchange(typing: Any, address: Any, value: Any) -> Any:
    """Set the number at an address; return what it was before."""
    return types.int64(types.int64, types.int64), _read_modify_write("xchg")


@intrinsic
def compare_exchange(typing: Any, address: Any, expected: Any, value: Any) -> Any:
    """Set the number at an address if it is `expected`; return whether it was."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        address, expected, value = arguments
        found = builder.cmpxchg(_pointer(builder, address), expected, value, _ORDER, _ORDER)
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typing: Any) -> Any:
    """Tell the processor that this is a loop that waits: it saves power, and the core's other thread gets more."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        triple = builder.module.triple
        if triple.startswith(_X86):
            _call_llvm(builder, "llvm.x86.sse2.pause")
        elif triple.startswith(("aarch64", "arm64")):
            _call_llvm(builder, "llvm.aarch64.hint", INT32(1))
        return context.get_dummy_value()

    return types.void(), codegen


def _call_llvm(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> None:
    signature = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


@intrinsic
def positive(typing: Any, number: Any) -> Any:
    """Return a number that is above zero, and tell LLVM so: as the step of a range it cannot raise."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        _call_llvm(builder, "llvm.assume", builder.icmp_signed(">", arguments[0], INT64(0)))
        return arguments[0]

    return types.int64(types.int64), codegen


@intrinsic
def call_at(typing: Any, address: Any, argument: Any, flag: Any) -> Any:
    """Call the C function at an address with a pointer and an int; return the pointer-sized number it returns.

    A function with fewer arguments leaves the others alone, and what one without a result returns has no meaning.
    """

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        address, argument, flag = arguments
        kind = ir.FunctionType(INT64, [INT64, INT32]).as_pointer()
        return builder.call(builder.inttoptr(address, kind), [argument, builder.trunc(flag, INT32)])

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def numbers_at(typing: Any, address: Any) -> Any:
    """View the memory at an address as numbers (int64) that an index reads and writes."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(types.int64), codegen


def make_record_at(kind: np.dtype[Any]) -> Any:
    """Return an intrinsic that views the memory at an address as a record."""
    record = from_dtype(kind)

    @intrinsic
    def record_at(typing: Any, address: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            return builder.inttoptr(arguments[0], context.get_value_type(record))

        return record(types.int64), codegen

    return record_at
