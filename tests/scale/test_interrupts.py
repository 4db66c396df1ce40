"""Ctrl-C while a run's main thread is in the code of others."""

from __future__ import annotations

import queue
import signal
import threading

import pytest

from npmnv2.scale.interrupts import deferred_interrupts


class Interrupted:
    """An object during whose destruction Ctrl-C arrives, as during that of Dask's futures."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_a_destructor_is_raised_at_the_next_check() -> None:
    events: queue.SimpleQueue[None] = queue.SimpleQueue()
    with deferred_interrupts(lambda: events.put(None)) as check:
        check()
        Interrupted()
        assert events.get(timeout=0) is None
        with pytest.raises(KeyboardInterrupt):
            check()


def test_the_second_one_is_raised_at_once() -> None:
    with deferred_interrupts(lambda: None):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_all_is_as_before() -> None:
    with deferred_interrupts(lambda: None):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_handler_of_the_program_stays() -> None:
    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    try:
        with deferred_interrupts(lambda: None) as check:
            signal.raise_signal(signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [1]


def test_other_threads_change_nothing() -> None:
    handlers = []

    def work() -> None:
        with deferred_interrupts(lambda: None):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
