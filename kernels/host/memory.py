"""Memory for programs: blocks that start at a cache line, a heap for activations, and packed constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
CACHE_LINE = 64


def round_up(size: int) -> int:
    """The next multiple of a cache line."""
    return -(-size // CACHE_LINE) * CACHE_LINE


def aligned(size: int) -> Bytes:
    """Zeroed memory that starts at a cache line, so that no aligned vector lies in two."""
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size]


class Heap:
    """Plans one block of memory: hands out pieces by first fit and remembers the size that the block needs."""

    def __init__(self) -> None:
        self.size = 0
        self._used: list[tuple[int, int]] = []

    def take(self, size: int) -> int:
        """Return the offset of a free piece."""
        size = round_up(size)
        at = 0
        for start, stop in self._used:
            if start - at >= size:
                break
            at = max(at, stop)
        self._used = sorted([*self._used, (at, at + size)])
        self.size = max(self.size, at + size)
        return at

    def give_back(self, at: int) -> None:
        """Free the piece at an offset."""
        self._used = [piece for piece in self._used if piece[0] != at]


class Constants:
    """Collects arrays in one block and tells where each lies."""

    def __init__(self) -> None:
        self._pieces: list[NDArray[Any]] = []
        self._size = 0

    def add(self, array: NDArray[Any]) -> int:
        """Append an array; return its offset."""
        at = self._size
        self._pieces.append(np.ascontiguousarray(array))
        self._size = round_up(at + array.nbytes)
        return at

    def block(self) -> Bytes:
        """All arrays, one after the other."""
        block = aligned(self._size)
        at = 0
        for piece in self._pieces:
            block[at : at + piece.nbytes] = piece.reshape(-1).view(np.uint8)
            at = round_up(at + piece.nbytes)
        return block
