"""Locks between threads and between processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from npmnv2.hub.locks import locked

pytestmark = pytest.mark.timeout(60)

_HOLD = """
import sys
from pathlib import Path
from npmnv2.hub.locks import locked
with locked(Path(sys.argv[1]), 10):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_one_after_the_other(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "lock", 1):
            assert (tmp_path / "lock").read_bytes() == b""
    assert (tmp_path / "lock").exists()


def test_an_error_gives_the_lock_back(tmp_path):
    with pytest.raises(ValueError, match="stop"), locked(tmp_path / "lock", 1):
        raise ValueError("stop")
    with locked(tmp_path / "lock", 1):
        pass


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_a_held_lock_is_given_up_after_the_timeout(tmp_path, timeout):
    began = time.monotonic()
    with (
        locked(tmp_path / "lock", 1),
        pytest.raises(TimeoutError, match=f"lock has been locked by another process for {timeout} seconds"),
        locked(tmp_path / "lock", timeout),
    ):
        pytest.fail("two at once")
    assert time.monotonic() - began >= timeout


def test_a_waiting_thread_gets_the_lock(tmp_path):
    order = []

    def wait() -> None:
        with locked(tmp_path / "lock", 30):
            order.append("second")

    with locked(tmp_path / "lock", 1):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.3)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_the_lock_of_another_process_ends_with_it(tmp_path, end):
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TimeoutError), locked(tmp_path / "lock", 0.1):
            pytest.fail("two at once")
        if end == "kill":
            holder.kill()
        else:
            holder.stdin.close()
        with locked(tmp_path / "lock", 30):
            pass
