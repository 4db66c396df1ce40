"""What runs programs: kernels compiled by Numba for this processor, and the threads that they run on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from .target import Target
from .thread_team import ThreadTeam


class Engine(NamedTuple):
    """Compiled kernels, and the threads that run them.

    Attributes
    ----------
    name : str
    target : Target
        What they were compiled for: programs and weights are laid out for it.
    run : callable
        ``run(call, team, n_workers)`` runs the call whose record is at that address on the team at that address, and
        returns how many workers there were.
    team : ThreadTeam
    """

    name: str
    target: Target
    run: Callable[[int, int, int], int]
    team: ThreadTeam


def numba_engine(target: Target | None = None) -> Engine:
    """Kernels that Numba compiles when they are first used, or finds in its cache.

    They are made for the widest vectors of this processor if no target is given.
    """
    from ..device.probe import host_target

    return _numba_engine(target or host_target())


@functools.cache
def _numba_engine(target: Target) -> Engine:
    from ..device.program import make_enter
    from ..device.thread_team import ENTER_TYPES

    enter = make_enter(target)
    enter.compile(ENTER_TYPES)  # now, rather than while a caller waits for a new thread
    return Engine("numba", target, enter, ThreadTeam(functools.partial(enter, 0)))
