"""Memory of a process that reads one photo after the other."""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

# Buffers up to here come from the heap (glibc allows no more), and so much of it is kept when it is free.
_HEAP_BYTES = 1 << 25
_KEPT_BYTES = 1 << 27


def keep_freed_memory() -> bool:
    """Ask the C library to keep the memory of one photo for the next; False where it has no such setting.

    The pixels of a photo are megabytes, several times over. By default each buffer is fetched from the system anew,
    page by page: for a photo of two megapixels that takes longer than to decode it. For processes of our own, the
    commands and the server; a library leaves its user's process as it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _HEAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
