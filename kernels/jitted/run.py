"""Runs programs: gives every worker its memory and hands the work to the threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import program, steps
from .build import Program
from .memory import Bytes, aligned, round_up
from .threads import workers

Floats = NDArray[np.float32]


class Workspace:
    """Memory for activations, used again by every call and grown when a call needs more.

    Parameters
    ----------
    n_threads : int
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._block = aligned(0)

    def reserve(self, size: int) -> int:
        """Return the address of at least `size` bytes."""
        if self._block.nbytes < size:
            self._block = aligned(size)
        return self._block.ctypes.data


class Call:
    """A program with its memory, for batches of one size: what is the same for every call is worked out once.

    Parameters
    ----------
    found : Program
    arena_bytes, batch_bytes : int
        Activations of one image that is being worked on, and what is kept of every image of a batch.
    weights : bytes
    workspace : Workspace
    """

    def __init__(
        self, found: Program, arena_bytes: int, batch_bytes: int, weights: Bytes, workspace: Workspace
    ) -> None:
        self.program = found
        self._arena_bytes, self._batch_bytes = round_up(arena_bytes), batch_bytes
        self._weights = weights
        self._workspace = workspace

    def __call__(self, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None:
        """Compute `outputs` from `inputs`, C-contiguous arrays whose first axis is the batch."""
        self._run(self.program.steps, self._tail(len(inputs[0])), inputs, outputs, len(inputs[0]))

    def single(self, index: int, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None:
        """Run one step of the table (or of the tail, which follows it) for the first image, to see what it costs."""
        count = len(self.program.steps)
        body = self.program.steps[index : index + 1] if index < count else self.program.steps[:0]
        tail = self._tail(1)[index - count : index - count + 1] if index >= count else self.program.tail[:0]
        self._run(body, tail, inputs, outputs, 1)

    def _tail(self, batch: int) -> Any:
        tail = self.program.tail.copy()
        tail["height"] = batch
        return tail

    def _run(self, body: Any, tail: Any, inputs: Sequence[Floats], outputs: Sequence[Floats], batch: int) -> None:
        n_threads = self._workspace.n_threads
        own = self._arena_bytes + self.program.scratch_bytes
        start = self._workspace.reserve(own * n_threads + batch * self._batch_bytes)
        arrays = [*inputs, *outputs]
        buffers = np.empty((n_threads, steps.EXTERNAL + len(arrays)), np.int64)
        strides = np.zeros(buffers.shape[1], np.int64)
        buffers[:, steps.ARENA] = range(start, start + own * n_threads, own) if own else start
        buffers[:, steps.SCRATCH] = buffers[:, steps.ARENA] + self._arena_bytes
        buffers[:, steps.BATCH], strides[steps.BATCH] = start + own * n_threads, self._batch_bytes
        buffers[:, steps.WEIGHTS] = self._weights.ctypes.data
        buffers[:, steps.TABLES] = self.program.tables.ctypes.data
        for at, array in enumerate(arrays, start=steps.EXTERNAL):
            buffers[:, at], strides[at] = array.ctypes.data, array.strides[0]
        with workers(n_threads) as crew:
            program.run_on_all(crew, body, tail, buffers, strides, batch, crew)
