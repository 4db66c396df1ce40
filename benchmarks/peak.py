"""What one core can do at best: fused multiply-adds on registers, and nothing else."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llvmlite import ir
from npmnv2.kernels.device.jit import njit
from npmnv2.kernels.device.probe import host_target
from npmnv2.kernels.device.simd import INT64, Emitter, Loop
from numba import types
from numba.extending import intrinsic

# Chains that do not wait for one another: at least latency × throughput of any processor's multiply-add (4 × 2), and
# as many as leave registers for the two factors.
CHAINS = 12


@intrinsic
def _multiply_adds(typing: Any, target: Any, turns: Any) -> Any:
    """Run CHAINS multiply-adds `turns` times, and store their sum lest they be left out."""

    def codegen(context: Any, builder: ir.IRBuilder, _: Any, arguments: Any) -> ir.Value:
        target, turns = arguments
        emit = Emitter(builder, host_target().lanes)
        half, *starts = emit.load_all(target, CHAINS + 1)
        with_counter = [INT64(0), *starts]
        loop = Loop(builder, with_counter)
        turn, *sums = loop.values
        # x/2 + 1/2 runs towards 1: neither overflow nor denormal numbers.
        following = builder.add(turn, INT64(1))
        loop.repeat(builder.icmp_signed("<", following, turns), [following, *(emit.fma(x, half, half) for x in sums)])
        total = loop.values[1]
        for value in loop.values[2:]:
            total = builder.fadd(total, value)
        emit.store(total, target)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@njit(cached=False)
def _run(target, turns):
    _multiply_adds(target, turns)


def measure(seconds: float = 0.2) -> float:
    """Return the FLOP/s of this core: the best of several runs, a multiply-add counted as two."""
    memory = np.full((CHAINS + 1) * host_target().lanes, 0.5, np.float32)
    turns, best = 1_000_000, float("inf")
    _run(memory.ctypes.data, 1)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        _run(memory.ctypes.data, turns)
        best = min(best, time.perf_counter() - start)
    return 2 * CHAINS * host_target().lanes * turns / best


if __name__ == "__main__":
    print(f"{measure() / 1e9:.1f} GFLOP/s with vectors of {host_target().lanes}")
