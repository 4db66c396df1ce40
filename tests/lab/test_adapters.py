"""Every framework on one network: all its layers are seen, and they are those of ours."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from weight_files import random_checkpoint

import npmnv2
from npmnv2 import (
    MissingPackageError,
    MobileNetV2ForImageClassification,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2Model,
)
from npmnv2.lab.adapters.selection import open_side
from npmnv2.network.plan import IMAGE
from npmnv2.weights.native import write_h5
from npmnv2.weights_tools import write

PHOTO = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    checkpoint = random_checkpoint(image_size=64, depth_multiplier=0.35)
    return MobileNetV2ForImageClassification.from_checkpoint(checkpoint, backend="numpy", dtype="float64")


@pytest.fixture(scope="module")
def file(model, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("adapters") / "m.h5"
    write_h5(model.to_checkpoint(), path)
    return str(path)


def check(model, side, missing=()):
    found = npmnv2.compare(model, side, PHOTO)
    assert found.agree, found.verdict
    assert not found.findings
    assert {layer.name for layer in found.layers} >= set(model.plan.endpoints) - set(missing)
    assert all(layer.relative < 2e-5 for layer in found.layers)
    return found


def test_keras(model, file) -> None:
    pytest.importorskip("keras")
    found = check(model, f"{file}@keras")
    assert found.remarks == ("predictions: one side gives probabilities, so those are compared",)
    live = open_side(f"{file}@keras").live
    assert npmnv2.compare(live, model, PHOTO).agree, "its weights are read here, and photos prepared"


def test_nested_keras(model, file) -> None:
    keras = pytest.importorskip("keras")
    inner = open_side(f"{file}@keras").live
    outer = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Rescaling(1.0), inner])
    check(model, outer)


def test_a_keras_model_without_a_graph() -> None:
    keras = pytest.importorskip("keras")

    class Subclassed(keras.Model):
        pass

    with pytest.raises(npmnv2.ArgumentTypeError, match="must be functional or built"):
        open_side(Subclassed())


def test_transformers(model, file) -> None:
    pytest.importorskip("transformers")
    side = open_side(f"{file}@torch")
    check(model, side)
    assert npmnv2.compare(side.live, model, PHOTO).agree


def test_another_torch_module(model, file) -> None:
    """Names that tell nothing: convolution, batch norm and activation in order."""
    pytest.importorskip("transformers")
    from torch import nn

    live = open_side(f"{file}@torch").live

    class Anonymous(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = live

        def forward(self, x):
            return self.net(x).logits

    for name, module in list(live.mobilenet_v2.named_children()):
        live.mobilenet_v2.add_module(name, module)
    found = npmnv2.compare(model, Anonymous().eval(), PHOTO)
    assert found.agree, found.verdict
    assert len(found.layers) > 60


def test_tflite_of_real_numbers(shared_data) -> None:
    pytest.importorskip("ai_edge_litert")
    file = shared_data / "weights" / "segmentation" / "deeplabv3.tflite"
    found = npmnv2.compare(f"{file}@float64", f"{file}@litert", PHOTO)
    assert found.agree, found.verdict
    assert len(found.layers) > 70
    assert found.worst.relative < 1e-4


def test_tflite_of_integers(shared_data) -> None:
    """LiteRT and our integers are equal in every value."""
    pytest.importorskip("ai_edge_litert")
    file = shared_data / "weights" / "classification" / "mobilenet_v2_1.0_224_quant.tflite"
    found = npmnv2.compare(file, f"{file}@litert", PHOTO)
    assert found.agree, found.verdict
    compared = {layer.name: layer for layer in found.layers}
    assert len(compared) > 70
    assert all(layer.steps == 0 for name, layer in compared.items() if name != IMAGE)


def test_frozen_graph(model, tmp_path) -> None:
    tensorflow_graphs = pytest.importorskip("tensorflow_graphs")
    checkpoint = model.to_checkpoint()
    graph, _, _ = tensorflow_graphs.tensorflow_graph(checkpoint, 64, frozen=True)
    path = tmp_path / "frozen.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    found = check(model, f"{path}@tensorflow")
    assert found.other == "frozen.pb (TensorFlow)"
    assert npmnv2.compare(f"{path}@tensorflow", model, PHOTO).agree


TASKS = {
    "classification": (MobileNetV2ForImageClassification, {"image_size": 64}),
    "segmentation": (MobileNetV2ForSemanticSegmentation, {"image_size": 65, "output_stride": 16}),
    "features": (MobileNetV2Model, {"image_size": 64}),
}


@pytest.mark.parametrize(("suffix", "runtime"), [("onnx", "onnxruntime"), ("tflite", "ai_edge_litert")])
@pytest.mark.parametrize("task", TASKS)
def test_files_that_are_written_here(tmp_path, task, suffix, runtime) -> None:
    pytest.importorskip(runtime)
    kind, fields = TASKS[task]
    checkpoint = random_checkpoint(task, depth_multiplier=0.35, **fields)
    path = tmp_path / f"m.{suffix}"
    write(checkpoint, path)
    side = f"{path}@litert" if suffix == "tflite" else str(path)
    found = check(kind.from_checkpoint(checkpoint, backend="numpy", dtype="float64"), side)
    assert found.other == {"onnx": "m.onnx (ONNX Runtime)", "tflite": "m.tflite (LiteRT)"}[suffix]


@pytest.mark.slow
def test_faults_of_live_models(model, file) -> None:
    """Planted in the frameworks' own modules: padding as in PyTorch, an epsilon, an activation, a kernel."""
    keras = pytest.importorskip("keras")
    pytest.importorskip("transformers")
    from torch import nn

    right = open_side(f"{file}@torch").live
    config = copy.deepcopy(right.config)
    config.tf_padding = False
    live = type(right)(config).eval()
    live.load_state_dict(right.state_dict())
    layers = live.mobilenet_v2.layer
    layers[4].reduce_1x1.activation = nn.ReLU6()
    layers[6].conv_3x3.convolution.weight.data = layers[6].conv_3x3.convolution.weight.data.transpose(2, 3)
    layers[9].expand_1x1.normalization.eps = 1e-5
    found = {(f.fault, f.layer) for f in npmnv2.compare(model, live, PHOTO).findings}
    strided = ("Conv1", *(f"block_{i}_depthwise" for i in (1, 3, 6, 13)))
    assert found == {
        *(("padding", layer) for layer in strided),
        ("activation", "block_5_project"),
        ("kernel_transposed", "block_7_depthwise"),
        ("epsilon", "block_10_expand"),
    }

    other = open_side(f"{file}@keras").live
    other.get_layer("block_3_depthwise_BN").epsilon = 1e-2
    first = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Rescaling(0.5, 0.5), other])
    names = {(f.fault, f.layer) for f in npmnv2.compare(model, first, PHOTO).findings}
    assert names == {("input_scale", IMAGE), ("epsilon", "block_3_depthwise")}


@pytest.mark.parametrize(
    ("module", "package", "side"),
    [
        ("keras", "keras", "m.h5@keras"),
        ("transformers", "transformers", "m.h5@torch"),
        ("ai_edge_litert.interpreter", "ai-edge-litert", "m.h5@litert"),
        ("onnxruntime", "onnxruntime", "m.h5@onnxruntime"),
        ("tensorflow", "tensorflow", "m.h5@tensorflow"),
    ],
)
def test_frameworks_are_imported_when_used(monkeypatch, file, module, package, side) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingPackageError, match=f"pip install {package}"):
        open_side(file.replace("m.h5", side))
