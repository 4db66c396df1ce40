"""Which backends can be tested here."""

from __future__ import annotations

import pytest
from npmnv2.kernels.host.engine import Engine, find_engine

BACKENDS = ["numpy", "compiled"] if find_engine() else ["numpy"]


def require_engine() -> Engine:
    """The engine of this environment; skips the calling module where there is none."""
    engine = find_engine()
    if engine is None:
        pytest.skip("needs compiled kernels: the library or Numba", allow_module_level=True)
    return engine
