"""What the workers of a thread team do; the host's side is in `npmnv2.kernels.host.thread_team`.

A call is a sequence of *items*, and an item falls into *shares*, which any worker may compute. A worker prefers the
shares that are its own, since their inputs lie in its cache, and after a moment takes what others have not begun. So
nobody waits for a worker that has no CPU, unless that one holds a share; the machine may be as busy and the team as
large as they like. Whoever completes the last share of an item opens the next one: that is the barrier.

`opened` packs what identifies an item into one number: its serial number, which never repeats, and into how many
shares it falls among how many workers. A share is taken by replacing a smaller serial number with the item's own.
A worker that comes late therefore finds every share of a past item taken, and needs no permission to look.

What one worker writes and another reads takes some 50 to 100 ns to get there, so as little as possible does: serial
numbers tell the items, and what has become of others' shares is looked at when there is nothing else to do.
"""

from __future__ import annotations

from typing import Any

from numba import types

from ..host.cpus import MAX_WORKERS
from ..host.thread_team import DONE, LOCK, OPENED, SHARE, SIZE, STATE, TEAM, WORKER
from .addressing import ONE64, ZERO64
from .jit import njit
from .machine import (
    atomic_add,
    atomic_exchange,
    atomic_load,
    atomic_store,
    call_at,
    compare_exchange,
    make_record_at,
    pause,
)

_WORKERS, _WORKER_BYTES = TEAM.itemsize, WORKER.itemsize
_SHARES, _SHARE_BYTES = _WORKERS + MAX_WORKERS * WORKER.itemsize, SHARE.itemsize

_AWAKE, _ASLEEP = 0, 1
# Some 30 µs: longer than workers differ, unless one of them has lost its CPU. And some milliseconds.
_SPINS, _YIELDS = 1_000, 10_000
# Longer than a caller takes from call to call, whose Python has left the caches: to wake a sleeper costs 30 µs.
_SPINS_BETWEEN_CALLS = 6_000
# Some 2 µs: others mostly finish by then, and to look at their shares would take the cache lines away from them.
_SPINS_BEFORE_HELP = 100

_team_at = make_record_at(TEAM)


# ---- What is opened --------------------------------------------------------------------------------------------------

_COUNT_BITS = 9


@njit(cached=False)
def _pack(serial, workers, shares):
    return (serial << 2 * _COUNT_BITS) + (workers << _COUNT_BITS) + shares


@njit(cached=False)
def _serial_of(opened):
    return opened >> 2 * _COUNT_BITS


@njit(cached=False)
def _workers_of(opened):
    return (opened >> _COUNT_BITS) & ((1 << _COUNT_BITS) - 1)


@njit(cached=False)
def _shares_of(opened):
    """Shares of an item; 0 at the end of a call."""
    return opened & ((1 << _COUNT_BITS) - 1)


# ---- Waiting ---------------------------------------------------------------------------------------------------------


@njit(cached=False)
def _lock(team, lock):
    call_at(_team_at(team).acquire, lock, 1)


@njit(cached=False)
def _unlock(team, lock):
    call_at(_team_at(team).release, lock, 0)


@njit(cached=False)
def _about_worker(team, worker):
    """Address of a worker's record."""
    return team + _WORKERS + worker * _WORKER_BYTES


@njit(cached=False)
def _is_news(opened, seen, worker):
    return opened != seen and worker < _workers_of(opened)


@njit(cached=False)
def _wait(team, worker, seen):
    """Return what is opened for this worker after `seen`."""
    about = _team_at(team)
    # Between calls a worker soon goes to sleep. Within one it gives way to whoever lacks a CPU: sooner, if there are
    # more workers than CPUs.
    spins, yields = (_SPINS, _YIELDS) if _shares_of(seen) > 0 else (_SPINS_BETWEEN_CALLS, 0)
    if _workers_of(seen) > about.cpus:
        spins = 0
    for turn in range(spins + yields):
        opened = atomic_load(team + OPENED)
        if _is_news(opened, seen, worker):
            return opened
        if turn < spins:
            pause()
        else:
            call_at(about.yield_cpu, 0, 0)
    return _sleep(team, worker, seen)


@njit(cached=False)
def _sleep(team, worker, seen):
    about = _about_worker(team, worker)
    while True:
        atomic_store(about + STATE, _ASLEEP)
        # What is opened before this line is seen here; what is opened later comes with a wake-up.
        opened = atomic_load(team + OPENED)
        if not _is_news(opened, seen, worker) or atomic_exchange(about + STATE, _AWAKE) == _AWAKE:
            _lock(team, atomic_load(about + LOCK))
            opened = atomic_load(team + OPENED)
        if _is_news(opened, seen, worker):
            return opened


@njit(cached=False)
def _wake(team, worker):
    about = _about_worker(team, worker)
    # Read first: it is cheaper, and nearly always all are awake.
    if atomic_load(about + STATE) == _ASLEEP and atomic_exchange(about + STATE, _AWAKE) == _ASLEEP:
        _unlock(team, atomic_load(about + LOCK))


# ---- Working ---------------------------------------------------------------------------------------------------------


@njit(cached=False)
def _take(team, opened, share):
    """Whether this worker is the one that computes a share."""
    place = team + _SHARES + share * _SHARE_BYTES
    serial, taken = _serial_of(opened), atomic_load(place)
    return taken < serial and compare_exchange(place, taken, serial)


