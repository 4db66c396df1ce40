"""What a worker does: one part, which is a number."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from npmnv2.errors import Npmnv2Error
from npmnv2.scale.job import Execution, Job, versions
from npmnv2.scale.manifest import Output

_loading = threading.Lock()

# glibc's numbers for M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, and bytes from which memory goes back to the system: the
# former's largest value, which holds a photo of ten megapixels, and what is free at the end of the heap.
_MALLOC_OPTIONS = {-3: 32 << 20, -1: 128 << 20}


class WorkerError(Npmnv2Error, RuntimeError):
    """A worker cannot be used: its libraries, or its processor, would give other bytes."""


class Task(NamedTuple):
    """A part of a run.

    Attributes
    ----------
    url : str
        The output.
    digest : str
        Of the run's settings.
    execution : Execution
    number : int
        The part.
    """

    url: str
    digest: str
    execution: Execution
    number: int


class Counted(NamedTuple):
    """How many photos a part has, and how many of them have no result."""

    photos: int
    failed: int


def compute_part(task: Task, pause: float = 0) -> Counted:
    """Compute a part and write it.

    Parameters
    ----------
    task : Task
    pause : float
        Seconds to wait first, where it failed before.

    Raises
    ------
    WorkerError
        If this process would write other bytes than the one that began the run.
    """
    time.sleep(pause)
    with _loading:  # threads of a worker share a model
        job = _job(task.url, task.digest, task.execution)
    output = Output(task.url)
    names = output.names(task.number)
    content, failed = job.part(names)
    output.write_part(task.number, content)
    return Counted(len(names), failed)


def _keep_memory() -> None:
    """Keep the memory of one photo for the next.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_, by which glibc gives it back each time; photos then take twice as
    long.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such function
            for option, size in _MALLOC_OPTIONS.items():
                ctypes.CDLL(None).mallopt(option, size)


@functools.lru_cache(maxsize=2)
def _job(url: str, digest: str, execution: Execution) -> Job:
    _keep_memory()
    output = Output(url)
    settings = output.settings(digest)
    own = versions()
    if own != settings["versions"]:
        theirs = settings["versions"]
        names = sorted(name for name in {*own, *theirs} if own.get(name) != theirs.get(name))
        found = ", ".join(f"{name} {own.get(name)}, not {theirs.get(name)}" for name in names)
        raise WorkerError(f"a worker must have the versions of the process that began the table; it has {found}")
    job = Job.from_settings(settings, output.weights(), execution)
    if job.fingerprint() != settings["fingerprint"]:
        raise WorkerError(
            f"a worker computes other bits than the process that began the table (backend {job.model.backend.name}): "
            "floats agree between compiled backends, and differ from NumPy's and between kinds of processors"
        )
    return job
