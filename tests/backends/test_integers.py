"""Quantized networks on NumPy, part by part. Real ones stand beside LiteRT in tests/models/test_against_litert.py."""

from __future__ import annotations

import numpy as np
import pytest
from quantized_networks import integer_image, quantized_checkpoint
from tflite_ops import ARITHMETICS

from npmnv2.backends.integers import FakeQuantExecutable, IntegerExecutable, QuantizedBackend
from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.kernels import quantized
from npmnv2.network.quantization import value_parts
from npmnv2.weights.assemble import plan_for


def compiled(checkpoint, arithmetic):
    plan = plan_for(checkpoint.config, checkpoint.weights)
    return QuantizedBackend(checkpoint.quantization, arithmetic).compile(plan, checkpoint.weights)


@pytest.fixture(scope="module", params=["uint8", "int8"])
def checkpoint(request):
    return quantized_checkpoint(request.param)


@pytest.fixture(scope="module")
def image(checkpoint):
    q = checkpoint.quantization.values["image"]
    return quantized.dequantize(integer_image(q, (2, 64, 64, 3)), q)


def test_fake_quantization_stays_within_few_steps_of_integers(checkpoint, image) -> None:
    integers, floats = compiled(checkpoint, "xnnpack"), compiled(checkpoint, "fakequant")
    assert isinstance(floats, FakeQuantExecutable)
    names = [part.name for part in value_parts(integers.plan)]
    exact, simulated = integers(image, names), floats(image, names)
    for name in names:
        step = checkpoint.quantization.values[name].scale[0]
        assert exact[name].dtype == simulated[name].dtype == np.float32
        # The roundings differ in ties alone, but a difference may grow along the way.
        assert np.abs(exact[name] - simulated[name]).mean() <= 0.5 * step, name
        steps = simulated[name] / np.float32(step)
        assert np.abs(steps - np.rint(steps)).max() <= 1e-3, name
    first = checkpoint.quantization.values["Conv1"].scale[0]
    assert np.abs(exact["Conv1"] - simulated["Conv1"]).max() <= 1.001 * first


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_one_image_and_several(checkpoint, image, arithmetic) -> None:
    executable = compiled(checkpoint, arithmetic)
    both = executable(image, ["predictions", "block_3"])
    for at in range(2):
        alone = executable(image[at : at + 1], ["predictions", "block_3"])
        for name, value in alone.items():
            assert np.array_equal(value[0], both[name][at])


def test_integers_and_real_numbers_agree(checkpoint, image) -> None:
    executable = compiled(checkpoint, "xnnpack")
    assert isinstance(executable, IntegerExecutable)
    names = ["Conv1", "block_2", "layer_4/expansion_output", "predictions"]
    raw, real = executable.raw(image, names), executable(image, names)
    assert list(raw) == names
    for name in names:
        q = executable.values[executable.plan.resolve(name)]
        assert raw[name].dtype == q.dtype
        assert np.array_equal(quantized.dequantize(raw[name], q), real[name])


def test_profile_names_every_node(checkpoint, image) -> None:
    executable = compiled(checkpoint, "xnnpack")
    timings = executable.profile(image, ["predictions"])
    assert [timing.name for timing in timings] == [node.name for node in executable.plan.nodes]


def test_unknown_arithmetic(checkpoint) -> None:
    with pytest.raises(ArgumentError, match=r"arithmetic \(='tflite'\) must be one of xnnpack, reference, fakequant"):
        QuantizedBackend(checkpoint.quantization, "tflite")


def test_invoke_refuses_other_inputs(checkpoint) -> None:
    executable = compiled(checkpoint, "xnnpack")
    dtype = checkpoint.quantization.values["image"].dtype
    with pytest.raises(ArgumentTypeError, match=f"x must be an array of {dtype}, as the file's input is, got float32"):
        executable.invoke(np.zeros((1, 64, 64, 3), np.float32))
    with pytest.raises(ArgumentError, match=r"x must have the file's shape \(N, 64, 64, 3\), got \(1, 63, 64, 3\)"):
        executable.invoke(np.zeros((1, 63, 64, 3), dtype))
