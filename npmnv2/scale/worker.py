"""What a worker does: one part, which is a number."""

from __future__ import annotations

import functools
import threading
import time
from typing import NamedTuple

from npmnv2.errors import Npmnv2Error
from npmnv2.scale.job import Execution, Job, versions
from npmnv2.scale.manifest import Output

_loading = threading.Lock()


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


@functools.lru_cache(maxsize=2)
def _job(url: str, digest: str, execution: Execution) -> Job:
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
