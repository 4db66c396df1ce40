"""A bounded queue before a few workers: what is accepted is answered, what would wait too long is sent away."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

# Weight of the newest batch in the mean time per image.
_NEWEST = 0.1
_MAX_RETRY_SECONDS = 60


class Busy(Exception):
    """The queue is full.

    Attributes
    ----------
    retry_after : int
        Seconds until it should have room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class Batch(NamedTuple):
    """Images that run together.

    Attributes
    ----------
    question : hashable
        What is asked of all of them.
    images : list of bytes
    alone : bool
        Nothing else is running or waiting.
    """

    question: Hashable
    images: list[bytes]
    alone: bool


class _Job(NamedTuple):
    question: Hashable
    image: bytes
    answer: Future[Any]


class Scheduler:
    """Threads that answer questions about images.

    Parameters
    ----------
    answer : callable
        From a batch to one result for every image; an exception among them is that image's own.
    limit : int
        Images that may wait.
    workers : int
    batch_size : callable
        From a question to how many images a worker may take at once. It takes no more than its share of what waits,
        and never waits for more to come.
    """

    def __init__(
        self,
        answer: Callable[[Batch], Sequence[Any]],
        limit: int,
        workers: int,
        batch_size: Callable[[Any], int] = lambda _: 1,
    ) -> None:
        self.limit, self.workers = limit, workers
        self._answer, self._batch_size = answer, batch_size
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._running = 0
        self._closed = False
        self._seconds_per_image = 0.01
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the workers."""
        self._threads = [threading.Thread(target=self._work, name=f"npmnv2-{i}") for i in range(self.workers)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Answer everything that was accepted, then stop the workers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Images at work."""
        return self._running

    def submit(self, question: Hashable, images: Sequence[bytes]) -> list[Future[Any]]:
        """Accept all images of a request, or none.

        Raises
        ------
        Busy
            If they find no room in the queue.
        """
        jobs = [_Job(question, image, Future()) for image in images]
        with self._changed:
            if self._closed or len(self._waiting) + len(jobs) > self.limit:
                raise Busy(self._retry_after())
            self._waiting.extend(jobs)
            self._changed.notify(len(jobs))
        return [job.answer for job in jobs]

    def _retry_after(self) -> int:
        seconds = len(self._waiting) * self._seconds_per_image / self.workers
        return min(_MAX_RETRY_SECONDS, max(1, math.ceil(seconds)))

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                jobs = self._take()
                alone = len(jobs) == 1 and not self._waiting and not self._running
                self._running += len(jobs)
            # One whose client gave up is left out.
            wanted = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            results = self._results(wanted, alone) if wanted else ()
            with self._changed:
                self._running -= len(jobs)
            for job, result in zip(wanted, results, strict=True):
                _settle(job.answer, result)

    def _take(self) -> list[_Job]:
        """The first job, and others that ask the same: this worker's share of what waits, in order."""
        question = self._waiting[0].question
        size = min(self._batch_size(question), math.ceil(len(self._waiting) / self.workers))
        jobs: list[_Job] = []
        while self._waiting and len(jobs) < size and self._waiting[0].question == question:
            jobs.append(self._waiting.popleft())
        return jobs

    def _results(self, jobs: Sequence[_Job], alone: bool) -> Sequence[Any]:
        """A result or an exception for every job."""
        start = time.perf_counter()
        try:
            results = self._answer(Batch(jobs[0].question, [job.image for job in jobs], alone))
        except BaseException as error:
            return [error] * len(jobs)
        self._seconds_per_image += _NEWEST * ((time.perf_counter() - start) / len(jobs) - self._seconds_per_image)
        return results


def _settle(answer: Future[Any], result: Any) -> None:
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)
