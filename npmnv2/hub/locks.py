"""A lock between processes that the operating system takes back when its holder dies."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["locked"]

_POLL = 0.05


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold the lock of the file ``path``, which is created if it does not exist, and stays there empty.

    Threads of one process exclude each other as processes do.

    Raises
    ------
    TimeoutError
        If another thread or process held the lock for ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    with path.open("ab") as file:
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} has been locked by another process for {timeout:g} seconds")
            time.sleep(_POLL)
        yield


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
