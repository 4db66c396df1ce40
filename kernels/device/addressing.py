"""Addresses and shares of work inside compiled code."""

from __future__ import annotations

import numpy as np

from ..host.steps import OFFSET_BITS
from .jit import njit

# Numba compiles a function anew for every combination of literal arguments (such as 0); these are not literal.
ZERO64, ONE64 = np.int64(0), np.int64(1)


@njit(cached=False)
def address(bases, place):
    """Address of a place, given the address of every buffer."""
    return bases[place >> OFFSET_BITS] + (place & ((1 << OFFSET_BITS) - 1))


@njit(cached=False)
def share(total, worker, workers):
    """The piece [first, last) of `total` that belongs to a worker."""
    return total * worker // workers, total * (worker + 1) // workers
