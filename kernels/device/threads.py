"""Threads of our own: they wait, work and meet inside compiled code, without OpenMP, TBB or Python's global lock.

One inference has about twenty steps that end with a meeting of all workers, and lasts from a fraction of a
millisecond to a few. Numba's own scheduler needs 50–150 µs per step and aborts when two threads use it; GNU OpenMP
kills forked children. Here a step costs one `barrier`, a tenth of a microsecond, and an inference one hand-over:

    @njit
    def step(x, y, crew, worker, n_workers): ...   # may call barrier(crew, n_workers)

    run = in_parallel(step)

    with workers(n_threads) as crew:               # these threads are ours until the block ends
        run(crew, x, y, crew)

There is one crew per process. Who asks for more than one worker has the crew alone; others wait their turn, so that
no more threads compute than the largest crew that anyone asked for. Who asks for one worker is its own crew.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import njit

Crew = np.ndarray[Any, np.dtype[np.int64]]

_INT64 = ir.IntType(64)
_POINTER = ir.IntType(8).as_pointer()
_X86 = ("x86_64", "i386", "i686", "amd64")

# ---- What LLVM can do and Numba's Python cannot say ------------------------------------------------------------------


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to an element of a C-contiguous int64 array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def atomic_add(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Add to an element of an int64 array; return what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, index, value = args
        pointer = _element(context, builder, signature.args[0], array, index)
        return builder.atomic_rmw("add", pointer, value, "acq_rel")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def atomic_exchange(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Set an element of an int64 array; return what it was before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, index, value = args
        pointer = _element(context, builder, signature.args[0], array, index)
        return builder.atomic_rmw("xchg", pointer, value, "acq_rel")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def atomic_load(typingctx: Any, array: Any, index: Any) -> Any:
    """Read an element of an int64 array; nothing that follows is read before it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _element(context, builder, signature.args[0], *args)
        return builder.load_atomic(pointer, ordering="acquire", align=8)

    return types.int64(array, types.int64), codegen


@intrinsic
def pause(typingctx: Any) -> Any:
    """Tell the processor that this is a loop that waits: it saves power, and the core's other thread gets more."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        triple = builder.module.triple
        if triple.startswith(_X86):
            _call_llvm(builder, "llvm.x86.sse2.pause")
        elif triple.startswith(("aarch64", "arm64")):
            _call_llvm(builder, "llvm.aarch64.hint", ir.Constant(ir.IntType(32), 1))
        return context.get_dummy_value()

    return types.void(), codegen


def _call_llvm(builder: Any, name: str, *args: Any) -> None:
    signature = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
    builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)


@intrinsic
def _task(typingctx: Any, function: Any, arguments: Any) -> Any:
    """Return two addresses: of code that calls ``function(*arguments, worker, n_workers)``, and of the arguments.

    The arguments are on the stack of the compiled function that this stands in, valid until that returns.
    """
    inner = function.get_call_type(typingctx, (*arguments, types.int64, types.int64), {})

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = cgutils.alloca_once_value(builder, args[1])
        compiled = function.dispatcher.get_compile_result(inner)
        context.active_code_library.add_linking_library(compiled.library)
        name = builder.module.get_unique_name(f"{compiled.fndesc.mangled_name}.task")
        task = ir.Function(builder.module, ir.FunctionType(_INT64, [_POINTER, _INT64, _INT64]), name)
        task.linkage = "internal"
        inside = ir.IRBuilder(task.append_basic_block())
        values = inside.load(inside.bitcast(task.args[0], stored.type))
        unpacked = [inside.extract_value(values, i) for i in range(len(arguments))]
        status, _ = context.call_internal_no_propagate(
            inside, compiled.fndesc, inner, [*unpacked, task.args[1], task.args[2]]
        )
        inside.ret(inside.zext(status.is_error, _INT64))
        addresses = [builder.ptrtoint(pointer, _INT64) for pointer in (task, stored)]
        return context.make_tuple(builder, signature.return_type, addresses)

    return types.UniTuple(types.int64, 2)(function, arguments), codegen


@intrinsic
def _call_task(typingctx: Any, task: Any, arguments: Any, worker: Any, n_workers: Any) -> Any:
    """Call what `_task` made; return 1 if it raised an error, else 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(_INT64, [_POINTER, _INT64, _INT64]).as_pointer()
        task, arguments, worker, n_workers = args
        return builder.call(
            builder.inttoptr(task, function), [builder.inttoptr(arguments, _POINTER), worker, n_workers]
        )

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen


