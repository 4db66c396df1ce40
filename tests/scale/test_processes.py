"""Workers that are processes: killed, of other instruction sets, and under a scheduler that is started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from npmnv2.kernels.host import library

import npmnv2
from npmnv2.scale.manifest import Output
from npmnv2.scale.run import write_table
from npmnv2.weights.native import write_h5

pytestmark = pytest.mark.slow


def parts_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


@pytest.fixture(scope="module")
def names(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A list of 240 names, of twelve photos in turn."""
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text("\n".join(str(photo) for photo in sorted(photos.rglob("*.png")) * 20))
    return str(path)


@pytest.fixture(scope="module")
def undisturbed(model: Any, names: str, scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert write_table(model, [names], str(out), scheduler=scheduler, part_size=4).photos == 240
    return parts_of(out)


@contextmanager
def after_parts(out: Path, count: int, action: Callable[[], object]) -> Iterator[None]:
    """Do something once some parts are there; by the end of the block it has been done."""

    def wait() -> None:
        while len(Output(str(out)).done()) < count:
            time.sleep(0.005)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


class Cluster:
    """A scheduler and workers of one thread, each a process; all are killed in the end."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        self._scheduler = ("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        self._run(*self._scheduler)
        return self

    def __exit__(self, *_: object) -> None:
        while self._processes:
            self.kill()

    def start_worker(self, **environment: str) -> None:
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60")
        self._run("worker", self.address, *options, **environment)

    def kill(self) -> None:
        """Kill the process that was started last."""
        process = self._processes.pop()
        process.kill()
        process.wait()

    def restart(self) -> None:
        self.__exit__()
        self.__enter__()
        self.start_worker()

    def _run(self, *command: str, **environment: str) -> None:
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "dask", *command],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **environment},
            )
        )


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        running.start_worker()
        yield running


def test_a_killed_worker_changes_nothing(
    cluster: Cluster, model: Any, names: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    cluster.start_worker()
    with after_parts(tmp_path / "out", 3, cluster.kill):
        write_table(model, [names], str(tmp_path / "out"), scheduler=cluster.address, part_size=4)
    assert parts_of(tmp_path / "out") == undisturbed


def test_a_scheduler_that_is_started_again_changes_nothing(
    cluster: Cluster, model: Any, names: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    with after_parts(tmp_path / "out", 3, cluster.restart):
        write_table(model, [names], str(tmp_path / "out"), scheduler=cluster.address, part_size=4)
    assert parts_of(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("kind", ["floats", "integers"])
def test_instruction_sets_change_nothing(
    kind: str, model: Any, names: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """A table by a worker of each: the network of integers has the same bits on NumPy, too."""
    engines = [name for name in ("avx512", "avx2", "neon") if library.load(name)]
    engines += ["numba"] if kind == "floats" else ["numba", "numpy"]
    network = model if kind == "floats" else npmnv2.load(n_threads=1)
    sources, part_size = ([names], 4) if kind == "floats" else (Path(names).read_text().splitlines()[:4], 2)
    tables = []
    with ExitStack() as stack:
        clusters = [stack.enter_context(Cluster()) for _ in engines]
        for engine, each in zip(engines, clusters, strict=True):
            each.start_worker(NPMNV2_ENGINE=engine)
        for engine, each in zip(engines, clusters, strict=True):
            write_table(network, sources, str(tmp_path / engine), scheduler=each.address, part_size=part_size)
            tables.append(parts_of(tmp_path / engine))
    assert len(tables[0]) == (60 if kind == "floats" else 2)
    assert all(table == tables[0] for table in tables)
    assert kind == "integers" or tables[0] == undisturbed


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a group of processes")
def test_workers_of_this_machine_are_interrupted_and_go_on(
    model: Any, names: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    write_h5(model.to_checkpoint(), tmp_path / "m.h5")
    options = ["-m", str(tmp_path / "m.h5"), "--batch-size", "3", "--workers", "2", "--part-size", "4"]
    command = [sys.executable, "-m", "npmnv2", "predict", names, "--out", str(tmp_path / "out"), *options]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    with after_parts(tmp_path / "out", 3, lambda: os.killpg(first.pid, signal.SIGINT)):
        _, messages = first.communicate(timeout=120)
    assert first.returncode == 130, messages
    assert messages.splitlines()[-1].startswith("npmnv2: stopped; the same command goes on")
    assert "Traceback" not in messages
    assert 3 <= len(parts_of(tmp_path / "out")) < 60
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "20 of 240 photos could not be used; their rows have an error" in done.stderr
    assert parts_of(tmp_path / "out") == undisturbed
