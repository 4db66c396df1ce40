"""A run from photos to a finished table: lists, submits, tries again, and counts in the end."""

from __future__ import annotations

import logging
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from npmnv2.errors import Npmnv2Error
from npmnv2.images.streams import check_count
from npmnv2.loading import Backend, load
from npmnv2.models.base import MobileNetV2PreTrainedModel
from npmnv2.scale.cluster import connect
from npmnv2.scale.interrupts import deferred_interrupts
from npmnv2.scale.job import Execution, Job, versions
from npmnv2.scale.listing import list_photos
from npmnv2.scale.manifest import Output
from npmnv2.scale.table import ERROR, pyarrow
from npmnv2.scale.worker import Task, compute_part
from npmnv2.weights.native import stated_digest, write_h5

PART_SIZE = 256
# A part, or the listing, that failed is tried again after these pauses, about two minutes in all.
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
# When as many parts in a row have failed for good, the reason is none of theirs.
_MAX_FAILED_IN_A_ROW = 3
# Parts that a thread of a worker has, beside the one that it computes.
_AHEAD = 1
_TICK_SECONDS = 0.5

_log = logging.getLogger("npmnv2")


class RunError(Npmnv2Error, RuntimeError):
    """A run stopped before its table was complete; the same call goes on."""


class Summary(NamedTuple):
    """What a finished table has.

    Attributes
    ----------
    url : str
    photos : int
        Rows.
    failed : int
        Rows with an error.
    """

    url: str
    photos: int
    failed: int


def write_table(
    model: MobileNetV2PreTrainedModel | str | Path,
    photos: Iterable[str],
    out: str,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    features: bool = False,
    masks: bool = False,
    recursive: bool = False,
    part_size: int = PART_SIZE,
    backend: Backend = "auto",
    n_threads: int | None = 1,
    quiet: bool = True,
    **options: Any,
) -> Summary:
    """Predict, or embed, any number of photos into a partitioned Parquet table.

    Parameters
    ----------
    model : MobileNetV2PreTrainedModel, str or path
        A model, or what `npmnv2.load` takes.
    photos : list of str
        Files, folders, patterns and archives; paths, or URLs of fsspec such as ``s3://bucket/**/*.jpg``.
    out : str
        Path or URL of the table, a folder. If a run of the same settings was begun there, this one goes on with it.
    scheduler : str, optional
        Address of a Dask scheduler: ``tcp://host:8786``. Its workers must reach photos and output by the same names.
    workers : int, optional
        Instead, processes of one thread to start on this machine.
    features : bool
        Embed photos instead of predicting them.
    masks : bool
        Add the masks of a segmentation model as PNG files.
    recursive : bool
        Search folders inside folders.
    part_size : int
        Photos of one file of the table.
    backend : {"auto", "compiled", "numba", "numpy"}
        Of the workers.
    n_threads : int, optional
        Threads for the kernels of one task.
    quiet : bool
        Show no progress bar.
    **options
        Of the model's `predict` or `features`; `transform` must be a name.

    Returns
    -------
    Summary

    Raises
    ------
    ArgumentError
        If the output holds a table of other settings, or something else.
    FileNotFoundError
        If a pattern matches no photo.
    RunError
        If photos or the output cannot be read or written, or workers die, time and again.
    npmnv2.scale.cluster.ClusterError, npmnv2.scale.worker.WorkerError
    """
    check_count("part_size", part_size)
    model = model if isinstance(model, MobileNetV2PreTrainedModel) else load(model, backend=backend)
    job, output, sources = Job(model, features, masks, **options), Output(out), list(photos)
    if output.listed() is None:
        next(list_photos(sources, recursive))  # a pattern without a match must leave nothing behind
    digest = _begin(output, job, {"photos": sources, "recursive": recursive, "part_size": part_size})
    run = _Run(output, Task(output.url, digest, Execution(backend, n_threads), 0), part_size, quiet)
    run.finish_parts(partial(list_photos, sources, recursive), partial(connect, scheduler, workers))
    return _finish(output)


