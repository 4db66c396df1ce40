"""Quantized networks in real numbers: their weights, the formats that hold them, and what LiteRT makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bounds import assert_within
from quantized_networks import integer_image, quantized_checkpoint
from weight_files import random_checkpoint

from npmnv2 import WeightsError, load
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.cli.main import main
from npmnv2.errors import ArgumentError
from npmnv2.kernels import quantized
from npmnv2.lab.numerics import gamma
from npmnv2.network.layers import Conv, Dense, Depthwise, GlobalAveragePool
from npmnv2.network.plan import IMAGE
from npmnv2.network.quantization import value_parts
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.checkpoint import check_weights, fold_batch_norms
from npmnv2.weights_tools import convert, dequantized, read, tflite_bytes, write

TARGETS = {
    "native": "a.h5",
    "keras": "a.h5",
    "npz": "a.npz",
    "tflite": "a.tflite",
    "onnx": "a.onnx",
    "transformers": "a",
}


@pytest.fixture(scope="module", params=["uint8", "int8"])
def checkpoint(request):
    return quantized_checkpoint(request.param, depth_multiplier=0.35)


@pytest.fixture(scope="module")
def plan(checkpoint):
    return plan_for(checkpoint.config, checkpoint.weights)


def test_weights_are_the_numbers_that_integers_stand_for(checkpoint, plan) -> None:
    real, before = dequantized(checkpoint), dict(checkpoint.weights)
    assert real.quantization is None
    check_weights(plan, real.weights)
    values, kernels = checkpoint.quantization.values, checkpoint.quantization.kernels
    for name, source in (("Conv1", IMAGE), ("expanded_conv_depthwise", "Conv1"), ("Conv_1", "block_16_project")):
        q, scales = before[f"{name}/kernel"], np.array(kernels[name].scale)
        channels = scales.reshape(-1, 1) if name.endswith("depthwise") else scales
        expected = (q.astype(np.float64) - kernels[name].zero_point) * channels
        np.testing.assert_allclose(real.weights[f"{name}/kernel"], expected, rtol=2**-23, atol=0)
        expected = before[f"{name}/bias"] * (values[source].scale[0] * scales)
        np.testing.assert_allclose(real.weights[f"{name}/bias"], expected, rtol=2**-23, atol=0)
    assert checkpoint.weights == before, "nothing is changed in place"


@pytest.mark.parametrize("to", TARGETS)
def test_every_format_holds_them(checkpoint, plan, to, tmp_path: Path) -> None:
    write(checkpoint, tmp_path / "quantized.tflite")
    written = convert(tmp_path / "quantized.tflite", tmp_path / TARGETS[to], to=to, dequantize=True)
    expected = fold_batch_norms(plan, dequantized(checkpoint).weights)
    assert written.quantization is None
    if to == "onnx":  # written only
        assert (tmp_path / TARGETS[to]).stat().st_size > sum(array.nbytes for array in expected.values())
        return
    found = fold_batch_norms(plan, read(tmp_path / TARGETS[to]).weights)
    assert list(found) == list(expected)
    for name, array in expected.items():
        # Formats with batch norms get one whose γ/√(σ²+ε) is 1 up to rounding.
        np.testing.assert_allclose(found[name], array, rtol=2**-23, atol=0)
    assert load(tmp_path / TARGETS[to]).quantization is None


def test_classes_can_be_changed_then(tmp_path: Path) -> None:
    write(quantized_checkpoint(depth_multiplier=0.35, num_labels=1001), tmp_path / "quantized.tflite")
    with pytest.raises(ArgumentError, match="that stays one"):
        convert(tmp_path / "quantized.tflite", tmp_path / "a.h5", num_classes=1000)
    written = convert(tmp_path / "quantized.tflite", tmp_path / "a.h5", num_classes=1000, dequantize=True)
    assert written.weights["predictions/bias"].shape == (1000,)


def test_litert_computes_every_layer_of_them_within_its_bound(checkpoint, plan) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        model_content=tflite_bytes(dequantized(checkpoint), every_value=True)
    )
    image = checkpoint.quantization.values[IMAGE]
    x = quantized.dequantize(integer_image(image, (1, 64, 64, 3)), image)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    values = {each["name"]: interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()}
    values[IMAGE] = x
    weights = fold_batch_norms(plan, dequantized(checkpoint).weights, np.float64)
    exact = NumpyExecutable(plan, weights)
    magnitude = NumpyExecutable(plan, {name: np.abs(array) for name, array in weights.items()})
    for part in value_parts(plan):
        # LiteRT's own inputs: errors of earlier layers are those layers' affair. Sums in any order stay within this.
        inputs = [values[name].astype(np.float64) for name in part.inputs]
        linear = replace(part.layer, activation="linear") if isinstance(part.layer, (Conv, Depthwise)) else part.layer
        absolute = magnitude.compute(part._replace(layer=linear), *map(np.abs, inputs))
        terms = 1
        if isinstance(part.layer, (Conv, Depthwise, Dense)):
            terms = weights[f"{part.name}/kernel"].size // absolute.shape[-1]
        elif isinstance(part.layer, GlobalAveragePool):
            terms = inputs[0].shape[1] * inputs[0].shape[2]
        assert_within(values[part.name], exact.compute(part, *inputs), gamma(terms + 2) * absolute, part.name)


def test_only_quantized_networks_are_dequantized(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="must be quantized to be dequantized"):
        dequantized(random_checkpoint("classification", image_size=64))


def test_the_command_names_the_option(tmp_path: Path, capsys) -> None:
    write(quantized_checkpoint(depth_multiplier=0.35), tmp_path / "quantized.tflite")
    command = ["convert", str(tmp_path / "quantized.tflite"), str(tmp_path / "keras.h5"), "--to", "keras"]
    assert main(command) == 1
    assert "must be native or tflite for a quantized network" in (told := capsys.readouterr().err)
    assert "--dequantize" in told
    assert not (tmp_path / "keras.h5").exists()
    assert main([*command, "--dequantize"]) == 0
    assert read(tmp_path / "keras.h5").quantization is None
    with pytest.raises(WeightsError):
        write(read(tmp_path / "quantized.tflite"), tmp_path / "again.h5", "keras")
