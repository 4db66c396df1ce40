"""Which backend runs a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from npmnv2.backends.interface import Backend
from npmnv2.backends.numpy import NumpyBackend
from npmnv2.errors import ArgumentError, ArgumentTypeError, MissingPackageError
from npmnv2.kernels.host.engine import Engine, find_bfloat16_engine, find_engine, find_integer_engine

if TYPE_CHECKING:
    from npmnv2.backends.integers import QuantizedBackend
    from npmnv2.network.quantization import Quantization

BACKENDS = ("auto", "compiled", "numba", "numpy")
# What the products of a network of float32 numbers multiply.
PRECISIONS = ("float32", "bf16")
# Far above any machine's CPUs that this could be of use on, and what the compiled kernels have room for.
MAX_THREADS = 256
_hinted = False


def get_backend(name: str = "auto", dtype: Any = np.float32, precision: str = "float32") -> Backend:
    """Return the backend called `name`.

    "compiled" takes the kernels of the package's library, or else compiles them with Numba, as "numba" always does; the
    results are the same bits. "auto" is the same where there is either and the numbers are float32, otherwise "numpy".
    With the `precision` "bf16" there is no such choice: a processor without its products gets an error, for NumPy takes
    a second for what they take milliseconds for, and is for tests.

    Raises
    ------
    ArgumentError
        If there is no such backend or precision, or it cannot compute in `dtype`.
    MissingPackageError
        If compiled kernels were asked for by name, and there is neither a library for this processor nor Numba.
    """
    if name not in BACKENDS:
        raise ArgumentError(f"backend (={name!r}) must be one of {', '.join(BACKENDS)}")
    single = np.dtype(dtype) == np.float32
    if check_precision(precision) == "bf16":
        return _bfloat16_backend(name, single)
    if name in ("compiled", "numba") and not single:
        raise ArgumentError(
            f"dtype (={np.dtype(dtype).name}) must be float32 with backend={name!r}; use backend='numpy'"
        )
    if name == "numpy" or not single:
        return NumpyBackend()
    engine = find_engine("numba" if name == "numba" else "")
    if engine is None:
        if name != "auto":
            raise _without_engine(name)
        _hint_once()
        return NumpyBackend()
    from npmnv2.backends.compiled import CompiledBackend

    return CompiledBackend(engine)


def _bfloat16_backend(name: str, single: bool) -> Backend:
    if not single:
        raise ArgumentError("dtype must be float32 with precision='bf16'")
    if name == "numpy":
        from npmnv2.backends.bfloat16 import Bfloat16Backend

        return Bfloat16Backend()
    engine = find_bfloat16_engine("numba" if name == "numba" else "")
    if engine is None:
        raise ArgumentError(
            f"precision (='bf16') with backend={name!r} needs an x86 processor with AVX-512 BF16, and the package's "
            "library or Numba; use precision='float32', or backend='numpy' for the same numbers, slowly"
        )
    from npmnv2.backends.compiled_bfloat16 import CompiledBfloat16Backend

    return CompiledBfloat16Backend(engine)


def check_precision(precision: str) -> str:
    """Return `precision` if there is such a one.

    Raises
    ------
    ArgumentError
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision (={precision!r}) must be one of {', '.join(PRECISIONS)}")
    return precision


def get_quantized_backend(
    name: str, dtype: Any, quantization: Quantization, arithmetic: str | None = None
) -> QuantizedBackend:
    """Return the backend for a quantized network; without an `arithmetic` that of the file's own runtime.

    Raises
    ------
    ValueError
        If there is no such backend or arithmetic, or `dtype` is not float32.
    """
    if name not in BACKENDS:
        raise ArgumentError(f"backend (={name!r}) must be one of {', '.join(BACKENDS)}")
    if np.dtype(dtype) != np.float32:
        raise ArgumentError(f"dtype (={np.dtype(dtype).name}) must be float32 for a quantized network")
    from npmnv2.backends.integers import QuantizedBackend

    arithmetic = arithmetic or quantization.arithmetic
    return QuantizedBackend(quantization, arithmetic, _engine_for(name, arithmetic))


def _engine_for(name: str, arithmetic: str) -> Engine | None:
    """What runs integers in an arithmetic; None for NumPy."""
    from npmnv2.kernels import quantized

    if name == "numpy" or arithmetic not in quantized.ARITHMETICS:
        if name in ("compiled", "numba"):
            raise ArgumentError(f"backend (={name!r}) must be 'auto' or 'numpy' with arithmetic={arithmetic!r}")
        return None
    engine = find_integer_engine(arithmetic, "numba" if name == "numba" else "")
    if engine is None and name != "auto":
        raise _without_engine(name)
    return engine


def _without_engine(name: str) -> MissingPackageError:
    return MissingPackageError(f"backend (={name!r}) needs Numba here: pip install 'npmnv2[numba]'")


def check_threads(n_threads: int | None) -> int | None:
    """Return `n_threads` if it is None or possible.

    Raises
    ------
    ArgumentError, ArgumentTypeError
    """
    if n_threads is None:
        return None
    if isinstance(n_threads, bool) or not hasattr(n_threads, "__index__"):
        raise ArgumentTypeError(f"n_threads (={n_threads!r}) must be a whole number or None")
    if not 1 <= n_threads <= MAX_THREADS:
        raise ArgumentError(f"n_threads (={n_threads}) must be from 1 to {MAX_THREADS}")
    return int(n_threads)


def _hint_once() -> None:
    global _hinted
    if not _hinted:
        import logging

        logging.getLogger("npmnv2").warning(
            "Running on NumPy alone, without native kernels. pip install 'npmnv2[numba]' is several times as fast."
        )
        _hinted = True
