"""Random weights: reproducible, complete, and such that no layer of the network is dead."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2 import MobileNetV2Config
from npmnv2.backends.numpy import NumpyBackend
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.architecture import classifier
from npmnv2.weights.checkpoint import check_weights, fold_batch_norms


def test_complete_and_reproducible() -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=0.35, num_labels=3))
    weights = unit_gain_weights(plan, 1)
    check_weights(plan, weights)
    again, other = unit_gain_weights(plan, 1), unit_gain_weights(plan, 2)
    assert all(np.array_equal(weights[name], again[name]) and weights[name].dtype == np.float32 for name in weights)
    assert not any(np.array_equal(weights[name], other[name]) for name in weights)
    assert all(weights[name].min() > 0 for name in weights if name.endswith(("gamma", "moving_variance")))


@pytest.mark.parametrize("multiplier", [0.35, 1.0])
def test_no_layer_is_dead_or_clipped_away(multiplier: float) -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=multiplier, num_labels=10))
    weights = fold_batch_norms(plan, unit_gain_weights(plan))
    x = np.random.default_rng(0).uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)
    for name, value in NumpyBackend().compile(plan, weights)(x, plan.endpoints).items():
        assert 0.1 < value.std() < 10, name
        assert np.mean((value == 0) | (value == 6)) < 0.75, name


def test_kernels_have_unit_gain() -> None:
    """The variance of a product of n inputs is that of one input where the kernel's is about 1 / n."""
    plan = classifier(MobileNetV2Config(num_labels=10))
    weights = unit_gain_weights(plan)
    for name, inputs in (("Conv1", 27), ("block_5_expand", 32), ("block_5_depthwise", 9), ("predictions", 1280)):
        assert weights[f"{name}/kernel"].std() ** 2 * inputs == pytest.approx(1.5, rel=0.1), name
