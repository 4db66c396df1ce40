"""Ctrl-C while a run's main thread is in the code of others; in processes of their own, which signals cannot harm."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

_BEGIN = """
import signal, threading
from npmnv2.scale.interrupts import deferred_interrupts

def interrupt():
    signal.raise_signal(signal.SIGINT)

def interrupted(call):
    try:
        call()
    except KeyboardInterrupt:
        return True
    return False
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            """
            class Future:
                def __del__(self):
                    interrupt()

            calls = []
            with deferred_interrupts(lambda: calls.append(1)) as check:
                assert not interrupted(check)
                Future()
                assert calls == [1]
                assert interrupted(check)
            """,
            id="in a destructor, raised at the next check",
        ),
        pytest.param(
            """
            with deferred_interrupts(lambda: None):
                assert not interrupted(interrupt)
                assert interrupted(interrupt)
            """,
            id="the second one at once",
        ),
        pytest.param(
            """
            with deferred_interrupts(lambda: None):
                assert not interrupted(interrupt)
            assert interrupted(interrupt)
            """,
            id="afterwards as before",
        ),
        pytest.param(
            """
            calls = []
            signal.signal(signal.SIGINT, lambda *_: calls.append(1))
            with deferred_interrupts(lambda: None) as check:
                interrupt()
                assert not interrupted(check)
            assert calls == [1]
            """,
            id="a handler of the program stays",
        ),
        pytest.param(
            """
            def work():
                with deferred_interrupts(lambda: None):
                    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
                    finished.append(1)

            finished = []
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert finished == [1]
            """,
            id="other threads change nothing",
        ),
    ],
)
def test_an_interrupt(code: str) -> None:
    command = [sys.executable, "-c", _BEGIN + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
