"""Strict loading, and the folding of batch norms."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from weight_files import noisy

from npmnv2 import MobileNetV2Config, WeightsError
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.architecture import backbone, classifier
from npmnv2.weights.checkpoint import Checkpoint, FoldedWeights, check_weights, fold_batch_norms


def test_all_problems_are_reported_together(checkpoint: Checkpoint) -> None:
    weights = dict(checkpoint.weights)
    del weights["block_3_expand/kernel"]
    weights["block_99/kernel"] = np.zeros(1, np.float32)
    weights["Conv1/kernel"] = weights["Conv1/kernel"][:, :, :2]
    with pytest.raises(WeightsError) as error:
        check_weights(classifier(checkpoint.config), weights, "file.h5")
    message = str(error.value)
    assert "1 missing: block_3_expand/kernel" in message
    assert "1 unexpected: block_99/kernel" in message
    assert "1 misshapen: Conv1/kernel is (3, 3, 2, 16), must be (3, 3, 3, 16)" in message
    assert message.startswith("file.h5")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(checkpoint: Checkpoint, value: float) -> None:
    weights = {name: array.copy() for name, array in checkpoint.weights.items()}
    weights["block_3_project_BN/beta"][-1] = value
    with pytest.raises(WeightsError, match="does not match the network: 1 not finite: block_3_project_BN/beta"):
        check_weights(classifier(checkpoint.config), weights)


def test_negative_variances(checkpoint: Checkpoint) -> None:
    weights = {name: array.copy() for name, array in checkpoint.weights.items()}
    weights["Conv_1_bn/moving_variance"][7] = -1e-6
    with pytest.raises(WeightsError, match="1 negative: Conv_1_bn/moving_variance"):
        check_weights(classifier(checkpoint.config), weights)


def test_folded_numbers_that_are_too_large(checkpoint: Checkpoint) -> None:
    plan = classifier(checkpoint.config)
    weights = {**checkpoint.weights, "bn_Conv1/gamma": np.full(16, 3e38, np.float32)}
    check_weights(plan, weights)
    with pytest.raises(WeightsError, match="weights of Conv1 must fit into float32"):
        fold_batch_norms(plan, weights)
    assert np.isfinite(fold_batch_norms(plan, weights, np.float64)["Conv1/kernel"]).all()


def test_folding_equals_convolution_and_batch_norm() -> None:
    """On a block: convolve, normalize and clip one after the other in float64, without folding anything."""
    config = MobileNetV2Config(depth_multiplier=0.35, hidden_act="linear", layer_norm_eps=0.01)
    plan = backbone(config)
    weights = noisy(plan, config)
    folded = fold_batch_norms(plan, weights, np.float64)
    x = np.random.default_rng(1).normal(size=(5, 16))
    kernel = weights["expanded_conv_project/kernel"][0, 0].astype(np.float64)
    gamma, beta, mean, variance = (
        weights[f"expanded_conv_project_BN/{v}"].astype(np.float64)
        for v in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    reference = gamma * (x @ kernel - mean) / np.sqrt(variance + 0.01) + beta
    comp = x @ folded["expanded_conv_project/kernel"] + folded["expanded_conv_project/bias"]
    np.testing.assert_allclose(comp, reference, rtol=1e-12)


def test_folded_layouts() -> None:
    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=3)
    folded = fold_batch_norms(classifier(config), noisy(classifier(config), config))
    assert folded["Conv1/kernel"].shape == (3, 3, 3, 16)
    assert folded["block_1_expand/kernel"].shape == (8, 48)
    assert folded["block_1_depthwise/kernel"].shape == (3, 3, 48)
    assert folded["predictions/kernel"].shape == (1280, 3)
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in folded.values())


def test_weights_that_come_folded_load_too(checkpoint: Checkpoint) -> None:
    plan = classifier(checkpoint.config)
    folded = fold_batch_norms(plan, checkpoint.weights, np.float64)
    expected = plan.parameter_shapes()
    files = {name: folded[name].reshape(expected[name]) if name.endswith("kernel") else folded[name] for name in folded}
    check_weights(plan, files)
    again = fold_batch_norms(plan, files, np.float64)
    assert all(np.array_equal(again[name], folded[name]) for name in folded)


def test_layers_are_folded_one_by_one_and_not_kept() -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=0.35, num_labels=3))
    weights = unit_gain_weights(plan)
    lazy, eager = FoldedWeights(plan, weights), fold_batch_norms(plan, weights)
    assert set(lazy) == set(eager)
    assert len(lazy) == len(eager)
    for name in reversed(list(eager)):
        np.testing.assert_array_equal(lazy[name], eager[name], name)
    assert "Conv1/gamma" not in lazy
    kernel = weakref.ref(lazy["Conv1/kernel"])
    assert lazy["Conv_1/bias"].shape == (1280,)
    assert kernel() is None
