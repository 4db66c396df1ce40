"""Everything that is said of a layer."""

from __future__ import annotations

import numpy as np
import pytest
from quantized_networks import quantized_checkpoint
from weight_files import random_checkpoint

from npmnv2 import MobileNetV2ForImageClassification
from npmnv2.errors import ArgumentError
from npmnv2.lab.explanation import explain_layer

PHOTO = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)
CHECKPOINT = random_checkpoint(image_size=64)


@pytest.fixture(scope="module")
def model() -> MobileNetV2ForImageClassification:
    return MobileNetV2ForImageClassification.from_checkpoint(CHECKPOINT, backend="numpy")


def test_shapes_and_costs_are_the_plans(model) -> None:
    rows = {row.name: row for row in model.plan.table(64)}
    total = model.plan.multiply_adds(64)
    for name in ("Conv1", "block_3", "block_16", "predictions", "global_average_pooling2d"):
        found = explain_layer(model, name)
        assert (found.output, found.parameters, found.multiply_adds) == rows[name][1:]
        assert found.share == rows[name].multiply_adds / total
    parts = [explain_layer(model, f"block_3_{word}") for word in ("expand", "depthwise", "project")]
    assert sum(part.parameters for part in parts) == rows["block_3"].parameters
    assert sum(part.multiply_adds for part in parts) == rows["block_3"].multiply_adds


def test_words(model) -> None:
    assert explain_layer(model, "layer_6").kind == "inverted residual (expand → depthwise → project → add)"
    assert explain_layer(model, "block_4_add").kind == "residual connection"
    assert explain_layer(model, "predictions").kind == "dense layer"
    text = str(explain_layer(model, "block_3"))
    assert "block_3: inverted residual" in text
    assert "also called      layer_5, layer_5/output" in text
    assert "16×16×" in text
    assert "receptive field  27×27 pixels, one every 8" in text
    assert "def block_3(x, weights):" in text


def test_values_on_a_photo(model) -> None:
    found = explain_layer(model, "block_3", PHOTO)
    trace = model.trace(model.prepare([PHOTO]))
    assert [row.name for row in found.summary] == [
        "block_3_expand",
        "block_3_depthwise",
        "block_3_project",
        "block_3",
    ]
    np.testing.assert_array_equal(found.value, trace["block_3"][0])
    assert found.picture().size[0] > 100
    assert "at top" in str(found)


def test_what_has_no_picture(model) -> None:
    with pytest.raises(ArgumentError, match="block_3 needs a photo"):
        explain_layer(model, "block_3").picture()
    with pytest.raises(ArgumentError, match="predictions has no map"):
        explain_layer(model, "predictions", PHOTO).picture()
    with pytest.raises(ArgumentError, match="did you mean"):
        explain_layer(model, "block_99")


def test_the_code_of_a_quantized_network_is_as_near_as_its_steps() -> None:
    model = MobileNetV2ForImageClassification.from_checkpoint(quantized_checkpoint("int8"))
    found = explain_layer(model, "block_3_expand", PHOTO)
    namespace: dict = {}
    exec(found.code, namespace)
    source = model.trace(model.prepare([PHOTO]), ["block_2"])["block_2"]
    computed = namespace["block_3_expand"](source, model.folded_weights())[0]
    step = model.quantization.values["block_3_expand"].scale[0]
    limit = model.quantization.values["block_3_expand"].real_range[1]
    assert np.abs(np.minimum(computed, limit) - found.value).max() <= 0.51 * step
