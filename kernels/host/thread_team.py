"""The thread team: threads that compute inside compiled code, without OpenMP, TBB or Python's global lock.

One inference has about twenty steps that end with all workers done, and lasts from a fraction of a millisecond to a
few. Numba's own scheduler needs 50–150 µs per step and aborts when two threads use it; GNU OpenMP kills forked
children. Here a step costs a tenth of a microsecond, and an inference one dispatch. How workers share the steps is in
`npmnv2.kernels.device.thread_team`; this module owns the memory that they meet in, and starts threads.

No Python code guards or counts anything: a new thread enters the team, and a caller takes it, by atomic operations of
compiled code. So a signal handler that raises, at whatever point of this module, leaves the team as it was, at worst
without a thread that the next call starts.
"""

from __future__ import annotations

import _thread
import ctypes
import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from npmnv2.forks import renew_in_children

from .cpus import MAX_WORKERS, usable_cpus
from .memory import aligned

# Shares that one step can be cut into.
MAX_SHARES = 256

# What several threads write has cache lines of its own, so that waiting for one number is not disturbed by changes of
# another; 128 bytes, because processors fetch lines in pairs.
LINE = 128
SIZE, OPENED, DONE = LINE, 2 * LINE, 3 * LINE
_SET_BY_CALLERS = (
    "mutex", "cpus", "call", "first", "n_items", "allocate", "free", "acquire", "release", "yield_cpu",
)  # fmt: skip
TEAM = np.dtype(
    {
        "names": [*_SET_BY_CALLERS, "size", "opened", "done"],
        "formats": [np.int64] * (len(_SET_BY_CALLERS) + 3),
        "offsets": [*range(0, 8 * len(_SET_BY_CALLERS), 8), SIZE, OPENED, DONE],
        "itemsize": 4 * LINE,
    }
)
# After the team's own record one for each worker, and for each share of a step.
STATE, LOCK = 0, 8
WORKER = np.dtype({"names": ["state", "lock"], "formats": [np.int64] * 2, "offsets": [STATE, LOCK], "itemsize": LINE})
SHARE = np.dtype({"names": ["taken"], "formats": [np.int64], "itemsize": LINE})
_SIZE = TEAM.itemsize + MAX_WORKERS * WORKER.itemsize + MAX_SHARES * SHARE.itemsize


class ThreadTeam:
    """The threads of this process that serve one engine: started when first needed, then kept, asleep when idle.

    Parameters
    ----------
    serve : callable
        Compiled code: ``serve(address, n_workers)`` makes the calling thread a worker of the team at `address` and
        works for ever; it returns only if the team has `n_workers` already.
    patience : float
        Seconds to wait for a new thread. On a busy machine the next call may be the first that it helps.

    Attributes
    ----------
    address : int
        Of the team's record.
    """

    def __init__(self, serve: Callable[[int, int], Any], patience: float = 0.1) -> None:
        self._serve = serve
        self._patience = patience
        self._renew()
        renew_in_children(self)

    def _renew(self) -> None:
        self._memory = _new_team()
        self.address = int(self._memory.ctypes.data)
        # Read in every call, which a view in NumPy would make longer.
        self._size = ctypes.c_int64.from_address(self.address + SIZE)

    @property
    def size(self) -> int:
        """Workers, the calling thread included."""
        return self._size.value

    def resize(self, n_workers: int) -> None:
        """Start threads until there are `n_workers`, or the system has no more for us. The team never shrinks."""
        wanted = min(n_workers, MAX_WORKERS)
        while (size := self.size) < wanted:
            try:
                # Not threading.Thread, whose bookkeeping in Python a signal can interrupt.
                _thread.start_new_thread(self._work, (wanted,))
            except RuntimeError:
                return
            if not self._grows_beyond(size):
                return

    def _work(self, wanted: int) -> None:
        # The frame of this call keeps the memory while the thread lives, which is longer than Python.
        memory = self._memory
        self._serve(memory.ctypes.data, wanted)

    def _grows_beyond(self, size: int) -> bool:
        """Wait for a new thread; return whether it came in time."""
        end = time.monotonic() + self._patience
        while self.size == size:
            if time.monotonic() > end:
                return False
            time.sleep(2e-5)
        return True

    def renew_after_fork(self) -> None:
        """A forked child has none of its parent's threads, and perhaps a mutex that none of its own will release."""
        self._renew()


def _new_team() -> np.ndarray[Any, np.dtype[np.uint8]]:
    memory = aligned(_SIZE)
    memory[:] = 0
    team = memory[: TEAM.itemsize].view(TEAM)[0]
    team["size"], team["cpus"] = 1, usable_cpus()
    for name, address in _functions().items():
        team[name] = address
    team["mutex"] = _new_lock()
    # The calling thread is worker 0, whoever it is; it sleeps on this lock, so others find it taken.
    first = memory[TEAM.itemsize :][: WORKER.itemsize].view(WORKER)[0]
    first["lock"] = _new_lock()
    ctypes.pythonapi.PyThread_acquire_lock(ctypes.c_void_p(int(first["lock"])), 1)
    return memory


def _new_lock() -> int:
    allocate = ctypes.pythonapi.PyThread_allocate_lock
    allocate.restype = ctypes.c_void_p
    return int(allocate())


@functools.cache
def _functions() -> dict[str, int]:
    """Addresses of the C functions that compiled code calls, by their names in the team's record.

    The locks are those under Python's own: there on every platform, and usable without the global lock. Passed as
    addresses, they leave the compiled code without a symbol to resolve, so one library serves every Python.
    """
    if sys.platform == "win32":
        system = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        system = ctypes.CDLL(None).sched_yield
    functions = {
        "allocate": ctypes.pythonapi.PyThread_allocate_lock,
        "free": ctypes.pythonapi.PyThread_free_lock,
        "acquire": ctypes.pythonapi.PyThread_acquire_lock,
        "release": ctypes.pythonapi.PyThread_release_lock,
        "yield_cpu": system,
    }
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in functions.items()}
