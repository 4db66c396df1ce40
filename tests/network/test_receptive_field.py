"""Receptive fields, against the pixels that do change a value."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.deeplab import segmenter
from npmnv2.network.layers import AveragePool, Conv, Depthwise, ResizeLike
from npmnv2.network.plan import Node, Plan
from npmnv2.network.receptive_field import Field, receptive_fields
from npmnv2.weights.checkpoint import fold_batch_norms, initialize

NAMES = ("Conv1", "expanded_conv_depthwise", "block_1_depthwise", "block_2", "block_3_expand", "block_5")


def seen_by(plan: Plan, config, name: str, size: int) -> int:
    """Side of the square of pixels that change the middle pixel of a value, if all weights are positive."""
    weights = {key: np.abs(value) for key, value in initialize(plan, config, 0).items()}
    run = NumpyExecutable(plan, fold_batch_norms(plan, weights, np.float64))
    x = np.full((1, size, 32, 3), 0.5)
    base = run(x, [name])[name]
    middle, column = base.shape[1] // 2, base.shape[2] // 2
    changes = []
    for row in range(size):
        touched = x.copy()
        touched[:, row] += 0.25
        value = run(touched, [name])[name]
        changes.append(not np.array_equal(value[0, middle, column], base[0, middle, column]))
    where = np.flatnonzero(changes)
    return int(where[-1] - where[0] + 1)


@pytest.mark.parametrize("output_stride", [32, 4])
def test_the_pixels_that_change_a_value(output_stride) -> None:
    config = MobileNetV2Config(depth_multiplier=0.05, output_stride=output_stride, hidden_act="linear", expand_ratio=1)
    plan = classifier(config)
    fields = receptive_fields(plan)
    for name in NAMES:
        assert seen_by(plan, config, name, 150) == fields[name].size, name


def test_published_network() -> None:
    fields = receptive_fields(classifier(MobileNetV2Config()))
    assert fields["image"] == Field(1, 1)
    assert fields["Conv1"] == Field(3, 2)
    assert fields["block_13_expand"] == Field(267, 16)
    assert fields["Conv_1"] == Field(491, 32)
    assert fields["predictions"] == fields["global_average_pooling2d"] == Field(None, None)
    assert [str(fields[name]) for name in ("Conv1", "predictions")] == ["3×3 pixels, one every 2", "the whole image"]


def test_segmentation_sees_the_whole_image_through_its_pool() -> None:
    fields = receptive_fields(segmenter(MobileNetV2Config(output_stride=16, decoder=True, atrous_rates=(6,))))
    assert fields["image_pooling_spread"] == Field(None, 16)
    assert fields["aspp1_pointwise"].size == fields["aspp0"].size + 2 * 6 * 16
    assert fields["logits_semantic"] == Field(None, 4)


def test_pools_and_resizes() -> None:
    nodes = (
        Node("a", Conv(kernel=3, stride=2), ("image",)),
        Node("b", AveragePool(2, 2), ("a",)),
        Node("c", ResizeLike(), ("b", "a")),
        Node("d", Depthwise(dilation=3), ("c",)),
    )
    fields = receptive_fields(Plan(nodes))
    assert [fields[name] for name in "abcd"] == [Field(3, 2), Field(5, 4), Field(9, 2), Field(21, 2)]
