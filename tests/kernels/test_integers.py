"""The compiled integer kernels: bit for bit the definitions, on every kind of processor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import geometries

pytest.importorskip("numba")

from npmnv2.kernels.device.integers.product import make_multiply_bytes
from npmnv2.kernels.device.probe import host_features, host_target
from npmnv2.kernels.host.integers import depthwise, pointwise
from npmnv2.kernels.host.target import Target
from npmnv2.kernels.quantized import TensorQuantization

from npmnv2.kernels import Geometry, quantized

# This processor, with what it has and without; narrower vectors; those of a processor with few registers.
TARGETS = {
    target.name: target
    for target in (
        host_target()._replace(features=host_features()),
        host_target(),
        Target(8, 32, host_features()),
        Target(8, 16),
        Target(4, 32),
    )
}


def _case(seed: int, pixels: int, inputs: int, outputs: int, dtype: str, activation: str):
    """Weights, quantization and pixels that fill the whole range of their types."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, (pixels, inputs), endpoint=True).astype(dtype)
    low = 1 if dtype == "uint8" else -127
    kernel = rng.integers(low, info.max, (inputs, outputs), endpoint=True).astype(dtype)
    bias = rng.integers(-(10**4), 10**4, outputs).astype(np.int32)
    per_channel = outputs if dtype == "int8" else 1
    scales = tuple(float(s) for s in rng.uniform(0.001, 0.02, per_channel).astype(np.float32))
    source = TensorQuantization((float(np.float32(0.0235)),), int(rng.integers(info.min, info.max)), dtype)
    zero = int(rng.integers(90, 170)) if dtype == "uint8" else 0
    filters = TensorQuantization(scales, zero, dtype)
    size = float(np.float32(0.02 * inputs**0.5 * 1.1))
    output = TensorQuantization((size,), int(rng.integers(info.min, info.max)), dtype, activation)
    return x, kernel, bias, (source, filters, output)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 30),
    st.sampled_from([1, 3, 4, 7, 24, 65, 130]),
    st.sampled_from([1, 8, 24, 33, 70]),
    st.sampled_from(["uint8", "int8"]),
    st.sampled_from(["linear", "relu", "relu6"]),
)
def test_pointwise_has_the_bits_of_the_definition(
    name: str, seed: int, pixels: int, inputs: int, outputs: int, dtype: str, activation: str
) -> None:
    x, kernel, bias, quantization = _case(seed, pixels, inputs, outputs, dtype, activation)
    expected = quantized.conv(x, kernel, bias, Geometry(), quantization, "xnnpack")
    comp = pointwise(x, kernel, bias, quantization, TARGETS[name])
    assert comp.dtype == expected.dtype
    np.testing.assert_array_equal(comp, expected)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=25)
@given(data=st.data())
def test_depthwise_has_the_bits_of_the_definition(name: str, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 20))
    channels, dtype = data.draw(st.sampled_from([1, 8, 17, 40])), data.draw(st.sampled_from(["uint8", "int8"]))
    activation, seed = data.draw(st.sampled_from(["linear", "relu6"])), data.draw(st.integers(0, 2**32 - 1))
    geometry = data.draw(geometries(height, width, 3))
    _, kernel, bias, quantization = _case(seed, 1, 9, channels, dtype, activation)
    x = _case(seed, height * width, channels, 1, dtype, activation)[0].reshape(height, width, channels)
    filters = kernel.reshape(3, 3, channels)
    expected = quantized.depthwise(x[None], filters, bias, geometry, quantization, "xnnpack")[0]
    comp = depthwise(x, filters, bias, geometry, quantization, TARGETS[name])
    assert comp.dtype == expected.dtype
    np.testing.assert_array_equal(comp, expected)


@pytest.mark.parametrize("name", TARGETS)
def test_features_choose_the_instruction(name: str) -> None:
    target, multiply = TARGETS[name], make_multiply_bytes(TARGETS[name])
    pointwise(*_case(0, 1, 4, 8, "int8", "linear"), target)
    assembly = "".join(multiply.inspect_asm().values())
    short = {"avxvnni"} <= target.features or {"avx512vnni", "avx512vl"} <= target.features
    expected = "avx512vnni" in target.features if target.lanes == 16 else short
    assert ("vpdpbusd" in assembly) == expected
