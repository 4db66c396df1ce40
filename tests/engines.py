"""Which backends can be tested here."""

from __future__ import annotations

import platform

import pytest
from npmnv2.kernels.host.engine import (
    Engine,
    find_bfloat16_engine,
    find_engine,
    find_integer_engine,
    library_engine,
)
from npmnv2.kernels.host.instruction_sets import instruction_sets

from npmnv2.errors import ArgumentError
from npmnv2.kernels import quantized

BACKENDS = ["numpy", "compiled"] if find_engine() else ["numpy"]


def require_engine() -> Engine:
    """The engine of this environment; skips the calling module where there is none."""
    engine = find_engine()
    if engine is None:
        pytest.skip("needs compiled kernels: the library or Numba", allow_module_level=True)
    return engine


def require_bfloat16_engine() -> Engine:
    """The engine for bfloat16; skips the calling module where this processor, or this environment, has none."""
    try:
        engine = find_bfloat16_engine()
    except ArgumentError:  # NPMNV2_ENGINE asks for a set of kernels without them
        engine = None
    if engine is None:
        pytest.skip("needs AVX-512 BF16, and the library or Numba", allow_module_level=True)
    return engine


def _integer_engines() -> list[Engine]:
    """Those of the library, for every instruction set of this machine, or else Numba's."""
    sets = [(each.name, kind) for each in instruction_sets(platform.machine()) for kind in quantized.ARITHMETICS]
    found = [engine for name, kind in sets if (engine := library_engine(name, kind))]
    return found or [engine for kind in quantized.ARITHMETICS if (engine := find_integer_engine(kind))]


INTEGER_ENGINES = _integer_engines()
