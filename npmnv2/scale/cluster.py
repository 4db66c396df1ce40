"""Dask: a scheduler that runs somewhere, or workers on this machine for the length of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from npmnv2.errors import ArgumentError, MissingPackageError, Npmnv2Error

# Until a scheduler answers, or has a worker.
PATIENCE_SECONDS = 30


class ClusterError(Npmnv2Error, ConnectionError):
    """A scheduler cannot be reached, or has no workers."""


@contextmanager
def connect(scheduler: str | None = None, workers: int | None = None) -> Iterator[Any]:
    """A client of a scheduler, or of `workers` processes of one thread on this machine.

    Raises
    ------
    ArgumentError
        If not exactly one of them is given.
    ClusterError
    MissingPackageError
    """
    if (scheduler is None) == (workers is None):
        raise ArgumentError("give either scheduler, the address of one that runs, or workers, a number of processes")
    with _client(scheduler) if scheduler else _local(workers or 1) as client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE_SECONDS)
        except asyncio.TimeoutError:  # in Python 3.10 not the built-in one
            raise ClusterError(
                f"the scheduler at {client.scheduler.address} has no worker; start some by `dask worker ADDRESS`"
            ) from None
        yield client


@contextmanager
def _client(address: str) -> Iterator[Any]:
    distributed = dask_distributed()
    try:
        client = distributed.Client(address, timeout=PATIENCE_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # an address of an unknown kind is a ValueError
        raise ClusterError(
            f"no scheduler answers at {address} ({_first_line(error)}); start one by `dask scheduler`"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=2)


@contextmanager
def _local(workers: int) -> Iterator[Any]:
    import logging

    distributed = dask_distributed()
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.run(_ignore_interrupts)
        yield client


def _ignore_interrupts() -> None:
    """Let Ctrl-C, which a terminal sends to all processes, be for the one that stops the others."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def dask_distributed() -> Any:
    """The module.

    Raises
    ------
    MissingPackageError
    """
    try:
        import distributed
    except ImportError:
        raise MissingPackageError("a cluster needs Dask: pip install 'npmnv2[scale]'") from None
    return distributed


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
