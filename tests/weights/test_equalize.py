"""Cross-layer equalization: which channels may have factors, and that the network stays the same."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.deeplab import segmenter
from npmnv2.network.quantization import value_parts
from npmnv2.weights.calibration import Calibration
from npmnv2.weights.checkpoint import fold_batch_norms
from npmnv2.weights.equalize import equalize, find_exponents, groups

CONFIG = MobileNetV2Config(depth_multiplier=0.1, image_size=64, num_labels=3)


def network(seed=0, **fields):
    """A plan, its folded weights, and three images."""
    plan = classifier(CONFIG.replace(**fields))
    x = np.random.default_rng(seed).uniform(-1, 1, (3, 64, 64, 3)).astype(np.float32)
    return plan, fold_batch_norms(plan, unit_gain_weights(plan, seed)), x


def values_of(plan, folded, x):
    return NumpyExecutable(plan, folded)(x, [part.name for part in value_parts(plan)])


def calibrated(plan, folded, x) -> Calibration:
    calibration = Calibration()
    calibration.widen({"image": x, **values_of(plan, folded, x)})
    return calibration


def unbalanced(plan, folded, seed=1):
    """The same network, with channels between a projection and what reads it of very different size."""
    rng = np.random.default_rng(seed)
    chosen = {group.values: group for group in groups(plan) if not group.relu6}
    exponents = {}
    for values, group in chosen.items():
        drawn = rng.integers(-4, 5, len(folded[f"{group.makers[0].name}/bias"]))
        exponents.update(dict.fromkeys(values, drawn))
    return equalize(plan, folded, exponents)


def test_groups_end_where_more_than_convolutions_read() -> None:
    found = {group.makers[0].name: group for group in groups(classifier(CONFIG))}
    residual = found["block_3_project"]
    assert set(residual.values) == {
        "block_3_project",
        "block_4_project",
        "block_4_add",
        "block_5_project",
        "block_5_add",
    }
    assert [part.name for part in residual.readers] == ["block_4_expand", "block_5_expand", "block_6_expand"]
    assert not residual.relu6
    assert found["block_3_expand"].relu6
    # The pool and the result of the network are what people look at.
    assert not {"Conv_1", "predictions"} & set(found)
    # DeepLab's last block is pooled, too.
    assert "block_16_project" not in {g.makers[0].name for g in groups(segmenter(CONFIG.replace(num_labels=21)))}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("hidden_act", ["relu6", "relu"])
def test_the_network_stays_the_same_to_the_last_bit(hidden_act, per_channel) -> None:
    plan, folded, x = network(hidden_act=hidden_act)
    start = unbalanced(plan, folded)
    exponents = find_exponents(plan, start, calibrated(plan, start, x), per_channel)
    assert exponents
    assert all(np.abs(found).max() <= 10 for found in exponents.values())
    before, after = values_of(plan, start, x), values_of(plan, equalize(plan, start, exponents), x)
    for name, value in before.items():
        restored = np.ldexp(after[name], exponents[name]) if name in exponents else after[name]
        np.testing.assert_array_equal(restored, value, err_msg=name)


def test_channels_that_reach_six_keep_their_size() -> None:
    plan, folded, x = network()
    seen = calibrated(plan, folded, x)
    exponents = find_exponents(plan, folded, seen, False)
    changed = 0
    for group in groups(plan):
        if group.relu6 and group.values[0] in exponents:
            (name,), found = group.values, exponents[group.values[0]]
            full = seen.largest[name] >= 6
            assert not found[full].any(), name
            assert (np.ldexp(seen.largest[name], -found)[~full] < 6).all(), name
            changed += np.count_nonzero(found)
    assert changed


def test_channels_of_one_size_come_back() -> None:
    plan, folded, x = network()
    start = unbalanced(plan, folded)
    even = equalize(plan, start, find_exponents(plan, start, calibrated(plan, start, x), False))

    def spread(weights):
        largest = np.abs(weights["block_3_project/kernel"]).max(axis=0)
        return largest.max() / np.median(largest)

    assert spread(start) > 4
    assert spread(even) < 0.5 * spread(start)


def test_channels_without_life_are_left_alone() -> None:
    plan, folded, x = network()
    folded["block_3_expand/kernel"][:, 1] = 0
    folded["block_3_expand/bias"][1] = -5
    exponents = find_exponents(plan, folded, calibrated(plan, folded, x), False)
    assert exponents.get("block_3_expand", np.zeros(9))[1] == 0
    nothing = {name: np.zeros_like(value) for name, value in folded.items()}
    assert find_exponents(plan, nothing, calibrated(plan, nothing, x), False) == {}


def test_the_caller_s_weights_stay() -> None:
    plan, folded, x = network()
    before = {name: value.copy() for name, value in folded.items()}
    equalize(plan, folded, find_exponents(plan, folded, calibrated(plan, folded, x), False))
    assert all(np.array_equal(folded[name], value) for name, value in before.items())
