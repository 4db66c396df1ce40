"""Networks written as ONNX: its own checker accepts them, and onnxruntime computes the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_networks import NETWORKS, assert_close, checkpoint_of, images_for, values_of
from npmnv2.weights_tools.metadata import from_json
from npmnv2.weights_tools.onnx_writer import onnx_bytes, write
from quantized_networks import quantized_checkpoint

from npmnv2 import WeightsError
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.network.plan import IMAGE
from npmnv2.weights_tools import read

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ACTIVATIONS = ("linear", "relu", "leaky_relu", "hardswish", "mish", "sigmoid", "tanh")


def run(data: bytes, x: np.ndarray) -> dict[str, np.ndarray]:
    """Results by name, images as (batch, height, width, channels)."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    results = session.run(None, {IMAGE: x.transpose(0, 3, 1, 2)})
    last = [result.transpose(0, 2, 3, 1) if result.ndim == 4 else result for result in results]
    return {output.name: result for output, result in zip(session.get_outputs(), last, strict=True)}


def check(checkpoint) -> None:
    data = onnx_bytes(checkpoint)
    onnx.checker.check_model(data, full_check=True)
    x = images_for(checkpoint)
    found = run(data, x)
    expected = values_of(checkpoint, x, list(found))
    assert len(found) == (2 if checkpoint.task == "detection" else 1)
    for name, value in expected.items():
        assert_close(found[name], value)


@pytest.mark.parametrize("fields", NETWORKS, ids=str)
def test_onnxruntime_computes_the_same(fields) -> None:
    check(checkpoint_of(**fields))


@pytest.mark.parametrize("task", ["classification", "segmentation", "detection"])
def test_openvino_computes_the_same_in_float32(task) -> None:
    openvino = pytest.importorskip("openvino")
    checkpoint = checkpoint_of(task)
    x = images_for(checkpoint)
    model = openvino.Core().read_model(onnx_bytes(checkpoint))
    # Otherwise it takes shorter floats where the processor has them.
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled({IMAGE: np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
    found = {output.any_name: results[output] for output in compiled.outputs}
    for name, value in values_of(checkpoint, x, list(found)).items():
        assert_close(found[name].transpose(0, 2, 3, 1) if value.ndim == 4 else found[name], value)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation) -> None:
    check(checkpoint_of(hidden_act=activation, image_size=64))


@pytest.mark.parametrize("activation", ["gelu", np.tanh])
def test_other_activations_are_refused_with_the_layer(activation) -> None:
    checkpoint = checkpoint_of()
    with pytest.raises(WeightsError, match=r"Conv1 has .*, which a file for ONNX cannot hold: it takes relu, relu6"):
        onnx_bytes(replace(checkpoint, config=checkpoint.config.replace(hidden_act=activation)))


def test_every_value_has_the_shape_that_it_states() -> None:
    checkpoint = checkpoint_of("segmentation", output_stride=16, decoder=True)
    model = onnx.load_from_string(onnx_bytes(checkpoint))
    stated = {info.name: info for info in model.graph.value_info}
    assert {"block_2_depthwise", "block_16_project", "decoder_resized"} <= set(stated)
    model.graph.output.extend(stated.values())
    x = images_for(checkpoint, batch=1)
    found = run(model.SerializeToString(), x)
    for name, value in values_of(checkpoint, x, list(stated)).items():
        assert_close(found[name], value)
        dims = [dim.dim_value for dim in stated[name].type.tensor_type.shape.dim][1:]
        assert dims == [value.shape[-1], *value.shape[1:-1]]


def test_labels_and_preprocessing_are_in_the_metadata() -> None:
    checkpoint = checkpoint_of()
    session = onnxruntime.InferenceSession(onnx_bytes(checkpoint))
    stated = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(stated["labels"])) == checkpoint.labels
    processor = MobileNetV2ImageProcessor.from_dict(json.loads(stated["preprocessing"]))
    assert processor == MobileNetV2ImageProcessor.from_preprocessing(checkpoint.preprocessing)
    assert from_json(Path("file"), stated["npmnv2"], "npmnv2")["config"].replace(extra={}) == checkpoint.config
    (first,) = session.get_inputs()
    assert (first.name, first.shape) == (IMAGE, ["batch", 3, 96, 96])


def test_an_existing_file_survives_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"old")
    with pytest.raises(WeightsError, match="real numbers"):
        write(quantized_checkpoint("int8"), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"old"
    write(checkpoint_of(), tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    "name",
    [
        "classification/mobilenet_v2_1.0_224_slim_variables.npz",
        "segmentation/deeplabv3.tflite",
        "detection/coco_ssdlite_mobilenet_v2_tfjs",
    ],
)
def test_published_networks(shared_data: Path, name) -> None:
    checkpoint = read(shared_data / "weights" / name)
    data = onnx_bytes(checkpoint)
    onnx.checker.check_model(data, full_check=True)
    x = images_for(checkpoint, batch=1)
    found = run(data, x)
    for name, value in values_of(checkpoint, x, list(found)).items():
        assert_close(found[name], value)
