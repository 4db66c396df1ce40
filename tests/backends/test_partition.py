"""How a schedule is cut into what compiled kernels run and what NumPy runs."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2 import MobileNetV2Config
from npmnv2.backends.partition import has_functions_inside, is_compiled, partition
from npmnv2.network.architecture import backbone, classifier
from npmnv2.network.layers import Add, Conv, Dense, Depthwise, GlobalAveragePool, InvertedResidual, ResizeLike
from npmnv2.network.plan import Node, Plan


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
        (Conv(filters=4, activation="gelu"), True),
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


def test_functions_end_a_subgraph_and_open_blocks() -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=0.35, hidden_act=np.tanh)).until("block_1")
    schedule = plan.schedule(["block_1"], lambda node: has_functions_inside(node.layer))
    subgraphs = partition(schedule)
    assert [[node.name for node in subgraph.nodes] for subgraph in subgraphs] == [
        ["Conv1"],
        ["expanded_conv_depthwise"],
        ["expanded_conv_project", "block_1_expand"],
        ["block_1_depthwise"],
        ["block_1_project"],
    ]
    assert [subgraph.function for subgraph in subgraphs] == [np.tanh] * 4 + [None]
    assert all(subgraph.compiled for subgraph in subgraphs)
    assert schedule.results == {"block_1": "block_1_project"}


def test_numpy_applies_functions_of_its_layers_itself() -> None:
    schedule = Plan((Node("wide", Depthwise(kernel=5, activation=np.tanh), ("image",)),)).schedule(["wide"])
    (subgraph,) = partition(schedule)
    assert (subgraph.compiled, subgraph.function) == (False, None)


@pytest.mark.parametrize(
    ("activation", "expected"), [("relu6", False), ("linear", False), ("silu", True), (np.tanh, True)]
)
def test_functions_inside_blocks(activation, expected) -> None:
    assert has_functions_inside(InvertedResidual(4, 8, activation=activation)) is expected


def test_layers_that_are_not_covered_stand_alone() -> None:
    plan = backbone(MobileNetV2Config(depth_multiplier=0.35))
    nodes = [
        node._replace(layer=Depthwise(kernel=5)) if node.name in ("block_2", "block_3") else node for node in plan.nodes
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
