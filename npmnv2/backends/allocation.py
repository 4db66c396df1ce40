"""The third pass of lowering: every value gets a place in memory, which later values use again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from npmnv2.backends.emission import Instruction, Storage, Value
from npmnv2.kernels.host import steps
from npmnv2.kernels.host.build import Builder, Step, TensorView
from npmnv2.kernels.host.memory import ArenaPlanner


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


def allocate(instructions: Sequence[Instruction], externals: Sequence[str], build: Builder) -> Allocation:
    """Find a place for every value; those outside are the caller's arrays, named by `externals` in order."""
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
            if value.storage is Storage.ARENA and last_uses[value] == position:
                planners[Storage.ARENA].free(steps.split(refs[value])[1])
    return Allocation(build, refs, planners[Storage.ARENA].size, planners[Storage.BATCH].size)


_BUFFERS = {Storage.ARENA: steps.ARENA, Storage.BATCH: steps.BATCH}


def _values(instructions: Sequence[Instruction]) -> dict[Value, None]:
    """All values of some instructions, the last result first."""
    return dict.fromkeys(value for used in reversed(instructions) for value in (used.writes, *used.reads))