_give_way = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())
# The locks under Python's own: on every platform, and usable without the global lock.
_acquire = types.ExternalFunction("PyThread_acquire_lock", types.int32(types.intp, types.int32))
_release = types.ExternalFunction("PyThread_release_lock", types.void(types.intp))

# ---- Waiting ---------------------------------------------------------------------------------------------------------

# In all some 20 to 50 µs: longer than workers differ, unless one of them has lost its CPU.
_SPINS, _SPINS_AT_ONCE = 1000, 100

# Places in a crew. Each counter has a cache line (8 numbers) of its own, so that who waits for one of them is not
# disturbed by changes of another. Beside the state of a worker stands the address of its lock.
_TASK, _ARGUMENTS, _N_WORKERS, _DONE, _FAILED, _BARRIER, _STATES, _LINE = 0, 1, 2, 8, 16, 24, 32, 8
_IDLE, _POSTED, _ASLEEP = 0, 1, 2


@njit(cached=False)
def _reaches(crew, place, wanted):
    """Spin until a counter is at least `wanted`; give up after a while and return False."""
    for spins in range(_SPINS):
        if atomic_load(crew, place) >= wanted:
            return True
        if spins > _SPINS_AT_ONCE:
            pause()
    return False


@njit(cached=False)
def _wait(crew, place, wanted):
    while not _reaches(crew, place, wanted):
        # More workers than free CPUs: the one that is missing may be waiting for ours.
        _give_way()


@njit(cached=False)
def barrier(crew, n_workers):
    """Wait until all workers are here; what they wrote before is seen by all after."""
    if n_workers > 1:
        # The counter never goes back within a run, so that one number serves all barriers.
        arrived = atomic_add(crew, _BARRIER, 1)
        _wait(crew, _BARRIER, arrived - arrived % n_workers + n_workers)


# ---- Working ---------------------------------------------------------------------------------------------------------


def in_parallel(step: Callable[..., None]) -> Callable[..., None]:
    """Make of a compiled function one that runs it on every worker of a crew at once.

    Parameters
    ----------
    step : compiled function
        Called as ``step(*arguments, worker, n_workers)`` with the same arguments everywhere. It raises only by
        mistake: the others would wait at their next barrier for ever.

    Returns
    -------
    compiled function
        Called as ``run(crew, *arguments)``, from Python or compiled code; it returns when all workers are done.
    """

    @njit(variant=f"{step.__module__}.{step.__qualname__}")
    def run(crew, *arguments):
        n_workers = crew[_N_WORKERS]
        if n_workers == 1:
            step(*arguments, 0, 1)
            return
        task, where = _task(step, arguments)
        crew[_TASK], crew[_ARGUMENTS] = task, where
        crew[_DONE], crew[_FAILED], crew[_BARRIER] = 0, 0, 0
        for worker in range(1, n_workers):
            state = _STATES + worker * _LINE
            if atomic_exchange(crew, state, _POSTED) == _ASLEEP:
                _release(crew[state + 1])
        failed = _call_task(task, where, 0, n_workers)
        _wait(crew, _DONE, n_workers - 1)
        if failed + crew[_FAILED] > 0:
            raise RuntimeError("a kernel raised an error; run with n_threads=1 to see it")

    return run


@njit
def _serve(crew, worker):
    """Work for ever: wait for a task, run it, say so."""
    state = _STATES + worker * _LINE
    while True:
        # Exchanged rather than set: a task that comes at this moment is seen here, and its sender sees us awake.
        if not _reaches(crew, state, _POSTED) and atomic_exchange(crew, state, _ASLEEP) == _IDLE:
            _acquire(crew[state + 1], 1)
        failed = _call_task(crew[_TASK], crew[_ARGUMENTS], worker, crew[_N_WORKERS])
        atomic_add(crew, _FAILED, failed)
        atomic_exchange(crew, state, _IDLE)
        atomic_add(crew, _DONE, 1)


