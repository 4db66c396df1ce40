"""The one decorator of all compiled functions, and the place where their machine code is kept on disk."""

from __future__ import annotations

from numba import njit as _numba_njit


def njit(function=None, *, variant=""):  # type: ignore[no-untyped-def]
    """Compile a kernel."""
    if function is None:
        return lambda function: njit(function, variant=variant)
    return _numba_njit(nogil=True, error_model="numpy")(function)
