"""The thread team: each share once, items in order, and no harm from threads, forks, exits, signals or too few CPUs."""

from __future__ import annotations

import os
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from children import run_python
from npmnv2.kernels.device.jit import njit
from npmnv2.kernels.device.machine import atomic_add, atomic_load, numbers_at, pause
from npmnv2.kernels.device.thread_team import ENTER_TYPES, make_entry
from npmnv2.kernels.host import thread_team
from npmnv2.kernels.host.thread_team import ThreadTeam

# A call of these tests: items, shares of each (0: one per worker), pauses per share, the flag that an endless share
# waits for; then an error count, the workers at work, the most that ever were; then one sum per item.
ITEMS, SHARES, PAUSES, FLAG, ERRORS, ACTIVE, MOST, SUMS = range(8)


@njit(cached=False)
def _count_items(call, workers):
    return numbers_at(call)[ITEMS]


@njit(cached=False)
def _count_shares(call, workers, item):
    shares = numbers_at(call)[SHARES]
    return workers if shares == 0 else shares


@njit(cached=False)
def _run_share(call, workers, item, share, worker):
    """Add `share` + 1 to the sum of the item; the sum of the item before must be complete."""
    numbers = numbers_at(call)
    now = atomic_add(call + 8 * ACTIVE, 1) + 1
    if now > numbers[MOST]:
        numbers[MOST] = now
    shares = _count_shares(call, workers, item)
    if item > 0 and numbers[SUMS + item - 1] != shares * (shares + 1) // 2:
        atomic_add(call + 8 * ERRORS, 1)
    if worker >= workers:
        atomic_add(call + 8 * ERRORS, 1)
    for _ in range(numbers[PAUSES]):
        pause()
    while atomic_load(call + 8 * FLAG) != 0:
        pause()
    atomic_add(call + 8 * (SUMS + item), share + 1)
    atomic_add(call + 8 * ACTIVE, -1)


enter = make_entry(_count_items, _count_shares, _run_share, "test")
enter.compile(ENTER_TYPES)  # or a new thread would do it, while its caller waits


def new_team(patience: float = 60.0) -> ThreadTeam:
    """A team that waits for its threads however busy the machine is."""
    return ThreadTeam(lambda address, n_workers: enter(0, address, n_workers), patience)


def new_call(items: int = 20, shares: int = 0, pauses: int = 0) -> np.ndarray:
    call = np.zeros(SUMS + items, np.int64)
    call[[ITEMS, SHARES, PAUSES]] = items, shares, pauses
    return call


def run(team: ThreadTeam, n_workers: int, call: np.ndarray | None = None) -> int:
    """Run a call on a team and check it; return how many workers there were."""
    call = new_call() if call is None else call
    team.resize(n_workers)
    workers = int(enter(call.ctypes.data, team.address, n_workers))
    shares = int(call[SHARES]) or workers
    np.testing.assert_array_equal(call[SUMS:], shares * (shares + 1) // 2)
    assert call[ERRORS] == call[ACTIVE] == 0
    return workers


@pytest.fixture(scope="module")
def team() -> ThreadTeam:
    return new_team()


@pytest.mark.parametrize("shares", [0, 1, 3, 256])
@pytest.mark.parametrize("n_workers", [1, 2, 3, 8])
def test_every_share_runs_once_and_items_in_order(team: ThreadTeam, n_workers: int, shares: int) -> None:
    for _ in range(50):
        assert run(team, n_workers, new_call(50, shares)) == n_workers


def test_a_call_without_items(team: ThreadTeam) -> None:
    assert [run(team, n_workers, new_call(0)) for n_workers in (1, 3)] == [1, 3]


def test_shares_of_all_workers_at_once(team: ThreadTeam) -> None:
    call = new_call(1)
    call[FLAG] = 1  # a share ends only when all have begun: each has a worker of its own
    threading.Thread(target=lambda: [None for _ in iter(lambda: call[ACTIVE] == 3, True)] and call.put(FLAG, 0)).start()
    assert run(team, 3, call) == 3
    assert call[MOST] == 3


def test_team_grows_and_serves_smaller_calls() -> None:
    team = new_team()
    assert [run(team, n_workers) for n_workers in (3, 1, 2, 5, 2)] == [3, 1, 2, 5, 2]
    assert team.size == 5


def test_callers_take_turns(team: ThreadTeam) -> None:
    calls = [new_call(5, pauses=10) for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda call: run(team, 2, call), calls)) == {2}
    assert max(call[MOST] for call in calls) <= 2


