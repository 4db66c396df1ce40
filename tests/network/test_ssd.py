"""SSD's heads: shapes and counts that are published, and both backends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engines import BACKENDS

from npmnv2 import MobileNetV2Config
from npmnv2.backends.selection import get_backend
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.detection import AnchorOptions, Extra, SSDConfig
from npmnv2.network.ssd import BOX_ENCODINGS, CLASS_LOGITS, anchor_count, detector, map_names, map_sizes
from npmnv2.weights.checkpoint import fold_batch_norms

COCO = MobileNetV2Config(image_size=300, num_labels=91)
SIBLINGS = {
    "ssdlite": SSDConfig(),
    "full predictors": SSDConfig(predictor_depthwise=False),
    "pointwise predictors": SSDConfig(extra_depthwise=False, predictor_depthwise=False, predictor_kernel=1),
    "two extras": SSDConfig(
        extras=(Extra(24, 40), Extra(8, 16)),
        anchors=AnchorOptions(aspect_ratios=(1.0, 2.0), reduce_boxes_in_lowest_layer=False),
    ),
}


def test_published_counts():
    plan = detector(COCO)
    shapes = plan.parameter_shapes()
    trainable = sum(math.prod(shape) for name, shape in shapes.items() if "moving_" not in name)
    # The archive's index has 405 variables, one of them global_step.
    assert (len(shapes), trainable) == (404, 4_500_543)
    assert plan.multiply_adds(300) / 1e6 == pytest.approx(749.5, abs=0.05)


def test_full_predictors_count():
    shapes = detector(COCO.replace(ssd=SIBLINGS["full predictors"])).parameter_shapes()
    assert sum(math.prod(shape) for shape in shapes.values()) == 16_876_287, "floats in the archive"
    assert shapes["BoxPredictor_0_ClassPredictor/kernel"] == (3, 3, 576, 273)


@pytest.mark.parametrize(
    ("size", "sizes", "anchors"),
    [
        ((300, 300), [19, 10, 5, 3, 2, 1], 1917),
        ((192, 192), [12, 6, 3, 2, 1, 1], 738),
        ((320, 320), [20, 10, 5, 3, 2, 1], 2034),
    ],
)
def test_maps(size, sizes, anchors):
    assert map_sizes(COCO, *size) == tuple((side, side) for side in sizes)
    assert anchor_count(COCO, *size) == anchors
    assert detector(COCO).shapes(*size)[CLASS_LOGITS] == (anchors, 91)


def test_maps_of_an_input_that_is_not_square():
    assert map_sizes(COCO, 256, 320)[:3] == ((16, 20), (8, 10), (4, 5))


def test_slim_names_of_maps():
    plan = detector(COCO)
    assert [plan.resolve(name) for name in ("layer_15/expansion_output", "layer_19")] == list(map_names(COCO.ssd)[:2])


@pytest.mark.parametrize("name", SIBLINGS)
@pytest.mark.parametrize("size", [(96, 96), (65, 97)])
def test_predictions_in_their_order(name, size):
    """Anchors of a place follow one another, then come places row by row, then maps; on both backends alike."""
    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=4, ssd=SIBLINGS[name])
    plan = detector(config)
    weights = fold_batch_norms(plan, unit_gain_weights(plan))
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    heads = [f"BoxPredictor_{number}_ClassPredictor" for number in range(config.ssd.n_maps)]
    expected = None
    for backend in BACKENDS:
        executable = get_backend(backend, np.dtype("float32")).compile(plan, weights, 2)
        found = executable(x, [CLASS_LOGITS, BOX_ENCODINGS])
        maps = executable(x, [CLASS_LOGITS, *heads])
        row = 0
        for head, count in zip(heads, config.ssd.anchors_per_place):
            _, height, width, _ = maps[head].shape
            for y in range(height):
                for x_ in range(width):
                    for anchor in range(count):
                        columns = maps[head][:, y, x_, anchor * 4 : anchor * 4 + 4]
                        np.testing.assert_array_equal(maps[CLASS_LOGITS][:, row], columns)
                        row += 1
        assert row == found[CLASS_LOGITS].shape[1] == found[BOX_ENCODINGS].shape[1] == anchor_count(config, *size)
        np.testing.assert_array_equal(found[CLASS_LOGITS], maps[CLASS_LOGITS])
        expected = expected or found
        for output in found:
            assert found[output].dtype == np.float32
            largest = abs(expected[output]).max()
            assert abs(found[output] - expected[output]).max() <= 1e-4 * largest


@pytest.mark.parametrize(("labels", "background"), [(1, True), (0, False)])
def test_nothing_to_detect(labels, background):
    config = MobileNetV2Config(num_labels=labels, ssd=SSDConfig(background=background))
    with pytest.raises(ValueError, match=rf"num_labels \(={labels}\) must be at least {labels + 1} for detection"):
        detector(config)
