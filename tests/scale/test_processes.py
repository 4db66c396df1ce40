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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed
import pytest

import npmnv2
from npmnv2.kernels.host import library

from npmnv2.scale.manifest import Output
from npmnv2.scale.run import write_table

# Dask complains of what it is here to survive: processes that are gone while it talks with them.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

QUIET = {"dashboard_address": ":0", "silence_logs": 50}


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


def test_a_killed_worker_changes_nothing(
    model: Any, names: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as two,
        distributed.Client(two, set_as_default=False) as client,
    ):
        first, second = client.run(os.getpid).values()
        with after_parts(out, 3, lambda: os.kill(first, signal.SIGKILL)):
            write_table(model, [names], str(out), scheduler=two.scheduler_address, part_size=4)
        assert first != second
    assert parts_of(out) == undisturbed


def processes(address: str) -> list[subprocess.Popen[bytes]]:
    """A scheduler and a worker."""
    port = address.rpartition(":")[2]
    commands = (
        ["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"],
        ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "30"],
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [subprocess.Popen([sys.executable, "-m", "dask", *command], **quiet) for command in commands]  # type: ignore[call-overload]


def test_a_scheduler_that_is_started_again_changes_nothing(
    model: Any, names: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    out, running = tmp_path / "out", processes(address)

    def restart() -> None:
        for process in running:
            process.kill()
            process.wait()
        running[:] = processes(address)

    try:
        with after_parts(out, 3, restart):
            write_table(model, [names], str(out), scheduler=address, part_size=4)
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert parts_of(out) == undisturbed


@pytest.mark.parametrize("kind", ["floats", "integers"])
def test_instruction_sets_change_nothing(
    kind: str, model: Any, names: str, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """One worker of each; the network of integers has the same bits on NumPy, too."""
    engines = [name for name in ("avx512", "avx2", "neon") if library.load(name)] + ["numba"]
    network = model if kind == "floats" else npmnv2.load(n_threads=1)
    engines += ["numpy"] if kind == "integers" else []
    workers = {
        engine: {
            "cls": distributed.Nanny,
            "options": {"nthreads": 1, "env": {"NPMNV2_ENGINE": engine}, "silence_logs": 50, "dashboard_address": ":0"},
        }
        for engine in engines
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard_address": ":0"}}
    with distributed.SpecCluster(workers=workers, scheduler=scheduler, silence_logs=50) as mixed:
        tables = {}
        for engine, worker in mixed.workers.items():
            write_on(worker.worker_address, network, names, out := tmp_path / engine, mixed.scheduler_address, kind)
            tables[engine] = parts_of(out)
    first, *others = tables.values()
    assert len(first) == (60 if kind == "floats" else 2)
    assert all(other == first for other in others)
    assert kind == "integers" or first == undisturbed


def write_on(worker: str, network: Any, names: str, out: Path, scheduler: str, kind: str) -> None:
    """Write a table by one worker of a cluster."""
    sources = [names] if kind == "floats" else Path(names).read_text().splitlines()[:4]
    submit = distributed.Client.submit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            distributed.Client, "submit", lambda *arguments, **options: submit(*arguments, workers=[worker], **options)
        )
        write_table(network, sources, str(out), scheduler=scheduler, part_size=4 if kind == "floats" else 2)


def test_workers_of_this_machine(model: Any, names: str, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    write_table(model, [names], str(tmp_path / "out"), workers=2, part_size=4)
    assert parts_of(tmp_path / "out") == undisturbed
