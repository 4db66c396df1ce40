"""Ctrl-C that is not lost: raised inside a destructor, of which Dask's futures have one, Python would only print it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred_interrupts(wake: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Note Ctrl-C rather than raise it wherever the main thread is; the second one is raised at once.

    Where the program handles SIGINT in a way of its own, and in other threads, which are never interrupted, nothing is
    changed.

    Parameters
    ----------
    wake : callable
        Called when it is noted, anywhere in the main thread's code; must be safe there, as `SimpleQueue.put` is.

    Yields
    ------
    callable
        To be called where it is safe: raises KeyboardInterrupt if one was noted.
    """
    noted = False

    def note(*_: Any) -> None:
        nonlocal noted
        noted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        wake()

    def check() -> None:
        if noted:
            raise KeyboardInterrupt

    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not is_ours:
        yield check
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
