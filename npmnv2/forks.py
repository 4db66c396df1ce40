"""Locks and forks: a forked child copies a lock that a thread of its parent may hold and that nobody will release.

Whatever holds a lock registers here; in the child it then makes a new one.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something with locks, or with a state that a lock guards."""

    def renew_after_fork(self) -> None:
        """Make the locks anew and restore what they guard; runs in the child, before any of its own code."""


_registered: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(owner: Renewable) -> None:
    """Call ``owner.renew_after_fork()`` in every child that this process forks while `owner` exists."""
    _registered.add(owner)


def _renew_all() -> None:
    for owner in _registered:
        owner.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
