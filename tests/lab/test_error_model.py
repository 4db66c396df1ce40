"""Bounds of float32's and bfloat16's errors hold for all backends, and are not idle."""

from __future__ import annotations

import numpy as np
import pytest
from engines import BACKENDS

from npmnv2 import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2Model,
)
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.kernels import bfloat16
from npmnv2.lab import error_model
from npmnv2.lab.alignment import completed
from npmnv2.lab.error_model import UNIT, error_bounds, rounded_to_bfloat16
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.layers import Conv
from npmnv2.network.plan import Part
from npmnv2.network.quantization import value_parts
from npmnv2.weights.checkpoint import fold_batch_norms

CLASSIFIER, SEGMENTER = MobileNetV2ForImageClassification, MobileNetV2ForSemanticSegmentation
NETWORKS = {
    "classifier": (CLASSIFIER, {}, (64, 75)),
    "hardswish": (CLASSIFIER, {"hidden_act": "hardswish"}, (64, 64)),
    "fixed window": (CLASSIFIER, {"pooling_window": 2}, (64, 64)),
    "DeepLab": (SEGMENTER, {"output_stride": 16}, (97, 97)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    kind, fields, size = NETWORKS[request.param]
    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=101, **fields)
    weights = unit_gain_weights(kind.build(config), 3)
    x = np.random.default_rng(0).uniform(-1, 1, (1, *size, 3)).astype(np.float32)
    return kind(config, weights, dtype="float64"), x


@pytest.mark.parametrize("backend", BACKENDS)
def test_errors_in_the_network_are_as_expected(network, backend) -> None:
    """No value is off by more than is likely; and what is expected is at most a hundred times what is."""
    model, x = network
    exact = model.trace(x)
    single = type(model)(model.config, model.weights, backend=backend).trace(x)
    for bound in error_bounds(model, x):
        error, peak = np.abs(single[bound.name] - exact[bound.name]), np.abs(exact[bound.name]).max()
        assert error.max() <= bound.likely * peak, bound
        share = np.sqrt(np.mean(error**2) / np.mean(exact[bound.name] ** 2))
        assert share <= bound.expected <= 100 * share, bound


def test_the_worst_case_of_a_layer_holds(network) -> None:
    """On the float32 inputs that it has in the network, weights rounded to float32."""
    model, x = network
    double, single = (
        NumpyExecutable(model.plan, fold_batch_norms(model.plan, model.weights, dtype))
        for dtype in (np.float64, np.float32)
    )
    bounds = {bound.name: bound for bound in error_bounds(model, x)}
    values = {"image": x}
    for part in value_parts(model.plan):
        inputs = [values[name] for name in part.inputs]
        values[part.name] = single.compute(part, *inputs)
        exact = double.compute(part, *(value.astype(np.float64) for value in inputs))
        error = np.abs(values[part.name] - exact).max() / np.abs(exact).max()
        assert error <= 1.001 * bounds[part.name].worst, part.name


def test_a_mean_and_a_sum_round_once() -> None:
    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=3)
    model = CLASSIFIER(config, unit_gain_weights(CLASSIFIER.build(config)), dtype="float64")
    bounds = {bound.name: bound for bound in error_bounds(model, np.zeros((1, 64, 64, 3)))}
    for name in ("block_2_add", "global_average_pooling2d"):
        assert bounds[name].worst == pytest.approx(UNIT)


def test_the_worst_case_of_bfloat16_holds_for_every_layer(network, monkeypatch) -> None:
    """As NumPy defines it, and so for the compiled kernels; a change beyond it is seen, and units are no larger."""
    model, x = network
    half = type(model)(model.config, model.weights, backend="numpy", precision="bf16")
    values = completed({"image": x, **half.trace(x)}, model.plan)
    parts = {part.name for part in model.plan.parts()}
    assert rounded_to_bfloat16(model, values) == parts
    changed = values["block_5_depthwise"] + 0.05 * values["block_5_depthwise"].max()
    found = rounded_to_bfloat16(model, {**values, "block_5_depthwise": changed})
    assert parts - found >= {"block_5_depthwise"}
    assert found >= parts - {"block_5_depthwise", "block_5_project"}
    del values["block_3_expand"]
    assert parts - rounded_to_bfloat16(model, values) == {"block_3_expand", "block_3_depthwise"}
    monkeypatch.setattr(error_model, "BFLOAT16_UNIT", 2.0**-10)
    assert len(rounded_to_bfloat16(model, values)) < len(parts) / 2


def test_a_value_that_stays_float32_is_not_excused_by_rounding() -> None:
    """Pooled features that nothing reads; neither are they of a shape that only broadcasts."""
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=64)
    model = MobileNetV2Model(config, dtype="float64", seed=0)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    single = MobileNetV2Model(config, model.weights, backend="numpy").trace(x, ["Conv_1", "global_average_pooling2d"])
    pooled = single["global_average_pooling2d"]
    for seen, judged in ((pooled, True), (bfloat16.round_to_bfloat16(pooled), False), (pooled[None], False)):
        found = rounded_to_bfloat16(model, {**single, "global_average_pooling2d": seen})
        assert ("global_average_pooling2d" in found) == judged


def test_an_error_counts_just_outside_of_a_clip_as_well() -> None:
    """What is cut off by less than its error may not be cut off in another order of the sum."""
    part = Part("layer", Conv(kernel=1, filters=1, norm=None, activation="relu6"), ("image",))
    z = np.array([-1e-3, -1e-7, 0.0, 3.0, 6.0 + 1e-7, 6.1])
    _, variance = error_model._through_activation(part, z, np.zeros(6), np.full(6, 1e-14))
    assert (variance > 0).tolist() == [False, True, True, True, True, False]
