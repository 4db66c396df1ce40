"""What runs programs: kernels from the library that came with the package, or compiled by Numba."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from npmnv2.errors import ArgumentError

from . import library
from .instruction_sets import BFLOAT16, FLOAT, instruction_sets, with_kernels
from .processor import Processor, this_processor
from .target import BFLOAT16_PRODUCTS, IntegerTarget, Target
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
    processor : Processor
        Whose caches sizes of tiles follow; no result depends on it.
    prepare : callable
        Compiles what is not compiled yet, rather than while a caller waits for a new thread.
    """

    name: str
    target: Any
    run: Callable[[int, int, int], int]
    team: ThreadTeam
    processor: Processor
    prepare: Callable[[], object]


SETTING = "NPMNV2_ENGINE"


def find_engine(name: str = "") -> Engine | None:
    """Return the engine called `name`, the one that NPMNV2_ENGINE names, or the best: the library, then Numba.

    Parameters
    ----------
    name : str
        ``"numba"``, ``"numpy"`` for none, or an instruction set: ``"avx512"``, ``"avx2"``, ``"neon"``, …. One that has
        no kernels of its own, such as ``"avx512vnni"`` for floats, stands for the best that it includes.

    Returns
    -------
    Engine or None
        None if the library has no such kernels, or none that this processor can run, and Numba is not installed.

    Raises
    ------
    ArgumentError
        If NPMNV2_ENGINE names what there is not, or not here.
    """
    return _find(name, FLOAT, numba_engine)


def find_bfloat16_engine(name: str = "") -> Engine | None:
    """Return the engine for bfloat16, as `find_engine` does for float32; None too if the processor multiplies none."""

    def by_numba() -> Engine | None:
        from ..device.probe import host_multiplies_bfloat16, host_target

        multiplies = host_multiplies_bfloat16()
        return numba_engine(host_target()._replace(features=frozenset({BFLOAT16_PRODUCTS}))) if multiplies else None

    return _find(name, BFLOAT16, by_numba)


def find_integer_engine(arithmetic: Arithmetic, name: str = "") -> Engine | None:
    """Return the engine for integers in an arithmetic, as `find_engine` does for floats."""

    def by_numba() -> Engine:
        from ..device.probe import host_features, host_target

        return numba_engine(IntegerTarget(host_target()._replace(features=host_features()), arithmetic))

    return _find(name, arithmetic, by_numba)


def _find(name: str, kind: str, by_numba: Callable[[], Engine | None]) -> Engine | None:
    setting = "" if name else os.environ.get(SETTING, "").strip()
    chosen = name or _known(setting)
    found = None if chosen == "numba" else library_engine(with_kernels(chosen, kind, platform.machine()), kind)
    if found is None and chosen in ("", "numba") and find_spec("numba"):
        found = by_numba()
    if found is None and setting not in ("", "numpy"):
        raise ArgumentError(
            f"{SETTING} (={setting}) asks for kernels that this installation has not or this processor cannot run;"
            f" unset it, or set it to numpy"
        )
    return found


def _known(setting: str) -> str:
    allowed = ("numpy", "numba", *(each.name for each in instruction_sets(platform.machine())))
    if setting and setting not in allowed:
        raise ArgumentError(f"{SETTING} (={setting}) must be one of {', '.join(allowed)}")
    return setting


@functools.cache
def library_engine(name: str, kind: str) -> Engine | None:
    """Kernels of the library: for an instruction set, or the best that this processor has; None without any."""
    found = library.load(name, kind=kind)
    if found is None:
        return None
    if not name:  # so that there is one team however it is asked for
        return library_engine(found.name, kind)
    processor = replace(this_processor(), half_width=found.half_width)
    return Engine(found.name, found.target, found.run, ThreadTeam(found.serve), processor, prepare=lambda: None)


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
    compile_now = functools.partial(enter.compile, ENTER_TYPES)
    return Engine("numba", target, enter, ThreadTeam(serve), this_processor(), compile_now)
