"""Quantized networks written as TFLite: LiteRT runs them to the same bits, and the reader finds the same integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from npmnv2.weights_tools.tflite_writer import tflite_bytes, write
from quantized_networks import integer_image, quantized_checkpoint
from tflite_ops import ARITHMETICS, run

import npmnv2
from npmnv2.errors import ArgumentError
from npmnv2.kernels import TensorQuantization
from npmnv2.network.quantization import ArgMax, Dequantize, Requantize, Resize
from npmnv2.weights_tools import read

NETWORKS = [
    {"dtype": "uint8"},
    {"dtype": "int8"},
    {"dtype": "int8", "size": 65},
    {"dtype": "uint8", "pooling": "mean", "output_stride": 8},
    {"dtype": "int8", "pooling": "average_pool", "output_stride": 16},
    {"dtype": "int8", "tf_padding": False},
    {"dtype": "uint8", "first_layer_is_expansion": False},
    {"dtype": "int8", "hidden_act": "relu"},
    {"dtype": "uint8", "task": "segmentation", "output_stride": 16},
    {"dtype": "int8", "task": "segmentation", "output_stride": 8, "atrous_rates": (2, 3)},
    {"dtype": "int8", "task": "segmentation", "output_stride": 16, "decoder": True},
]


def with_steps(checkpoint, *steps, **changes):
    quantization = checkpoint.quantization
    interface = replace(quantization.interface, steps=(*quantization.interface.steps, *steps), **changes)
    return replace(checkpoint, quantization=replace(quantization, interface=interface))


@pytest.mark.parametrize("fields", NETWORKS, ids=str)
def test_litert_and_the_reader_find_the_same_integers(tmp_path: Path, fields) -> None:
    checkpoint = quantized_checkpoint(seed=3, **fields)
    write(checkpoint, tmp_path / "model.tflite")
    found = read(tmp_path / "model.tflite")
    assert found.quantization == checkpoint.quantization
    assert found.task == checkpoint.task
    for name, value in checkpoint.weights.items():
        assert np.array_equal(found.weights[name], value), name
        assert found.weights[name].dtype == value.dtype
    x = integer_image(checkpoint.quantization.interface.input, checkpoint.quantization.interface.shape, seed=1)
    for arithmetic in ARITHMETICS:
        (expected,) = run(str(tmp_path / "model.tflite"), arithmetic, x)
        result = npmnv2.load(tmp_path / "model.tflite", arithmetic=arithmetic).invoke(x)
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
        assert np.count_nonzero(result != expected) == 0, arithmetic
        assert result.min() < result.max()


@pytest.mark.parametrize(
    ("dtype", "task", "steps", "changes"),
    [
        ("int8", "classification", [Requantize(TensorQuantization((1 / 256,), 0))], {}),
        ("int8", "classification", [Dequantize()], {"input": None}),
        ("int8", "classification", [], {"input": TensorQuantization((1 / 128,), 128)}),
        ("uint8", "segmentation", [Resize((64, 64), "tf1_align_corners"), ArgMax()], {}),
        ("int8", "segmentation", [Resize((64, 64), "half_pixel"), ArgMax("int32")], {}),
    ],
    ids=str,
)
def test_interfaces(tmp_path: Path, dtype, task, steps, changes) -> None:
    checkpoint = with_steps(quantized_checkpoint(dtype, task=task, output_stride=16), *steps, **changes)
    write(checkpoint, tmp_path / "model.tflite")
    interface = checkpoint.quantization.interface
    assert read(tmp_path / "model.tflite").quantization.interface == interface
    if interface.input is None:
        x = np.random.default_rng(0).uniform(-1, 1, interface.shape).astype(np.float32)
    else:
        x = integer_image(interface.input, interface.shape)
    for arithmetic in ARITHMETICS:
        (expected,) = run(str(tmp_path / "model.tflite"), arithmetic, x)
        result = npmnv2.load(tmp_path / "model.tflite", arithmetic=arithmetic).invoke(x)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


def test_the_published_file_survives(shared_data: Path, tmp_path: Path) -> None:
    original = read(shared_data / "weights" / "classification" / "tf2_mobilenet_v2_1.0_224_ptq.tflite")
    write(original, tmp_path / "model.tflite")
    found = read(tmp_path / "model.tflite")
    assert found.quantization == original.quantization
    assert all(np.array_equal(found.weights[name], value) for name, value in original.weights.items())


def test_a_quantized_network_without_interface_is_refused() -> None:
    checkpoint = quantized_checkpoint("int8")
    with pytest.raises(ArgumentError, match="must have an interface"):
        tflite_bytes(replace(checkpoint, quantization=replace(checkpoint.quantization, interface=None)))
