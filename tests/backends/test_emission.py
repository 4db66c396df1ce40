"""What operations become: which values are read and written, and how often."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from networks import PLANS, folded_weights
from npmnv2.kernels.host.target import Target

from npmnv2.backends.emission import EMITTERS, Emitter, Storage
from npmnv2.backends.fusion import BroadcastConcatConv, Operation, StemBlock
from npmnv2.backends.fusion import fuse as fuse_nodes
from npmnv2.backends.packed_weights import PackedWeights
from npmnv2.backends.partition import Subgraph, partition
from npmnv2.network.layers import AnyLayer, Depthwise
from npmnv2.network.plan import Node

TARGET = Target(lanes=16, registers=32)


def instructions(name, outputs, size=(64, 96), n_threads=1):
    plan = PLANS[name]
    schedule = plan.schedule(outputs)
    (subgraph,) = partition(schedule)
    emitter = Emitter(
        subgraph, schedule.shapes((*size, 3)), PackedWeights(plan, folded_weights(plan), TARGET), n_threads
    )
    emitter.run(fuse_nodes(subgraph.nodes, subgraph.outputs, TARGET))
    return emitter.instructions


def test_every_type_of_layer_has_an_emitter() -> None:
    assert set(EMITTERS) == {*get_args(AnyLayer), StemBlock, BroadcastConcatConv}


@pytest.mark.parametrize("name", PLANS)
def test_values_are_written_before_they_are_read(name: str) -> None:
    written = set()
    for instruction in instructions(name, [PLANS[name].nodes[-1].name], n_threads=2):
        for value in instruction.reads:
            assert value in written or (value.name, value.storage) == ("image", Storage.EXTERNAL), instruction.label
        written.add(instruction.writes)


def test_what_follows_a_global_pool_runs_once_for_a_batch() -> None:
    found = [(i.label, i.writes.storage) for i in instructions("0.35", ["predictions"]) if i.batched]
    assert found == [("predictions", Storage.BATCH), ("predictions", Storage.EXTERNAL)]


@pytest.mark.parametrize("name", ["fixed window", "DeepLab"])
def test_maps_run_image_by_image(name: str) -> None:
    assert not any(instruction.batched for instruction in instructions(name, [PLANS[name].nodes[-1].name]))


def test_outputs_are_copied_out_under_the_name_of_their_operation() -> None:
    found = instructions("0.35", ["expanded_conv"])
    assert [(i.label, i.writes.name, i.writes.storage) for i in found] == [
        ("Conv1 + expanded_conv", "expanded_conv", Storage.ARENA),
        ("Conv1 + expanded_conv", "expanded_conv", Storage.EXTERNAL),
    ]


def test_a_map_from_outside_is_padded_once() -> None:
    node = Node("filter", Depthwise(activation="linear"), ("given",))
    twice = Node("again", Depthwise(activation="linear"), ("given",))
    subgraph = Subgraph((node, twice), ("given",), ("filter", "again"), True)
    weights = {f"{n}/{v}": w for n in ("filter", "again") for v, w in _filters().items()}
    plan = type(PLANS["0.35"])((node._replace(inputs=("image",)), twice._replace(inputs=("image",))), 5)
    shapes = dict.fromkeys(["given", "filter", "again"], (7, 9, 5))
    emitter = Emitter(subgraph, shapes, PackedWeights(plan, weights, TARGET), 1)
    emitter.run([Operation((n.name,), n.layer, n.inputs) for n in subgraph.nodes])
    copies = [i for i in emitter.instructions if i.reads[0].storage is Storage.EXTERNAL]
    assert [(i.label, i.writes.name, i.writes.storage) for i in copies] == [("filter", "given", Storage.ARENA)]


def _filters():
    return {"kernel": np.ones((3, 3, 5), np.float32), "bias": np.zeros(5, np.float32)}


def test_workers_share_channels_where_rows_are_few() -> None:
    """One output row for two workers: each takes half of the panels, and the projection follows."""
    for threads, count in [(1, 1), (2, 2)]:
        labels = [i.label for i in instructions("0.35", ["block_16"], (32, 32), threads)]
        assert labels.count("block_15") == count
    labels = [i.label for i in instructions("0.35", ["block_16"], (224, 224), 2)]
    assert labels.count("block_1") == 1