# ---- The crew --------------------------------------------------------------------------------------------------------

MOST_WORKERS = 256


def _new_crew(n_workers: int, most: int) -> Crew:
    crew = np.zeros(_STATES + most * _LINE, np.int64)
    crew[_N_WORKERS] = n_workers
    return crew


class _Pool:
    """The threads of this process: started when first needed, then kept, asleep when there is nothing to do."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.crew = _new_crew(1, MOST_WORKERS)
        self.started = 1  # the calling thread is worker 0

    def hire(self, n_workers: int) -> Crew:
        """Return the crew with `n_workers`, or fewer if the system has no more threads for us."""
        try:
            while self.started < n_workers:
                self._start(self.started)
                self.started += 1
        except RuntimeError:
            n_workers = self.started
        self.crew[_N_WORKERS] = n_workers
        return self.crew

    def _start(self, worker: int) -> None:
        _serve.compile((types.int64[::1], types.int64))  # here, rather than while others wait for the new thread
        lock = ctypes.pythonapi.PyThread_allocate_lock
        lock.restype = ctypes.c_void_p
        address = lock()
        ctypes.pythonapi.PyThread_acquire_lock(ctypes.c_void_p(address), 1)
        self.crew[_STATES + worker * _LINE + 1] = address
        # A daemon: it never comes back to Python, so that it needs nothing of an interpreter that goes away.
        threading.Thread(target=_serve, args=(self.crew, worker), name=f"npmnv2-{worker}", daemon=True).start()


_alone = _new_crew(1, 1)
_pool = _Pool()


def _forget_threads() -> None:
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    # A forked child has none of its parent's threads, and perhaps a mutex that none of its own will release.
    os.register_at_fork(after_in_child=_forget_threads)


@contextmanager
def workers(n_workers: int) -> Iterator[Crew]:
    """Have `n_workers` threads, the calling one included, until the block ends.

    Several workers are one crew, which only one caller can have at a time: others wait here.

    Yields
    ------
    int64[::1]
        The crew, for `in_parallel` and `barrier`. It may be smaller than asked for.
    """
    if n_workers == 1:
        yield _alone
        return
    pool = _pool
    with pool.mutex:
        yield pool.hire(min(n_workers, MOST_WORKERS))


# ---- How many --------------------------------------------------------------------------------------------------------


def default_threads(n_threads: int | None = None) -> int:
    """Return how many threads to use: `n_threads`, else NPMNV2_NUM_THREADS, else OMP_NUM_THREADS, else all usable CPUs.

    CPUs are usable if the process may run on them (its affinity) and its control group has time on them (its quota).

    Raises
    ------
    TypeError, ValueError
        If the number that counts is not a whole number above zero.
    """
    if n_threads is not None:
        if isinstance(n_threads, bool) or not hasattr(n_threads, "__index__"):
            raise TypeError(
                f"n_threads (={n_threads!r}) must be a whole number or None, got {type(n_threads).__name__}"
            )
        return _at_least_one("n_threads", n_threads)
    if own := os.environ.get("NPMNV2_NUM_THREADS", "").strip():
        return _at_least_one("NPMNV2_NUM_THREADS", own)
    # OpenMP allows a list, one number per level of nesting, and other programs' mistakes are not ours to report.
    shared = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if shared.isdecimal() and int(shared) > 0:
        return min(int(shared), MOST_WORKERS)
    return min(usable_cpus(), MOST_WORKERS)


def _at_least_one(name: str, value: object) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST_WORKERS:
        raise ValueError(f"{name} (={value}) must be a whole number from 1 to {MOST_WORKERS}, got {value!r}")
    return int(number)


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use at a time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _cpu_quota() -> float | None:
    """CPUs' worth of time that the control group grants (containers set this), None if there is no limit."""
    with suppress(OSError, ValueError, IndexError):  # version 2: "max 100000" or "150000 100000"
        quota, period = (_CGROUPS / "cpu.max").read_text().split()[:2]
        return int(quota) / int(period)
    with suppress(OSError, ValueError):  # version 1: -1 means no limit
        quota_us = int((_CGROUPS / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((_CGROUPS / "cpu" / "cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else None
    return None


_CGROUPS = Path("/sys/fs/cgroup")
