"""The NumPy backend as a loop over nodes: what it keeps, and for how long."""

from __future__ import annotations

import weakref
from typing import get_args

import numpy as np
from networks import CONFIGS, PLANS, folded_weights, images

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.backends.numpy import _KERNELS, NumpyBackend
from npmnv2.network.architecture import classifier
from npmnv2.network.layers import Conv, SimpleLayer
from npmnv2.network.plan import IMAGE, Node, Plan


def test_maps_are_freed_once_nothing_reads_them() -> None:
    """Seen from an activation of the user's own: of all maps that went through it, few are alive at any time."""
    seen: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def relu(x: np.ndarray) -> np.ndarray:
        out = np.maximum(x, 0)
        seen.append(weakref.ref(out))
        alive.append(sum(reference() is not None for reference in seen))
        return out

    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=3, hidden_act=relu)
    model = MobileNetV2ForImageClassification(config, seed=0, backend="numpy")
    x = np.zeros((1, 64, 64, 3), np.float32)
    model.run(x, ["predictions"])
    assert len(alive) == 35, "two of every block but the first, which has one, the stem and the last convolution"
    # The new map and the one it was made from.
    assert max(alive) <= 2
    seen.clear()
    alive.clear()
    model.run(x, ["predictions", "block_1_expand"])
    assert max(alive) == 3, "a map that was asked for stays"


def test_profile_counts_the_work_of_a_whole_batch_and_of_opened_blocks() -> None:
    plan = classifier(CONFIGS["0.35"])
    executable = NumpyBackend().compile(plan, folded_weights(plan))
    for outputs in (["predictions"], ["predictions", "block_3_expand"]):
        one, three = (executable.profile(images(count), outputs) for count in (1, 3))
        assert [t.name for t in one] == [node.name for node in plan.schedule(outputs).nodes]
        assert [t.multiply_adds for t in three] == [3 * t.multiply_adds for t in one]
        assert sum(t.multiply_adds for t in one) == plan.multiply_adds(71, 65)
        assert all(t.seconds > 0 for t in one)


def test_a_block_is_what_its_parts_are() -> None:
    plan = PLANS["odd widths"]
    executable = NumpyBackend().compile(plan, folded_weights(plan))
    opened = executable(images(1), plan.endpoints)
    for node in plan.nodes:
        np.testing.assert_array_equal(executable(images(1), [node.name])[node.name], opened[node.name], node.name)


def test_every_layer_has_a_kernel() -> None:
    assert set(_KERNELS) == set(get_args(SimpleLayer))


def test_a_pointwise_convolution_with_a_stride_skips_pixels() -> None:
    """No MobileNetV2 has one; extra layers of detectors do."""
    layer = Conv(filters=7, kernel=1, stride=2, norm=None)
    plan = Plan((Node("extra", layer, (IMAGE,)),), channels=5)
    rng = np.random.default_rng(0)
    weights = {"extra/kernel": rng.normal(size=(1, 1, 5, 7)), "extra/bias": rng.normal(size=7)}
    x = rng.normal(size=(2, 6, 9, 5))
    found = NumpyBackend().compile(plan, weights)(x, ["extra"])["extra"]
    exact = x[:, ::2, ::2] @ weights["extra/kernel"][0, 0] + weights["extra/bias"]
    np.testing.assert_allclose(found, np.clip(exact, 0, 6), rtol=1e-12)
