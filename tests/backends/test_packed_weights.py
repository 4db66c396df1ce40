"""Packed weights: of everything that compiled kernels run, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from networks import PLANS, folded_weights
from npmnv2.kernels.host import steps
from npmnv2.kernels.host.target import Target

from npmnv2 import MobileNetV2Config
from npmnv2.backends.packed_weights import PackedWeights
from npmnv2.kernels import NO_CLIP, RELU, RELU6
from npmnv2.network.architecture import classifier
from npmnv2.network.layers import Dense, Depthwise

TARGET = Target(lanes=8, registers=16)


@pytest.mark.parametrize("name", PLANS)
def test_every_weight_is_there(name: str) -> None:
    plan = PLANS[name]
    weights = folded_weights(plan)
    packed = PackedWeights(plan, weights, TARGET)
    for part in plan.parts():
        if f"{part.name}/kernel" in weights:
            found = packed[part.name]
            bias = read(packed.block, found.bias, weights[f"{part.name}/bias"].shape)
            np.testing.assert_array_equal(bias, weights[f"{part.name}/bias"])
            assert found.channels == len(bias)


def read(block, ref, shape):
    buffer, offset = steps.split(ref)
    assert buffer == steps.WEIGHTS
    return block[offset : offset + 4 * int(np.prod(shape))].view(np.float32).reshape(shape)


def test_clips_follow_the_activation() -> None:
    plan = PLANS["DeepLab"]
    packed = PackedWeights(plan, folded_weights(plan), TARGET)
    names = {"Conv1": RELU6, "block_3_depthwise": RELU6, "block_3_project": NO_CLIP, "aspp0": RELU}
    assert {name: packed[name].clip for name in names} == names


def test_the_convolution_after_a_broadcast_is_split() -> None:
    plan = PLANS["DeepLab"]
    weights = folded_weights(plan)
    packed = PackedWeights(plan, weights, TARGET)
    for_pixel, for_map = packed.split("concat_projection")
    assert (for_pixel.clip, for_map.clip) == (NO_CLIP, RELU)
    np.testing.assert_array_equal(
        read(packed.block, for_pixel.bias, (256,)),
        weights["concat_projection/bias"],
        "the pixel's sums start at the bias",
    )
    with pytest.raises(KeyError):
        packed.split("aspp0")


def test_what_numpy_runs_is_not_packed() -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=0.35, num_labels=3))
    nodes = tuple(n._replace(layer=Depthwise(kernel=5)) if n.name == "block_2" else n for n in plan.nodes)
    plan = type(plan)(nodes)
    packed = PackedWeights(plan, folded_weights(plan), TARGET)
    assert packed["predictions"].channels == 3
    assert isinstance(plan.nodes[-1].layer, Dense)
    with pytest.raises(KeyError):
        packed["block_2"]
