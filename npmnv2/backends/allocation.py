"""The third pass of lowering: every value gets a place in memory, which later values use again.

Not where workers share the steps of a small network: each of them then writes to the same lines of every map in every
call, and they stay in its cache. In memory that is used again it finds what others have written, in theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from npmnv2.backends.emission import Instruction, Storage, Value
from npmnv2.kernels.host import steps
from npmnv2.kernels.host.build import Builder, Step, TensorView
from npmnv2.kernels.host.memory import ArenaPlanner

# Maps have memory of their own if all of them fit so many times in the second-level caches of the workers.
APART_OF_L2 = 2


class Allocation(NamedTuple):
    """The places of all values, and the memory that they need.

    Attributes
    ----------
    build : Builder
    refs : dict of Value to int
    arena_bytes, batch_bytes : int
        For the activations of one image at work, and for what is kept of every image of a batch.
    """

    build: Builder
    refs: dict[Value, int]
    arena_bytes: int
    batch_bytes: int

    def step(self, instruction: Instruction) -> Step:
        """The step of an instruction, with the values where they lie."""
        values = (*instruction.reads, instruction.writes)
        return instruction.build(*(self._view(value, instruction.batched) for value in values))

    def _view(self, value: Value, batched: bool) -> TensorView:
        if value.storage is Storage.EXTERNAL:
            return self.build.external(self.refs[value], *value.shape)
        view = self.build.resident(self.refs[value], *value.shape, value.exact)
        # For a step that runs once for the whole batch, images take the place of pixels.
        return view._replace(pixel_stride=self.batch_bytes) if batched and value.storage is Storage.BATCH else view


def allocate(
    instructions: Sequence[Instruction], externals: Sequence[str], build: Builder, n_workers: int = 1
) -> Allocation:
    """Find a place for every value; those outside are the caller's arrays, named by `externals` in order."""
    if n_workers > 1:
        apart = _allocate(instructions, externals, build, reuse=False)
        if apart.arena_bytes <= APART_OF_L2 * n_workers * build.processor.l2_bytes:
            return apart
    return _allocate(instructions, externals, build, reuse=True)


def _allocate(instructions: Sequence[Instruction], externals: Sequence[str], build: Builder, reuse: bool) -> Allocation:
    planners = {Storage.ARENA: ArenaPlanner(), Storage.BATCH: ArenaPlanner()}
    refs: dict[Value, int] = {}
    groups = [list(group) for _, group in groupby(instructions, key=lambda instruction: instruction.label)]
    last_uses = {value: position for position, group in enumerate(groups) for value in _values(group)}
    for position, group in enumerate(groups):
        for value in _values(group):
            if value.storage is Storage.EXTERNAL:
                refs[value] = steps.ref(steps.EXTERNAL + externals.index(value.name), 0)
            elif value not in refs:
                offset = planners[value.storage].allocate(build.resident(0, *value.shape, value.exact).size)
                refs[value] = steps.ref(_BUFFERS[value.storage], offset)
        for value in _values(group):
            if reuse and value.storage is Storage.ARENA and last_uses[value] == position:
                planners[Storage.ARENA].free(steps.split(refs[value])[1])
    return Allocation(build, refs, planners[Storage.ARENA].size, planners[Storage.BATCH].size)


_BUFFERS = {Storage.ARENA: steps.ARENA, Storage.BATCH: steps.BATCH}


def _values(instructions: Sequence[Instruction]) -> dict[Value, None]:
    """All values of some instructions, the last result first."""
    return dict.fromkeys(value for used in reversed(instructions) for value in (used.writes, *used.reads))
