"""Locks in forked children."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref

import pytest

from npmnv2 import forks

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


class Owner:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        forks.renew_in_children(self)

    def renew_after_fork(self) -> None:
        self.lock = threading.Lock()


def status_of_child(work) -> int:
    """Exit code of a forked child that calls `work`; the signal's negative number if it had to be ended."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_held_lock_is_free_in_the_child() -> None:
    owner = Owner()
    with owner.lock:
        assert status_of_child(lambda: owner.lock.acquire(timeout=10)) == 0
        assert owner.lock.locked()


def test_owners_are_not_kept_alive() -> None:
    # Not by counting: owners that earlier tests left may go at any time.
    owner = Owner()
    kept = weakref.ref(owner)
    assert owner in forks._registered
    del owner
    gc.collect()
    assert kept() is None
