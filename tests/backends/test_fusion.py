"""Which nodes run as one operation, and when they must not."""

from __future__ import annotations

import pytest
from networks import PLANS
from npmnv2.kernels.host.target import Target

from npmnv2 import MobileNetV2Config
from npmnv2.backends.fusion import BroadcastConcatConv, StemBlock, fuse
from npmnv2.network.architecture import backbone
from npmnv2.network.deeplab import segmenter
from npmnv2.network.layers import Add, Conv, InvertedResidual
from npmnv2.network.plan import Node

TARGET = Target(lanes=8, registers=16)
STEM = "Conv1 + expanded_conv"
POOLING = "image_pooling_spread + aspp_concat + concat_projection"


def labels(plan, outputs, target=TARGET):
    return [operation.label for operation in fuse(plan.schedule(outputs).nodes, outputs, target)]


@pytest.mark.parametrize("name", PLANS)
def test_no_node_is_lost_or_reordered(name: str) -> None:
    last = PLANS[name].nodes[-1].name
    nodes = PLANS[name].schedule([last]).nodes
    operations = fuse(nodes, [last], TARGET)
    assert sorted(n for operation in operations for n in operation.names) == sorted(node.name for node in nodes)
    made = {"image"}
    for operation in operations:
        assert made.issuperset(operation.inputs), operation.label
        made.add(operation.output)


def test_the_stem_runs_inside_the_first_block() -> None:
    operation = fuse(backbone(MobileNetV2Config()).nodes, ["Conv_1"], TARGET)[0]
    assert (operation.label, operation.inputs, operation.output) == (STEM, ("image",), "expanded_conv")
    assert isinstance(operation.layer, StemBlock)


@pytest.mark.parametrize(
    ("fields", "outputs"),
    [
        ({}, ["Conv1", "Conv_1"]),
        ({"first_layer_is_expansion": False}, ["Conv_1"]),
        ({"depth_multiplier": 0.1, "width_rule": "slim"}, ["Conv_1"]),
    ],
    ids=["wanted", "a block with an expansion", "a block that adds its input"],
)
def test_the_stem_stays_apart(fields, outputs) -> None:
    assert labels(backbone(MobileNetV2Config(**fields)), outputs)[:2] == ["Conv1", "expanded_conv"]


def test_the_stem_stays_apart_where_another_node_reads_it() -> None:
    plan = backbone(MobileNetV2Config(depth_multiplier=0.35)).until("expanded_conv")
    nodes = [*plan.nodes, Node("sum", Add(), ("Conv1", "Conv1"))]
    assert fuse(nodes, ["sum", "expanded_conv"], TARGET)[0].label == "Conv1"


def test_a_pointwise_convolution_is_not_a_stem() -> None:
    nodes = [
        Node("narrow", Conv(filters=4, kernel=1), ("image",)),
        Node("block", InvertedResidual(8, None), ("narrow",)),
    ]
    assert [operation.label for operation in fuse(nodes, ["block"], TARGET)] == ["narrow", "block"]


def test_image_pooling_is_never_broadcast() -> None:
    plan = PLANS["DeepLab"]
    operation = next(o for o in fuse(plan.nodes, ["logits_semantic"], TARGET) if o.output == "concat_projection")
    assert (operation.label, operation.inputs) == (POOLING, ("image_pooling", "aspp0"))
    assert isinstance(operation.layer, BroadcastConcatConv)


@pytest.mark.parametrize("wanted", ["image_pooling_spread", "aspp_concat"])
def test_a_map_that_is_wanted_is_made(wanted: str) -> None:
    found = labels(PLANS["DeepLab"], ["logits_semantic", wanted])
    assert POOLING not in found
    assert {"image_pooling_spread", "aspp_concat", "concat_projection"} <= set(found)


def test_other_concatenations_are_made() -> None:
    assert POOLING not in labels(PLANS["DeepLab, atrous"], ["logits_semantic"]), "five branches"
    found = labels(PLANS["DeepLab, decoder"], ["logits_semantic"])
    assert {"decoder_resized", "decoder_concat"} <= set(found), "a map is resized, not a pixel"


def test_sums_are_biases_only_where_they_fill_whole_vectors() -> None:
    plan = segmenter(MobileNetV2Config(output_stride=16))
    assert POOLING in labels(plan, ["logits_semantic"], Target(lanes=16, registers=32))
    assert POOLING not in labels(plan, ["logits_semantic"], Target(lanes=512, registers=32))
