"""Quantization as data: what it says, what it refuses, and that JSON keeps it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from quantized_networks import quantized_checkpoint

from npmnv2 import WeightsError
from npmnv2.kernels import TensorQuantization
from npmnv2.network.architecture import classifier
from npmnv2.network.quantization import (
    ArgMax,
    Dequantize,
    Interface,
    Quantization,
    Requantize,
    Reshape,
    Resize,
    Softmax,
    check_quantization,
    quantization_table,
    value_parts,
)


@pytest.fixture(scope="module")
def checkpoint():
    return quantized_checkpoint()


@pytest.fixture(scope="module")
def plan(checkpoint):
    return classifier(checkpoint.config)


def test_every_value_is_named_by_the_part_that_makes_it(plan) -> None:
    parts = list(value_parts(plan))
    names = {"image", *(part.name for part in parts)}
    assert {name for part in parts for name in part.inputs} <= names
    assert next(part for part in parts if part.name == "block_2_add").inputs == ("block_2_project", "block_1_project")


def test_json_keeps_everything(checkpoint) -> None:
    out = TensorQuantization((1 / 256,), -128, "int8")
    steps = (
        Reshape((1, 3)),
        Softmax(out, 0.5),
        Requantize(TensorQuantization((1 / 256,), 0)),
        Resize((4, 5), "tf1_align_corners"),
        ArgMax("int32"),
        Dequantize(),
    )
    for interface in (None, Interface((1, 64, 64, 3), None), Interface((1, 64, 64, 3), out, steps)):
        quantization = replace(checkpoint.quantization, interface=interface, pooling="mean")
        assert Quantization.from_json(json.loads(json.dumps(quantization.to_json()))) == quantization


def test_json_keeps_the_bits_of_scales() -> None:
    scales = np.random.default_rng(0).uniform(1e-6, 1, 1000).astype(np.float32)
    q = TensorQuantization(tuple(scales.tolist()), 0, "int8")
    quantization = Quantization({}, {"layer": q})
    assert Quantization.from_json(json.loads(json.dumps(quantization.to_json()))).kernels["layer"] == q


@pytest.mark.parametrize(
    ("which", "name", "changes", "problem"),
    [
        ("values", "block_3_expand", {"scale": (0.0,)}, "block_3_expand has the scale 0.0"),
        ("values", "block_3_expand", {"scale": (float("nan"),)}, "block_3_expand has the scale nan"),
        ("values", "block_3_expand", {"scale": (float("inf"),)}, "block_3_expand has the scale inf"),
        ("values", "block_3_expand", {"scale": (-1.0,)}, "block_3_expand has the scale -1.0"),
        ("values", "image", {"scale": (1e38,)}, "Conv1 multiplies its sums by up to"),
        ("values", "block_3_expand", {"scale": (1e38,)}, "block_3_expand multiplies its sums by up to"),
        ("values", "block_2_add", {"scale": (1e-38,)}, "block_2_add has the scale 1e-38 for inputs of"),
        ("values", "Conv1", {"zero_point": 300}, "Conv1 has the zero point 300, which uint8 cannot hold"),
        ("values", "Conv1", {"zero_point": -1}, "Conv1 has the zero point -1, which uint8 cannot hold"),
        ("values", "Conv1", {"scale": (0.1, 0.2)}, "Conv1 has 2 scales, only kernels"),
        ("values", "Conv1", {"dtype": "int8", "zero_point": 0}, "Conv1 mixes int8 and uint8"),
        ("kernels", "Conv1", {"scale": (0.1,) * 5}, "the kernel of Conv1 has 5 scales for 8 channels"),
        ("kernels", "Conv1", {"dtype": "int8", "zero_point": 0}, "Conv1 has a uint8 kernel, a int32 bias"),
    ],
)
def test_impossible_numbers_are_named(checkpoint, plan, which, name, changes, problem) -> None:
    table = dict(getattr(checkpoint.quantization, which))
    table[name] = replace(table[name], **changes)
    with pytest.raises(WeightsError) as caught:
        check_quantization(plan, checkpoint.weights, replace(checkpoint.quantization, **{which: table}), "a.tflite")
    assert problem in str(caught.value)
    assert str(caught.value).startswith("a.tflite: cannot be run in integers: ")


def test_what_is_missing_is_named(checkpoint, plan) -> None:
    values = {name: q for name, q in checkpoint.quantization.values.items() if name != "Conv1"}
    with pytest.raises(WeightsError, match="Conv1 has no quantization"):
        check_quantization(plan, checkpoint.weights, replace(checkpoint.quantization, values=values))
    with pytest.raises(WeightsError, match="the kernel of Conv1 has no quantization"):
        check_quantization(plan, checkpoint.weights, replace(checkpoint.quantization, kernels={}))
    with pytest.raises(WeightsError, match="pooling"):
        check_quantization(plan, checkpoint.weights, replace(checkpoint.quantization, pooling="max"))


def test_sums_beyond_int32_are_refused(checkpoint, plan) -> None:
    bias = np.full(checkpoint.weights["Conv1/bias"].shape, 2**31 - 1000, np.int32)
    with pytest.raises(WeightsError, match=r"the sums of Conv1 can reach \d+, beyond int32"):
        check_quantization(plan, {**checkpoint.weights, "Conv1/bias": bias}, checkpoint.quantization)


@pytest.mark.parametrize(
    ("exponents", "problem"),
    [
        ({"block_3_expand": (1, 2)}, "block_3_expand has 2 exponents for 16 channels"),
        (
            {"block_3_expand": (0,) * 15 + (-99,)},
            "block_3_expand has the exponent -99, exponents must be from −64 to 64",
        ),
        ({"nowhere": (1,)}, "nowhere has 1 exponents for 0 channels"),
    ],
)
def test_impossible_exponents(checkpoint, plan, exponents, problem) -> None:
    with pytest.raises(WeightsError, match=problem):
        check_quantization(plan, checkpoint.weights, replace(checkpoint.quantization, exponents=exponents))


def test_json_keeps_exponents(checkpoint) -> None:
    quantization = replace(checkpoint.quantization, exponents={"Conv1": (0, -3, 2)})
    assert Quantization.from_json(json.loads(json.dumps(quantization.to_json()))) == quantization


def test_real_numbers_are_no_weights(checkpoint, plan) -> None:
    weights = {name: value.astype(np.float32) for name, value in checkpoint.weights.items()}
    with pytest.raises(WeightsError, match="Conv1 has a float32 kernel"):
        check_quantization(plan, weights, checkpoint.quantization)


def test_int8_kernels_must_be_symmetric() -> None:
    checkpoint = quantized_checkpoint(dtype="int8")
    kernels = dict(checkpoint.quantization.kernels)
    kernels["Conv1"] = replace(kernels["Conv1"], zero_point=3)
    with pytest.raises(WeightsError, match="zero point 3, int8 kernels must have 0"):
        check_quantization(
            classifier(checkpoint.config), checkpoint.weights, replace(checkpoint.quantization, kernels=kernels)
        )


def test_table(checkpoint, plan) -> None:
    lines = quantization_table(plan, checkpoint.quantization).splitlines()
    assert len(lines) == 2 + len(list(plan.parts()))
    assert lines[1].split()[:4] == ["image", "uint8", "0.00781250", "128"]
    assert "-1.0000 …    0.9922" in lines[1]
