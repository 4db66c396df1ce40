"""Threads: each worker once, barriers that hold, and no harm from threads, forks, exits or too few CPUs."""

from __future__ import annotations

import os
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from children import run_python
from npmnv2.kernels.device import threads
from npmnv2.kernels.device.jit import njit
from npmnv2.kernels.device.threads import atomic_add, atomic_load, barrier, default_threads, in_parallel, workers


@njit(cached=False)
def _count(out, worker, n_workers):
    out[worker] += n_workers


@njit(cached=False)
def _sum_of_neighbors(values, sums, crew, worker, n_workers):
    """Every worker adds up what all wrote in the round before; one that is early would read an old number."""
    for step in range(sums.shape[0]):
        values[worker] = step * (worker + 1)
        barrier(crew, n_workers)
        for other in range(n_workers):
            sums[step, worker] += values[other]
        barrier(crew, n_workers)


@njit(cached=False)
def _watch(active, most, crew, worker, n_workers):
    now = atomic_add(active, 0, 1) + 1
    if now > most[worker]:
        most[worker] = now
    barrier(crew, n_workers)
    atomic_add(active, 0, -1)
    barrier(crew, n_workers)


@njit(cached=False)
def _until_told(started, flag, seen, worker, n_workers):
    started[0] = 1
    for _ in range(200_000_000_000):
        if atomic_load(flag, 0) != 0:
            seen[0] = 1
            return


@njit(cached=False)
def _fail(worker, n_workers):
    raise IndexError("out of bounds")


count, sum_of_neighbors, watch = in_parallel(_count), in_parallel(_sum_of_neighbors), in_parallel(_watch)
until_told, fail = in_parallel(_until_told), in_parallel(_fail)


@pytest.mark.parametrize("n_workers", [1, 2, 3, 8])
def test_every_worker_runs_once(n_workers: int) -> None:
    out = np.zeros(n_workers + 1)
    with workers(n_workers) as crew:
        count(crew, out)
    np.testing.assert_array_equal(out, [n_workers] * n_workers + [0])


@pytest.mark.parametrize("n_workers", [1, 2, 3, 8])
def test_barrier_waits_for_all(n_workers: int) -> None:
    steps = 50
    sums = np.zeros((steps, n_workers))
    with workers(n_workers) as crew:
        sum_of_neighbors(crew, np.zeros(n_workers), sums, crew)
    expected = np.arange(steps) * n_workers * (n_workers + 1) / 2
    np.testing.assert_array_equal(sums, np.repeat(expected[:, None], n_workers, axis=1))


def test_crew_shrinks_and_grows() -> None:
    for n_workers in (3, 1, 2, 5, 2):
        out = np.zeros(5)
        with workers(n_workers) as crew:
            count(crew, out)
        assert out.sum() == n_workers**2


def test_callers_take_turns() -> None:
    active, most = np.zeros(1, np.int64), np.zeros(2, np.int64)

    def call(_: int) -> None:
        with workers(2) as crew:
            watch(crew, active, most, crew)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(200)))
    assert active[0] == 0
    # Both workers count themselves before either goes on, so one of them has seen 2; nobody ever saw more.
    assert most.max() == 2


@pytest.mark.parametrize("n_workers", [1, 2])
def test_other_python_threads_run_meanwhile(n_workers: int) -> None:
    """The kernel runs until another Python thread, which sees that it has started, tells it to stop."""
    started, flag, seen = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)

    def tell() -> None:
        while not started[0]:
            time.sleep(0.001)
        flag[0] = 1

    with ThreadPoolExecutor(1) as other, workers(n_workers) as crew:
        told = other.submit(tell)
        until_told(crew, started, flag, seen)
        told.result()
    assert seen[0] == 1


def test_a_single_worker_raises_the_kernels_own_error() -> None:
    with pytest.raises(IndexError, match="out of bounds"), workers(1) as crew:
        fail(crew)


def test_several_workers_report_an_error_and_go_on() -> None:
    with pytest.raises(RuntimeError, match="n_threads=1"), workers(3) as crew:
        fail(crew)
    out = np.zeros(3)
    with workers(3) as crew:
        count(crew, out)
    np.testing.assert_array_equal(out, [3, 3, 3])


def test_fewer_threads_when_the_system_has_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_pool", threads._Pool())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    out = np.zeros(4)
    with workers(4) as crew:
        count(crew, out)
    np.testing.assert_array_equal(out, [1, 0, 0, 0])