def _begin(output: Output, job: Job, listing: dict[str, Any]) -> str:
    """Start or resume a run; its digest."""
    digest, weights = _weights(job.model)
    settings = {
        **listing,
        "task": job.task,
        "masks": job.masks,
        "options": job.options,
        "model": digest,
        "dtype": job.model.dtype.name,
        "arithmetic": job.model._wanted_backend[1],
        "versions": versions(),
        "fingerprint": job.fingerprint(),
    }
    return output.begin(settings, weights)


def _weights(model: MobileNetV2PreTrainedModel) -> tuple[str, bytes]:
    """The model as a native file, and its digest."""
    checkpoint = model.to_checkpoint()
    # What the file was called on one machine is no part of it.
    checkpoint = replace(checkpoint, source={k: v for k, v in checkpoint.source.items() if k != "file"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.h5")
        write_h5(checkpoint, path)
        return str(stated_digest(path)), path.read_bytes()


def _finish(output: Output) -> Summary:
    """Count the rows of all parts: none may be missing, and none be there twice."""
    pyarrow()
    from pyarrow import dataset

    listed = output.listed()
    assert listed is not None
    parts = [f"{output.root}/part-{number:06}.parquet" for number in range(listed["parts"])]
    table = dataset.dataset(parts, filesystem=output.fs, format="parquet")
    rows, failed = table.count_rows(), table.count_rows(filter=dataset.field(ERROR).is_valid())
    if rows != listed["photos"]:
        raise RunError(f"{output.url} must have a row for each of {listed['photos']} photos, got {rows}")
    output.finish(rows, failed)
    return Summary(output.url, rows, failed)


class _Lost(Exception):
    """The scheduler is gone, and with it all that was submitted."""


class _Run:
    """Brings all parts of an output about; what is done is in the output, and nothing here need survive."""

    def __init__(self, output: Output, task: Task, part_size: int, quiet: bool) -> None:
        self._output, self._task, self._part_size, self._quiet = output, task, part_size, quiet
        self._done = output.done()
        # Futures that finished, and None when there is news of the listing, or Ctrl-C.
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._next = self._parts = self._photos = 0
        self._listing: bool | Exception = True
        self._again: list[int] = []
        self._tries: dict[int, int] = {}
        self._failed: dict[int, Exception] = {}
        self._failed_in_a_row = 0
        self._running: dict[Any, int] = {}
        self._stopped = False

    def finish_parts(
        self, list_names: Callable[[], Iterable[str]], connection: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """Compute all parts that are not there yet.

        Raises
        ------
        RunError, OSError, Npmnv2Error
        """
        from tqdm import tqdm

        thread = threading.Thread(target=self._list, args=(list_names,), daemon=True)
        thread.start()
        try:
            with tqdm(unit="photo", disable=True if self._quiet else None, leave=False, smoothing=0.05) as self._bar:
                self._work(connection)
        finally:
            self._stopped = True
            thread.join(timeout=5)
        if self._failed:
            number, error = min(self._failed.items())
            raise RunError(
                f"{len(self._failed)} of {self._parts} parts could not be computed; the photos of the first are in "
                f"_manifest/names/{number:06}.json: {_text(error)}. The same command tries them again"
            ) from error

    # --- listing, in a thread of its own -----------------------------------------------------------------------------

    def _list(self, list_names: Callable[[], Iterable[str]]) -> None:
        """Record all names; a store that cannot be reached is asked again from the start, which must agree."""
        for pause in (*PAUSES_SECONDS, None):
            try:
                self._output.record(list_names(), self._part_size, self._on_part)
                self._listing = False
            except Exception as error:
                final = pause is None or isinstance(error, (Npmnv2Error, FileNotFoundError, PermissionError))
                if not final and not self._stopped:
                    _log.warning("photos cannot be listed, which is tried again: %s", _text(error))
                    time.sleep(pause or 0)
                    continue
                self._listing = error
            break
        self._events.put(None)

    def _on_part(self, number: int, photos: int) -> None:
        if self._stopped:
            raise InterruptedError("the run has ended")
        if number >= self._parts:
            self._photos += photos
            self._parts = number + 1
            self._events.put(None)

    # --- computing ---------------------------------------------------------------------------------------------------

    def _work(self, connection: Callable[[], AbstractContextManager[Any]]) -> None:
        while self._is_open():
            with connection() as client, suppress(_Lost):
                try:
                    with deferred_interrupts(partial(self._events.put, None)) as check_interrupts:
                        self._drain(client, check_interrupts)
                finally:
                    self._abandon(client)

    def _is_open(self) -> bool:
        """Whether anything is left to do; parts that are there are passed over."""
        if isinstance(self._listing, Exception):
            raise self._listing
        listing = bool(self._listing)  # before the number of parts, which grows until it ends
        while self._next < self._parts and self._next in self._done:
            self._advance(self._next)
            self._next += 1
        return listing or self._next < self._parts or bool(self._again or self._running)

    def _drain(self, client: Any, check_interrupts: Callable[[], None]) -> None:
        window, looked = _window(client), time.monotonic()
        while self._is_open():
            self._submit(client, window)
            with suppress(queue.Empty):
                self._finished(self._events.get(timeout=_TICK_SECONDS))
            check_interrupts()
            if time.monotonic() - looked > _TICK_SECONDS:
                self._check(client)
                window, looked = _window(client) or window, time.monotonic()

    def _submit(self, client: Any, window: int) -> None:
        while len(self._running) < window and client.status == "running":
            if self._again:
                number = self._again.pop()
            elif self._is_open() and self._next < self._parts:
                number, self._next = self._next, self._next + 1
            else:
                return
            tries = self._tries.get(number, 0)
            pause = PAUSES_SECONDS[tries - 1] if tries else 0
            future = client.submit(compute_part, self._task._replace(number=number), pause, pure=False)
            self._running[future] = number
            future.add_done_callback(self._events.put)

    def _check(self, client: Any) -> None:
        """Submit again what a scheduler forgot when it was started again."""
        if client.status in ("closing", "closed"):
            raise _Lost
        for future in [future for future in self._running if future.status in ("lost", "cancelled")]:
            self._again.append(self._running.pop(future))

    def _finished(self, future: Any) -> None:
        if future is None or (number := self._running.pop(future, None)) is None:
            return
        if future.status == "finished":
            self._failed_in_a_row = 0
            self._advance(number)
        elif future.status == "error":
            self._retry(number, future.exception())
        else:
            self._again.append(number)

    def _retry(self, number: int, error: Exception) -> None:
        if isinstance(error, Npmnv2Error):
            raise error
        if isinstance(error, ImportError):
            raise RunError(f"a worker lacks a package: {error} (pip install 'npmnv2[scale]' there)") from error
        self._tries[number] = self._tries.get(number, 0) + 1
        # Dask gives up a task only after several workers have died of it.
        if type(error).__name__ != "KilledWorker" and self._tries[number] <= len(PAUSES_SECONDS):
            _log.warning("part %d is tried again: %s", number, _text(error))
            self._again.append(number)
            return
        self._failed[number] = error
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= _MAX_FAILED_IN_A_ROW:
            raise RunError(
                f"{self._failed_in_a_row} parts in a row could not be computed: {_text(error)}. Mend that, and give "
                "the same command: it goes on"
            ) from error

    def _abandon(self, client: Any) -> None:
        """Leave nothing behind in the scheduler, nor here, of what still runs."""
        with suppress(Exception):
            client.cancel(list(self._running))
        self._again += self._running.values()
        self._running.clear()

    def _advance(self, number: int) -> None:
        self._bar.total = self._photos
        self._bar.update(min(self._part_size, self._photos - number * self._part_size))


def _window(client: Any) -> int:
    """How many parts are submitted at once; 0 while the scheduler is away."""
    if client.status != "running":
        return 0
    try:
        return (1 + _AHEAD) * int(sum(client.nthreads().values()))
    except OSError:
        return 0


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
