"""Where values lie: never two in one place at the same time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import PLANS, folded_weights
from npmnv2.kernels.host import steps
from npmnv2.kernels.host.processor import Processor
from npmnv2.kernels.host.target import Target

from npmnv2.backends.allocation import allocate
from npmnv2.backends.emission import Emitter, Storage
from npmnv2.backends.fusion import fuse
from npmnv2.backends.packed_weights import PackedWeights
from npmnv2.backends.partition import partition

TARGET = Target(lanes=8, registers=16)
WEIGHTS = {name: PackedWeights(plan, folded_weights(plan), TARGET, Processor()) for name, plan in PLANS.items()}


def emit(name, outputs, size, n_threads):
    schedule = PLANS[name].schedule(outputs)
    (subgraph,) = partition(schedule)
    emitter = Emitter(subgraph, schedule.shapes((*size, 3)), WEIGHTS[name], n_threads)
    emitter.run(fuse(subgraph.nodes, subgraph.outputs, TARGET))
    return subgraph, emitter


def allocated(name, outputs, size=(64, 96), n_threads=1):
    subgraph, emitter = emit(name, outputs, size, n_threads)
    externals = (*subgraph.inputs, *subgraph.outputs)
    return emitter.instructions, allocate(emitter.instructions, externals, emitter.build, n_threads)


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=12)
@given(data=st.data())
def test_values_alive_at_one_time_lie_apart(name: str, data: st.DataObject) -> None:
    outputs = data.draw(st.lists(st.sampled_from(PLANS[name].endpoints), min_size=1, max_size=3, unique=True))
    size = data.draw(st.tuples(st.integers(64, 130), st.integers(64, 130)))
    instructions, allocation = allocated(name, outputs, size, data.draw(st.sampled_from([1, 2, 5])))
    uses: dict = {}
    for position, instruction in enumerate(instructions):
        for value in (*instruction.reads, instruction.writes):
            uses.setdefault(value, []).append(position)
    arena = [value for value in uses if value.storage is Storage.ARENA]
    build = WEIGHTS[name].build
    for i, one in enumerate(arena):
        start, stop = piece(build, allocation, one)
        assert 0 <= start < stop <= allocation.arena_bytes
        for other in arena[:i]:
            if uses[one][0] <= uses[other][-1] and uses[other][0] <= uses[one][-1]:
                other_start, other_stop = piece(build, allocation, other)
                assert stop <= other_start or other_stop <= start, f"{one.name} and {other.name}"


def piece(build, allocation, value):
    buffer, start = steps.split(allocation.refs[value])
    assert buffer == steps.ARENA
    return start, start + build.resident(0, *value.shape).size


def test_memory_is_used_again() -> None:
    instructions, allocation = allocated("0.35", ["predictions"])
    build = WEIGHTS["0.35"].build
    values = {i.writes for i in instructions if i.writes.storage is Storage.ARENA}
    assert allocation.arena_bytes < sum(build.resident(0, *value.shape).size for value in values) / 2


@pytest.mark.parametrize(("size", "apart"), [((64, 96), True), ((640, 640), False)])
def test_workers_that_share_steps_use_memory_once_unless_maps_are_large(size, apart) -> None:
    instructions, allocation = allocated("0.35", ["predictions"], size, n_threads=2)
    build = WEIGHTS["0.35"].build
    values = {i.writes for i in instructions if i.writes.storage is Storage.ARENA}
    assert (allocation.arena_bytes == sum(build.resident(0, *value.shape).size for value in values)) == apart


def test_what_is_kept_of_every_image_is_never_freed() -> None:
    instructions, allocation = allocated("0.35", ["predictions", "global_average_pooling2d"])
    kept = {i.writes for i in instructions if i.writes.storage is Storage.BATCH}
    assert {value.name for value in kept} == {"predictions", "global_average_pooling2d"}
    offsets = sorted(steps.split(allocation.refs[value])[1] for value in kept)
    assert offsets[0] == 0
    assert offsets[1] >= 17 * 4
    assert allocation.batch_bytes >= (1280 + 17) * 4


def test_arrays_of_the_caller_are_numbered_inputs_first() -> None:
    instructions, allocation = allocated("0.35", ["block_3", "predictions"])
    externals = {
        v.name: allocation.refs[v] for i in instructions for v in (*i.reads, i.writes) if v.storage is Storage.EXTERNAL
    }
    assert externals == {
        name: steps.ref(steps.EXTERNAL + number, 0) for number, name in enumerate(["image", "block_3", "predictions"])
    }


def test_images_take_the_place_of_pixels_in_steps_for_a_batch() -> None:
    instructions, allocation = allocated("0.35", ["predictions"])
    dense = next(i for i in instructions if i.batched)
    record = allocation.step(dense).record
    assert record["input"]["pixel_stride"] == record["output"]["pixel_stride"] == allocation.batch_bytes
