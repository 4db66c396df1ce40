"""Runs programs: gives every worker its memory and hands the work to the threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import steps
from .build import Program
from .memory import Bytes, aligned, round_up

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

    def reserve(self, size: int) -> Bytes:
        """Return a block of at least `size` bytes."""
        if self._block.nbytes < size:
            self._block = aligned(size)
        return self._block


class _Layout(NamedTuple):
    """Where everything lies for batches of one size; only the addresses of the caller's arrays change."""

    block: Bytes
    buffers: NDArray[np.int64]
    strides: NDArray[np.int64]
    tail: Any


class BoundProgram:
    """A program with its memory.

    Parameters
    ----------
    found : Program
    weights : bytes
    workspace : Workspace
    """

    def __init__(self, found: Program, weights: Bytes, workspace: Workspace) -> None:
        self.program = found
        self._arena_bytes, self._batch_bytes = round_up(found.arena_bytes), found.batch_bytes
        self._weights = weights
        self._workspace = workspace
        self._layouts: dict[int, _Layout] = {}

    def __call__(self, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None:
        """Compute `outputs` from `inputs`, C-contiguous arrays whose first axis is the batch."""
        batch = len(inputs[0])
        layout = self._layout(batch, len(inputs) + len(outputs))
        self._run(self.program.steps, layout.tail, layout, (*inputs, *outputs), batch)

    def single(self, index: int, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None:
        """Run one step of the table (or of the tail, which follows it) for one image, to see what it costs."""
        layout = self._layout(1, len(inputs) + len(outputs))
        count = len(self.program.steps)
        body = self.program.steps[index : index + 1] if index < count else self.program.steps[:0]
        tail = layout.tail[index - count : index - count + 1] if index >= count else layout.tail[:0]
        self._run(body, tail, layout, (*inputs, *outputs), 1)

    def _layout(self, batch: int, n_arrays: int) -> _Layout:
        """Work out the layout for a batch, or take the last one if nothing has changed."""
        n_threads = self._workspace.n_threads
        own = self._arena_bytes + self.program.scratch_bytes
        block = self._workspace.reserve(own * n_threads + batch * self._batch_bytes)
        known = self._layouts.get(batch)
        if known is not None and known.block is block:
            return known
        start = block.ctypes.data
        buffers = np.zeros((n_threads, steps.EXTERNAL + n_arrays), np.int64)
        strides = np.zeros(buffers.shape[1], np.int64)
        buffers[:, steps.ARENA] = start + own * np.arange(n_threads)
        buffers[:, steps.SCRATCH] = buffers[:, steps.ARENA] + self._arena_bytes
        buffers[:, steps.BATCH], strides[steps.BATCH] = start + own * n_threads, self._batch_bytes
        buffers[:, steps.WEIGHTS] = self._weights.ctypes.data
        buffers[:, steps.TABLES] = self.program.tables.ctypes.data
        tail = self.program.tail.copy()
        tail["height"] = batch
        self._layouts = {batch: _Layout(block, buffers, strides, tail)}
        return self._layouts[batch]

    def _run(self, body: Any, tail: Any, layout: _Layout, arrays: Sequence[Floats], batch: int) -> None:
        _, buffers, strides, _ = layout
        for at, array in enumerate(arrays, start=steps.EXTERNAL):
            buffers[:, at] = array.__array_interface__["data"][0]
            strides[at] = array.strides[0]
        from ..device import program, threads

        with threads.workers(self._workspace.n_threads) as crew:
            program.run_on_all(crew, body, tail, buffers, strides, batch, crew)
