"""What runs programs: kernels from the library that came with the package, or compiled by Numba."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from . import library
from .instruction_sets import FLOAT
from .target import IntegerTarget, Target
from .thread_team import ThreadTeam

if TYPE_CHECKING:
    from ..quantized import Arithmetic


class Engine(NamedTuple):
    """Compiled kernels, and the threads that run them.

    Attributes
    ----------
    name : str
        ``"numba"``, or the instruction set of the library's kernels.
    target : Target or IntegerTarget
        What they were compiled for: programs and weights are laid out for it.
    run : callable
        ``run(call, team, n_workers)`` runs the call whose record is at that address on the team at that address, and
        returns how many workers there were.
    team : ThreadTeam
    prepare : callable
        Compiles what is not compiled yet, rather than while a caller waits for a new thread.
    """

    name: str
    target: Any
    run: Callable[[int, int, int], int]
    team: ThreadTeam
    prepare: Callable[[], object]


def find_engine(name: str = "") -> Engine | None:
    """Return the engine called `name`, the one that NPMNV2_ENGINE names, or the best: the library, then Numba.

    Parameters
    ----------
    name : str
        ``"numba"``, or an instruction set: ``"avx512"``, ``"avx2"``, ``"neon"``.

    Returns
    -------
    Engine or None
        None if the library has no such kernels, or none that this processor can run, and Numba is not installed.
    """
    name = name or os.environ.get("NPMNV2_ENGINE", "")
    if name != "numba" and (found := library_engine(name, FLOAT)):
        return found
    return numba_engine() if name in ("", "numba") and find_spec("numba") else None


def find_integer_engine(arithmetic: Arithmetic, name: str = "") -> Engine | None:
    """Return the engine for integers in an arithmetic, as `find_engine` does for floats."""
    name = name or os.environ.get("NPMNV2_ENGINE", "")
    if name != "numba" and (found := library_engine(name, arithmetic)):
        return found
    if name in ("", "numba") and find_spec("numba"):
        from ..device.probe import host_features, host_target

        return numba_engine(IntegerTarget(host_target()._replace(features=host_features()), arithmetic))
    return None


@functools.cache
def library_engine(name: str, kind: str) -> Engine | None:
    """Kernels of the library: for an instruction set, or the best that this processor has; None without any."""
    found = library.load(name, kind=kind)
    if found is None:
        return None
    if not name:  # so that there is one team however it is asked for
        return library_engine(found.name, kind)
    return Engine(found.name, found.target, found.run, ThreadTeam(found.serve), prepare=lambda: None)


@functools.cache
def numba_engine(target: Target | IntegerTarget | None = None) -> Engine:
    """Kernels that Numba compiles for a target, or finds in its cache; for this processor if it is not given."""
    from ..device.probe import host_target

    if target is None:
        return numba_engine(host_target())
    from ..device.program import make_enter
    from ..device.thread_team import ENTER_TYPES

    enter = make_enter(target)
    serve = functools.partial(enter, 0)
    return Engine("numba", target, enter, ThreadTeam(serve), prepare=functools.partial(enter.compile, ENTER_TYPES))
