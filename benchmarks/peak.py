"""What one core can do at best: multiply-adds on registers, of floats or of bytes, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from npmnv2.kernels.device.jit import njit
from npmnv2.kernels.device.probe import host_features, host_target
from npmnv2.kernels.device.simd import BYTE, INT32, INT64, Emitter, Loop
from numba import types
from numba.extending import intrinsic

# Chains that do not wait for one another: at least latency × throughput of any processor's multiply-add (4 × 2), and
# as many as leave registers for the two factors.
CHAINS = 12
TURNS = 1_000_000
# Adds to each lane of 32 bits its four products of bytes.
_VNNI = {16: ("llvm.x86.avx512.vpdpbusd.512", "avx512vnni"), 8: ("llvm.x86.avx512.vpdpbusd.256", "avxvnni")}
_OPERANDS_ARE_BYTES = llvm.llvm_version_info[0] >= 22


def _looping(name: str, multiply_add: Callable[[Emitter, ir.Value, ir.Value], ir.Value]) -> Any:
    """A function that runs CHAINS multiply-adds many times, and stores their sum lest they be left out."""

    @intrinsic
    def run(typing: Any, target: Any, turns: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
            target, turns = arguments
            emit = Emitter(builder, host_target().lanes)
            factor, *starts = emit.load_all(target, CHAINS + 1)
            with_counter = [INT64(0), *starts]
            loop = Loop(builder, with_counter)
            turn, *sums = loop.values
            following = builder.add(turn, INT64(1))
            going_on = builder.icmp_signed("<", following, turns)
            loop.repeat(going_on, [following, *(multiply_add(emit, x, factor) for x in sums)])
            total = loop.values[1]
            for value in loop.values[2:]:
                total = builder.fadd(total, value)
            emit.store(total, target)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    @njit(cached=False, variant=name)
    def many(target, turns):
        run(target, turns)

    return many


def _multiply_floats(emit: Emitter, x: ir.Value, half: ir.Value) -> ir.Value:
    # x/2 + 1/2 runs towards 1: neither overflow nor denormal numbers.
    return emit.fma(x, half, half)


def _multiply_bytes(emit: Emitter, x: ir.Value, factor: ir.Value) -> ir.Value:
    builder, name = emit.builder, _VNNI[emit.lanes][0]
    lanes = ir.VectorType(INT32, emit.lanes)
    operand = ir.VectorType(BYTE, 4 * emit.lanes) if _OPERANDS_ARE_BYTES else lanes
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(lanes, [lanes, operand, operand]), name)
    bytes_ = builder.bitcast(factor, operand)
    return builder.bitcast(builder.call(function, [builder.bitcast(x, lanes), bytes_, bytes_]), emit.type)


def _per_second(run: Any, seconds: float) -> float:
    """Multiply-adds of one lane: the best of several runs."""
    memory, best = np.full((CHAINS + 1) * host_target().lanes, 0.5, np.float32), float("inf")
    run(memory.ctypes.data, 1)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run(memory.ctypes.data, TURNS)
        best = min(best, time.perf_counter() - start)
    return CHAINS * host_target().lanes * TURNS / best


def measure(seconds: float = 0.2) -> float:
    """Return the FLOP/s of this core, a multiply-add counted as two."""
    return 2 * _per_second(_looping("floats", _multiply_floats), seconds)


def measure_bytes(seconds: float = 0.2) -> float | None:
    """Return operations per second on bytes, a multiply-add counted as two; None without VNNI."""
    _, feature = _VNNI.get(host_target().lanes, ("", ""))
    if feature not in host_features():
        return None
    return 2 * 4 * _per_second(_looping("bytes", _multiply_bytes), seconds)


if __name__ == "__main__":
    bytes_ = measure_bytes()
    print(f"{measure() / 1e9:.1f} GFLOP/s with vectors of {host_target().lanes}")
    print(f"{bytes_ / 1e9:.1f} GOP/s on bytes" if bytes_ else "no VNNI")