@njit(cached=False)
def _is_over_soon(team, opened):
    """Whether others finish an item within a moment; no time is lost where they may lack a CPU."""
    for _ in range(_SPINS_BEFORE_HELP if _workers_of(opened) <= _team_at(team).cpus else ZERO64):
        if atomic_load(team + OPENED) != opened:
            return True
        pause()
    return False


@njit(cached=False)
def _next_share(team, opened, worker):
    """A share of an item that nobody has begun, now taken; -1 if there is none."""
    shares = _shares_of(opened)
    share = worker
    while share < shares:  # a range with a step that may be 0 could raise
        if _take(team, opened, share):
            return share
        share += _workers_of(opened)
    if _is_over_soon(team, opened):
        return -1
    for share in range(shares):
        if _take(team, opened, share):
            return share
    return -1


@njit(cached=False)
def _join(team, n_workers):
    """Enter the team; return the number of the new worker, or 0 if there are `n_workers` already."""
    about = _team_at(team)
    lock = call_at(about.allocate, 0, 0)
    if lock == 0:
        return 0
    _lock(team, lock)
    while True:
        size = atomic_load(team + SIZE)
        if size >= n_workers:
            _unlock(team, lock)
            call_at(about.free, lock, 0)
            return 0
        if compare_exchange(team + SIZE, size, size + 1):
            # In time: nobody looks for the lock of a worker that has not gone to sleep yet.
            atomic_store(_about_worker(team, size) + LOCK, lock)
            return size


ENTER_TYPES = (types.int64, types.int64, types.int64)


def make_entry(count_items: Any, count_shares: Any, run_share: Any, variant: str = "") -> Any:
    """Return the compiled function through which threads enter: to run a call, or to serve a team.

    Parameters
    ----------
    count_items : compiled function
        ``count_items(call, workers)``: into how many items the call at that address falls.
    count_shares : compiled function
        ``count_shares(call, workers, item)``: into how many shares, 1 to MAX_SHARES, an item falls.
    run_share : compiled function
        ``run_share(call, workers, item, share, worker)`` computes one. It must not raise: nobody would count the share
        as done.
    variant : str
        Tells the results of this factory apart.

    Returns
    -------
    compiled function
        ``enter(call, team, n_workers)``. With a call it runs it, alone or on the team, and returns how many workers
        there were. Without (0) the calling thread becomes a worker of the team for ever, or returns if there are
        `n_workers` already.
    """
    # Inlined, or else the kernels below them would be compiled again in each of them.

    @njit(variant=variant, cached=False)
    def open_item(team, serial, workers):
        """Let the workers begin an item; after the last one, end the call."""
        about = _team_at(team)
        item = serial - about.first
        shares = count_shares(about.call, workers, item) if item < about.n_items else ZERO64
        atomic_store(team + DONE, 0)
        atomic_store(team + OPENED, _pack(serial, workers, shares))
        # The end of a call concerns only its caller, an item all workers: some may have waited long for this one.
        for worker in range(workers if shares > 0 else ONE64):
            _wake(team, worker)

    @njit(variant=variant, cached=False, inline=True)
    def work(team, opened, worker):
        """Compute shares of an item, and open the next one if the last of them was ours."""
        about = _team_at(team)
        shares, workers = _shares_of(opened), _workers_of(opened)
        share = _next_share(team, opened, worker)
        while share >= 0:
            # Until this share is done the call cannot end.
            run_share(about.call, workers, _serial_of(opened) - about.first, share, worker)
            if atomic_add(team + DONE, 1) + 1 == shares:
                open_item(team, _serial_of(opened) + 1, workers)
                return
            share = _next_share(team, opened, worker)

    @njit(variant=variant, cached=False, inline=True)
    def work_for_ever(team, worker):
        opened = ZERO64
        while opened >= 0:  # always: Numba cannot inline what never returns
            opened = _wait(team, worker, opened)
            work(team, opened, worker)

    @njit(variant=variant, cached=False, inline=True)
    def run_alone(call):
        for item in range(count_items(call, ONE64)):
            for share in range(count_shares(call, ONE64, item)):
                run_share(call, ONE64, item, share, ZERO64)

    @njit(variant=variant, cached=False, inline=True)
    def run_on_team(call, team, workers):
        """Run a call; this thread is worker 0 of the team, which it must have to itself."""
        about = _team_at(team)
        opened = atomic_load(team + OPENED)
        about.call, about.n_items, about.first = call, count_items(call, workers), _serial_of(opened) + 1
        open_item(team, about.first, workers)
        while True:
            opened = _wait(team, ZERO64, opened)
            if _shares_of(opened) == 0:
                return
            work(team, opened, ZERO64)

    @njit(variant=variant)
    def enter(call, team, n_workers):
        if call == 0:
            worker = _join(team, n_workers)
            if worker > 0:
                work_for_ever(team, worker)
            return 0
        if n_workers > 1:
            mutex = _team_at(team).mutex
            _lock(team, mutex)
            workers = min(n_workers, atomic_load(team + SIZE))
            run_on_team(call, team, workers)
            _unlock(team, mutex)
            return workers
        run_alone(call)
        return 1

    return enter
