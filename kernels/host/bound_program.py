"""A program with its memory: what has to be known to run it, in one record that compiled code reads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import steps
from .build import Program
from .calls import CALL
from .clock import Clock, StepTime
from .engine import Engine
from .memory import Bytes, address_of, aligned, round_up

Floats = NDArray[np.float32]

# A video of one size and photos of all sizes both have all their sizes among so many calls.
_REMEMBERED_CALLS = 16


class Workspace:
    """Memory for activations that all programs of a network share.

    It grows when a call needs more, and shrinks when none of the last calls needed half of it.

    Parameters
    ----------
    n_threads : int
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self.block = aligned(0)
        self.address = 0
        self._needs: deque[int] = deque(maxlen=_REMEMBERED_CALLS)
        # What all of the last calls needed, if it was the same.
        self._settled = -1

    def reserve(self, size: int) -> Bytes:
        """Return a block of at least `size` bytes."""
        if size == self._settled:
            return self.block
        self._needs.append(size)
        most = max(self._needs)
        self._settled = size if self._needs.count(size) == _REMEMBERED_CALLS else -1
        if not most <= self.block.nbytes <= 2 * most:
            self.block = aligned(0)  # let go of the old one first
            self.block = aligned(most)
            self.address = self.block.ctypes.data
        return self.block


class _Layout(NamedTuple):
    """Where everything lies for batches of one size; only the addresses of the caller's arrays change.

    Looking up the address of an array takes 0.5 to 2 µs, so those that stay are kept: the whole record of a call. After
    a large network little of Python is left in the caches, and every line of it takes several times as long.
    """

    start: int
    buffers: NDArray[np.int64]
    fields: memoryview  # the buffers one by one: setting one costs a third of what it does in NumPy
    strides: NDArray[np.int64]
    bases: NDArray[np.int64]
    epilogue: Any
    batch: int

    def place(self, arrays: Sequence[Floats]) -> None:
        """Note the addresses of the caller's arrays, for every worker."""
        fields, n_buffers = self.fields, len(self.strides)
        for at, array in enumerate(arrays, start=steps.EXTERNAL):
            address = address_of(array)
            for field in range(at, len(fields), n_buffers):
                fields[field] = address

    def call(self, body: Any, epilogue: Any, clock: Clock | None = None) -> _Call:
        """The record of a call, timed or not."""
        record = np.array((
            body.ctypes.data, len(body), epilogue.ctypes.data, len(epilogue), self.buffers.ctypes.data,
            self.strides.ctypes.data, self.bases.ctypes.data, len(self.strides), self.batch,
            clock.function if clock else 0, clock.spans.ctypes.data if clock else 0,
        ), CALL)  # fmt: skip
        return _Call(record, record.ctypes.data)


class _Call(NamedTuple):
    """A record of a call, which must live as long as the call, and its address."""

    record: Any
    address: int


class BoundProgram:
    """A program with its memory.

    Parameters
    ----------
    program : Program
    weights : bytes
    workspace : Workspace
    engine : Engine
        What runs it; the program was built for the engine's target.
    """

    def __init__(self, program: Program, weights: Bytes, workspace: Workspace, engine: Engine) -> None:
        self.program = program
        self._arena_bytes, self._batch_bytes = round_up(program.arena_bytes), program.batch_bytes
        self._weights = weights
        self._workspace = workspace
        self._engine = engine
        engine.prepare()
        self._layouts: dict[int, tuple[_Layout, _Call]] = {}

    def __call__(self, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None:
        """Compute `outputs` from `inputs`, C-contiguous arrays whose first axis is the batch."""
        arrays = (*inputs, *outputs)
        layout, call = self._layout(arrays)
        self._run(call, layout, arrays)

    def time_steps(self, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> list[StepTime]:
        """Run on one image, and return what each step took in the order of the program's names."""
        arrays = (*inputs, *outputs)
        layout, _ = self._layout(arrays)
        clock = Clock(len(self.program.names), self._workspace.n_threads)
        call = layout.call(self.program.steps, layout.epilogue, clock)
        started = time.time_ns()
        return clock.read(started, self._run(call, layout, arrays))

    @property
    def nbytes(self) -> int:
        """Bytes that this program keeps for itself: its tables, not the workspace."""
        return sum(int(array.nbytes) for array in (self.program.steps, self.program.epilogue, self.program.tables))

    def _layout(self, arrays: Sequence[Floats]) -> tuple[_Layout, _Call]:
        """Work out the layout for a batch and the call of all steps, or take the last ones if nothing has changed."""
        batch, n_threads = len(arrays[0]), self._workspace.n_threads
        own = self._arena_bytes + self.program.scratch_bytes
        self._workspace.reserve(own * n_threads + batch * self._batch_bytes)
        start = self._workspace.address
        known = self._layouts.get(batch)
        if known is not None and known[0].start == start:
            return known
        buffers = np.zeros((n_threads, steps.EXTERNAL + len(arrays)), np.int64)
        strides = np.zeros(buffers.shape[1], np.int64)
        buffers[:, steps.ARENA] = start + own * np.arange(n_threads)
        buffers[:, steps.SCRATCH] = buffers[:, steps.ARENA] + self._arena_bytes
        buffers[:, steps.BATCH], strides[steps.BATCH] = start + own * n_threads, self._batch_bytes
        strides[steps.EXTERNAL :] = [array.nbytes // batch for array in arrays]
        buffers[:, steps.WEIGHTS] = self._weights.ctypes.data
        buffers[:, steps.TABLES] = self.program.tables.ctypes.data
        epilogue = self.program.epilogue.copy()
        epilogue["input"]["height"] = batch
        layout = _Layout(start, buffers, buffers.reshape(-1).data, strides, np.zeros_like(buffers), epilogue, batch)
        self._layouts = {batch: (layout, layout.call(self.program.steps, epilogue))}
        return self._layouts[batch]

    def _run(self, call: _Call, layout: _Layout, arrays: Sequence[Floats]) -> int:
        layout.place(arrays)
        team, n_threads = self._engine.team, self._workspace.n_threads
        if n_threads > 1:
            team.resize(n_threads)
        return self._engine.run(call.address, team.address, n_threads)
