"""Telling people why the first call takes long: the kernels are being compiled.

On a terminal a progress bar on standard error says so, elsewhere a message to the logger ``npmnv2``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from numba.core import event

_log = logging.getLogger("npmnv2")
_MESSAGE = "compiling the kernels for this processor, which takes 10 to 20 seconds once"

# How many functions a network compiles. It only scales the bar: more or fewer do no harm.
_USUAL_FUNCTIONS = 90


class _Notice(event.Listener):
    """Counts the functions that are compiled inside the outermost one. Numba compiles under a lock of its own."""

    def __init__(self) -> None:
        self._depth = 0
        self._bar: Any = None

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            if not _is_kernel(event.data["dispatcher"].py_func):
                return
            self._bar = _open_bar()
        self._depth += 1

    def on_end(self, event: Any) -> None:
        if self._depth == 0:  # the end of somebody else's function
            return
        self._depth -= 1
        if self._bar is not None:
            self._bar.update()
            if self._depth == 0:
                self._bar.close()


def _is_kernel(function: Any) -> bool:
    return str(function.__module__).startswith(__name__.partition(".device.")[0])


def _open_bar() -> Any:
    if not sys.stderr.isatty():
        _log.info(_MESSAGE)
        return None
    from tqdm import tqdm

    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}"
    return tqdm(desc=f"npmnv2: {_MESSAGE}", total=_USUAL_FUNCTIONS, file=sys.stderr, leave=False, bar_format=form)


def announce_compilation() -> None:
    """Announce the kernels that Numba compiles from now on: once for each that is called from Python."""
    event.register("numba:compile", _Notice())
