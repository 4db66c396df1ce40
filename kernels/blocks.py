"""Cutting work into pieces that stay in the cache, for the NumPy kernels."""

from __future__ import annotations

from collections.abc import Iterator

# Half of a usual 1 MB second-level cache: the rest is for the weights and the piece of the input.
_BLOCK_BYTES = 512 * 1024


def row_blocks(rows: int, row_bytes: int, budget: int = _BLOCK_BYTES) -> Iterator[slice]:
    """Slices that cover `rows` rows in order, each of at most `budget` bytes but at least one row."""
    step = max(1, budget // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
