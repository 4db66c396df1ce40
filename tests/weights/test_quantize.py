"""From float weights and ranges to integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from npmnv2.kernels.quantized import dequantize, quantize

from npmnv2.errors import ArgumentError
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.layers import AveragePool
from npmnv2.weights.checkpoint import fold_batch_norms
from npmnv2.weights.quantize import kernel_quantization, quantize_network, value_quantization

numbers = st.floats(-1000, 1000, width=32)


@given(numbers, numbers, st.sampled_from(["uint8", "int8"]), st.floats(0, 1))
def test_every_number_in_the_range_is_half_a_step_away_at_most(a, b, dtype, share) -> None:
    low, high = min(a, b), max(a, b)
    q = value_quantization(low, high, dtype)
    assert dequantize(quantize(np.zeros(1), q), q) == 0
    x = np.array([low + share * (high - low)], np.float32)
    # 0 is moved to a whole step, so an end may be half a step outside.
    assert abs(dequantize(quantize(x, q), q) - x)[0] <= 1.001 * q.scale[0]


@given(arrays.arrays(np.float32, (3, 3, 4), elements=st.floats(-8, 8, width=32)))
def test_int8_kernels_fill_the_narrow_range_of_every_channel(kernel) -> None:
    q = kernel_quantization(kernel, "int8")
    assert (len(q.scale), q.zero_point) == (4, 0)
    steps = np.abs(kernel).max((0, 1)) / q.scales
    assert steps.max() <= 127.001
    assert all(s == pytest.approx(127, rel=1e-5) or np.abs(kernel[..., c]).max() < 2e-6 for c, s in enumerate(steps))


@given(arrays.arrays(np.float32, (3, 3, 4), elements=st.floats(-8, 8, width=32)))
def test_uint8_kernels_have_one_scale(kernel) -> None:
    q = kernel_quantization(kernel, "uint8")
    assert len(q.scale) == 1
    assert 1 <= q.zero_point <= 255


def test_a_channel_without_weights_leaves_room_for_its_bias() -> None:
    config = MobileNetV2Config(depth_multiplier=0.05, num_labels=3)
    plan = classifier(config)
    folded = {}
    for name, shape in plan.parameter_shapes().items():
        if name.endswith("/kernel"):
            matrix = shape[2:] if shape[:2] == (1, 1) else shape[:-1] if shape[-1] == 1 else shape
            folded[name] = np.ones(matrix, np.float32)
            folded[name.replace("kernel", "bias")] = np.ones(shape[2] if shape[-1] == 1 else shape[-1], np.float32)
    folded["Conv1/kernel"][..., 0] = 0
    ranges = dict.fromkeys(["image", *(part.name for part in plan.parts())], (0.0, 6.0))
    weights, quantization = quantize_network(plan, folded, ranges)
    unit = quantization.values["image"].scale[0] * quantization.kernels["Conv1"].scales
    assert np.abs(weights["Conv1/bias"]).max() <= 2**29 + 1
    assert weights["Conv1/bias"] * unit == pytest.approx(1, rel=1e-4)


def test_unknown_type() -> None:
    with pytest.raises(ArgumentError, match="dtype"):
        quantize_network(classifier(MobileNetV2Config()), {}, {}, "int4")


def test_a_pool_keeps_the_scale_of_its_input() -> None:
    """It only averages, so LiteRT gives its result the input's scale, whatever the range that was seen."""
    plan = classifier(MobileNetV2Config(depth_multiplier=0.05, image_size=64, pooling_window=2, num_labels=3))
    ranges = {name: (0.0, 1.0 + n) for n, name in enumerate(["image", *(part.name for part in plan.parts())])}
    _, quantization = quantize_network(plan, fold_batch_norms(plan, unit_gain_weights(plan)), ranges)
    (pool,) = (part for part in plan.parts() if isinstance(part.layer, AveragePool))
    kept, given = quantization.values[pool.name], quantization.values[pool.inputs[0]]
    assert (kept.scale, kept.zero_point) == (given.scale, given.zero_point)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_corrected_biases_take_off_what_rounding_adds_on_average(dtype) -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=0.1, image_size=64, num_labels=3))
    folded = fold_batch_norms(plan, unit_gain_weights(plan))
    names = ["image", *(part.name for part in plan.parts())]
    ranges = dict.fromkeys(names, (-6.0, 6.0))
    rng = np.random.default_rng(0)
    means = {part.name: rng.uniform(0, 3, len(folded[f"{part.name}/bias"])) for part in plan.parts()
             if f"{part.name}/bias" in folded}  # fmt: skip
    means |= {"image": rng.uniform(0, 1, 3)}
    for part in plan.parts():
        means.setdefault(part.name, means.get(part.inputs[0]))
    means["block_2_add"] = means["block_2_project"]
    plain, quantization = quantize_network(plan, folded, ranges, dtype)
    weights, corrected = quantize_network(plan, folded, ranges, dtype, means=means)
    assert corrected == quantization
    for name, source in (("Conv1", "image"), ("block_3_depthwise", "block_3_expand"), ("predictions", "Conv_1")):
        assert np.array_equal(weights[f"{name}/kernel"], plain[f"{name}/kernel"])
        q = quantization.kernels[name]
        unit = quantization.values[source].scale[0] * q.scales.astype(float)
        # A constant input of the mean size shows what rounding adds.
        integers = weights[f"{name}/kernel"]
        is_depthwise = name.endswith("depthwise")
        kernel = q.centered(integers[..., 0] if is_depthwise else integers, np.float64) * q.scales
        exact, found = (
            k.sum((0, 1)) * means[source] if is_depthwise else means[source] @ k.reshape(-1, *k.shape[-2:]).sum(0)
            for k in (folded[f"{name}/kernel"], kernel)
        )
        wanted = exact + folded[f"{name}/bias"]
        np.testing.assert_allclose(found + weights[f"{name}/bias"] * unit, wanted, rtol=0, atol=0.51 * unit.max())
        assert np.abs(found + plain[f"{name}/bias"] * unit - wanted).max() > unit.max()