def test_callers_that_start_a_team_at_once() -> None:
    for _ in range(20):
        team = new_team()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n_workers: run(team, n_workers), [2, 3, 4, 3, 2, 4, 4, 2]))  # noqa: B023
        assert team.size == 4


@pytest.mark.parametrize("n_workers", [1, 2])
def test_other_python_threads_run_meanwhile(team: ThreadTeam, n_workers: int) -> None:
    call = new_call(1)
    call[FLAG] = 1

    def release() -> None:
        while call[ACTIVE] == 0:
            pass
        call[FLAG] = 0

    other = threading.Thread(target=release)
    other.start()
    assert run(team, n_workers, call) == n_workers  # hangs if the kernel holds the global lock
    other.join()


def test_fewer_threads_when_the_system_has_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(thread_team._thread, "start_new_thread", refuse)
    assert run(new_team(), 4) == 1


def test_a_thread_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_team._thread, "start_new_thread", lambda *_: 0)
    assert run(new_team(patience=0.001), 4) == 1


def test_surplus_threads_leave() -> None:
    team = new_team()
    assert run(team, 3) == 3
    assert enter(0, team.address, 3) == 0
    assert team.size == 3


# ---- Signals ---------------------------------------------------------------------------------------------------------


def interrupted(team: ThreadTeam, at: int) -> bool:
    """Run a first call that is interrupted before the `at`-th bytecode of the team's module, if it has that many."""
    left = [at]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != thread_team.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left[0] -= 1
            if left[0] < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(team, 3)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupt_at_any_bytecode_leaves_the_team_right() -> None:
    at = 0
    while interrupted(team := new_team(), at):
        assert [run(team, 3), run(team, 3), team.size] == [3, 3, 3], at
        at += 1
    assert at > 100


# ---- Processes -------------------------------------------------------------------------------------------------------

SCRIPT = f"""
FOLDER = {str(Path(__file__).parent)!r}
import concurrent.futures, multiprocessing, os, sys, threading
sys.path.append(FOLDER)
import test_thread_team
from test_thread_team import new_call, new_team

team = new_team()

def run(n_workers=2):
    return test_thread_team.run(team, n_workers)

if __name__ == "__main__":
    assert run() == 2
"""


def _python(tmp_path: Path, body: str) -> str:
    """Run SCRIPT and `body` in a new process that must end well by itself; return what it prints."""
    # Compiled code comes from the cache of the session, where there is one.
    return run_python(SCRIPT + textwrap.indent(textwrap.dedent(body), "    "), tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_forked_child_starts_threads_of_its_own(tmp_path: Path) -> None:
    body = """
        busy = threading.Thread(target=lambda: [run() for _ in range(2000)])
        busy.start()  # the fork may come while the team is taken
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0 if run(3) == 3 else 1)
            assert os.waitpid(child, 0)[1] == 0
        busy.join()
        print(run())
    """
    assert _python(tmp_path, body) == "2"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_of_processes(tmp_path: Path, method: str) -> None:
    body = f"""
        if {method!r} not in multiprocessing.get_all_start_methods():
            print("unknown")
            sys.exit()
        context = multiprocessing.get_context({method!r})
        with context.Pool(1) as pool:
            assert pool.map(run, [2] * 6) == [2] * 6
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            assert list(pool.map(run, [1, 2, 3])) == [1, 2, 3]
        print("done")
    """
    assert _python(tmp_path, body) in ("done", "unknown")


def test_exit_while_threads_compute(tmp_path: Path) -> None:
    body = """
        def for_ever():
            while True:
                run()

        threading.Thread(target=for_ever, daemon=True).start()
        run()
        print("leaving")
    """
    assert _python(tmp_path, body) == "leaving"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="CPUs cannot be chosen on this system")
@pytest.mark.parametrize("n_workers", [4, 64])
def test_more_workers_than_cpus(tmp_path: Path, n_workers: int) -> None:
    body = f"""
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        print(run({n_workers}))
    """
    assert _python(tmp_path, body) == str(n_workers)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="loaded libraries cannot be listed on this system")
def test_no_threading_library_is_loaded(tmp_path: Path) -> None:
    body = """
        maps = open("/proc/self/maps").read()
        print([name for name in ("libgomp", "libiomp", "libomp", "libtbb") if name in maps])
    """
    assert _python(tmp_path, body) == "[]"
