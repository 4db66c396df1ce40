"""How a schedule is cut into what compiled kernels run and what NumPy runs."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2 import MobileNetV2Config
from npmnv2.backends.partition import is_compiled, partition
from npmnv2.network.architecture import backbone, classifier
from npmnv2.network.layers import Add, Conv, Dense, Depthwise, GlobalAveragePool, InvertedResidual, ResizeLike


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (Conv(filters=4), True),
        (Conv(filters=4, dilation=2), False),
        (Conv(filters=4, kernel=1, dilation=2), True),
        (Conv(filters=4, kernel=5, stride=2), True),
        (Depthwise(dilation=6), True),
        (Depthwise(kernel=5), False),
        (InvertedResidual(4, 8, dilation=2), True),
        *((layer, True) for layer in (Add(), Dense(3), GlobalAveragePool(), ResizeLike())),
    ],
    ids=str,
)
def test_coverage(layer, expected) -> None:
    assert is_compiled(layer) is expected


def test_a_network_of_clips_is_one_subgraph() -> None:
    schedule = classifier(MobileNetV2Config(depth_multiplier=0.35)).schedule(["block_3", "predictions"])
    (subgraph,) = partition(schedule)
    assert subgraph.nodes == schedule.nodes
    assert (subgraph.inputs, subgraph.outputs) == (("image",), ("block_3", "predictions"))
    assert subgraph.compiled


def test_layers_that_are_not_covered_stand_alone() -> None:
    plan = backbone(MobileNetV2Config(depth_multiplier=0.35))
    nodes = [
        node._replace(layer=Depthwise(kernel=5, activation=np.tanh)) if node.name in ("block_2", "block_3") else node
        for node in plan.nodes
    ]
    schedule = type(plan)(tuple(nodes)).schedule(["block_1", "block_5"])
    subgraphs = partition(schedule)
    assert [[node.name for node in subgraph.nodes] for subgraph in subgraphs] == [
        ["Conv1", "expanded_conv", "block_1"], ["block_2"], ["block_3"], ["block_4", "block_5"],
    ]  # fmt: skip
    assert [(subgraph.inputs, subgraph.outputs) for subgraph in subgraphs] == [
        (("image",), ("block_1",)),
        (("block_1",), ("block_2",)),
        (("block_2",), ("block_3",)),
        (("block_3",), ("block_5",)),
    ]
    assert [subgraph.compiled for subgraph in subgraphs] == [True, False, False, True]
