"""Which target Numba compiles for."""

from __future__ import annotations

import functools

import llvmlite.binding as llvm
from numba.core import config
from numba.core.codegen import get_host_cpu_features

from ..host.target import BFLOAT16_PRODUCTS, Target

# What a register is called in assembly, and what that says about the processor.
_WIDTHS = {"zmm": Target(16, 32), "ymm": Target(8, 16), "xmm": Target(4, 16)}
_PROBE = """
define <16 x float> @probe(<16 x float> %a, <16 x float> %b) {
  %sum = fadd <16 x float> %a, %b
  ret <16 x float> %sum
}
"""


@functools.cache
def host_target() -> Target:
    """The widest vectors of the processor that Numba compiles for.

    LLVM itself is asked: it compiles the sum of two long vectors, and the names of the registers tell. So
    ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` are honored, and no list of processors is needed.
    """
    assembly = _assembly(_PROBE)
    for register, found in _WIDTHS.items():
        if f"%{register}" in assembly:
            return found
    return Target(4, 32)  # NEON, and whatever else: 128 bits


# Instruction sets that integer kernels choose by.
_FEATURES = frozenset({"avx2", "avx512bw", "avx512vl", "avx512vnni", "avxvnni", "dotprod"})


@functools.cache
def host_features() -> frozenset[str]:
    """What the processor that Numba compiles for has of the instruction sets that kernels ask for."""
    return frozenset(name[1:] for name in _features().split(",") if name.startswith("+")) & _FEATURES


def host_multiplies_bfloat16() -> bool:
    """Whether the processor that Numba compiles for has the products of bfloat16, for its longest vectors."""
    return f"+{BFLOAT16_PRODUCTS}" in _features().split(",") and host_target().lanes == 16


def _features() -> str:
    features = config.CPU_FEATURES  # type: ignore[attr-defined]
    return str(get_host_cpu_features() if features is None else features)


def _assembly(source: str) -> str:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=config.CPU_NAME or llvm.get_host_cpu_name(),  # type: ignore[attr-defined]
        features=_features(),
        opt=2,
    )
    return str(machine.emit_assembly(llvm.parse_assembly(source)))