SCRIPT = """
import concurrent.futures, multiprocessing, os, sys, threading
import numpy as np
from npmnv2.kernels.device.jit import njit
from npmnv2.kernels.device.threads import barrier, in_parallel, workers

@njit
def _work(out, crew, worker, n_workers):
    for _ in range(20):
        barrier(crew, n_workers)
        out[worker] += 1

work = in_parallel(_work)

def run(n_workers=2):
    out = np.zeros(n_workers)
    with workers(n_workers) as crew:
        work(crew, out, crew)
    return out.tolist()

if __name__ == "__main__":
    assert run() == [20, 20]
"""


def _python(tmp_path: Path, body: str, **environment: str) -> str:
    """Run SCRIPT and `body` in a new process that must end well by itself; return what it prints."""
    # Compiled code comes from the cache of the session, where there is one.
    return run_python(SCRIPT + textwrap.indent(textwrap.dedent(body), "    "), tmp_path, **environment)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_forked_child_starts_threads_of_its_own(tmp_path: Path) -> None:
    body = """
        busy = threading.Thread(target=lambda: [run() for _ in range(2000)])
        busy.start()  # the fork may come while the crew is taken
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0 if run(3) == [20, 20, 20] else 1)
            assert os.waitpid(child, 0)[1] == 0
        busy.join()
        print(run())
    """
    assert _python(tmp_path, body) == "[20.0, 20.0]"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pools_of_processes(tmp_path: Path, method: str) -> None:
    body = f"""
        if {method!r} not in multiprocessing.get_all_start_methods():
            print("unknown")
            sys.exit()
        context = multiprocessing.get_context({method!r})
        with context.Pool(1) as pool:
            assert pool.map(run, [2] * 6) == [[20, 20]] * 6
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            assert list(pool.map(run, [1, 2, 3])) == [[20] * n for n in (1, 2, 3)]
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
def test_more_workers_than_cpus(tmp_path: Path) -> None:
    body = """
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        print(run(4))
    """
    assert _python(tmp_path, body) == "[20.0, 20.0, 20.0, 20.0]"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="loaded libraries cannot be listed on this system")
def test_no_threading_library_is_loaded(tmp_path: Path) -> None:
    body = """
        maps = open("/proc/self/maps").read()
        print([name for name in ("libgomp", "libiomp", "libomp", "libtbb") if name in maps])
    """
    assert _python(tmp_path, body) == "[]"


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("NPMNV2_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 7)
    return monkeypatch


@pytest.mark.parametrize(
    ("argument", "own", "openmp", "expected"),
    [
        (3, "4", "5", 3),
        (None, "4", "5", 4),
        (None, "", "5", 5),
        (None, None, "5,2", 5),
        (None, None, "many", 7),
        (None, None, "0", 7),
        (None, None, None, 7),
        (np.int64(2), None, None, 2),
    ],
)
def test_who_decides_how_many(
    no_settings: pytest.MonkeyPatch, argument: int | None, own: str | None, openmp: str | None, expected: int
) -> None:
    for name, value in (("NPMNV2_NUM_THREADS", own), ("OMP_NUM_THREADS", openmp)):
        if value is not None:
            no_settings.setenv(name, value)
    assert default_threads(argument) == expected


@pytest.mark.parametrize("number", [0, -1, 257])
def test_impossible_number_of_threads(number: int) -> None:
    with pytest.raises(ValueError, match=rf"n_threads \(={number}\) must be a whole number from 1 to 256"):
        default_threads(number)


@pytest.mark.parametrize("value", [2.0, "2", True])
def test_number_of_threads_of_a_wrong_type(value: object) -> None:
    with pytest.raises(TypeError, match=r"n_threads \(=.*\) must be a whole number or None, got (float|str|bool)"):
        default_threads(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["0", "two", "1.5"])
def test_wrong_setting(no_settings: pytest.MonkeyPatch, value: str) -> None:
    no_settings.setenv("NPMNV2_NUM_THREADS", value)
    with pytest.raises(ValueError, match=rf"NPMNV2_NUM_THREADS \(={value}\) must be"):
        default_threads()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "300000 100000\n"}, 3),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu.max": "\n"}, 4),
        ({}, 4),
    ],
)
def test_quota_of_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert threads.usable_cpus() == expected
