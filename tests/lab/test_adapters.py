"""Every framework on one network: all its layers are seen, and they are those of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from weight_files import random_checkpoint

import npmnv2
from npmnv2 import MissingPackageError, MobileNetV2ForImageClassification
from npmnv2.lab.adapters.selection import open_side
from npmnv2.network.plan import IMAGE
from npmnv2.weights.native import write_h5

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


def onnx_file(model, path: Path, monkeypatch) -> str:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    root = Path(__file__).parents[2]
    if not (root / "benchmarks").is_dir():
        pytest.skip("needs the repository")
    monkeypatch.syspath_prepend(root / "benchmarks")
    from network import Network
    from runtimes import onnx_graph

    net = Network("test", model.config, model.plan, 64)
    shapes = model.plan.parameter_shapes()
    from npmnv2.weights.checkpoint import fold_batch_norms

    folded = fold_batch_norms(model.plan, model.weights)
    weights = {name: value.reshape(shapes.get(name, value.shape)) for name, value in folded.items()}
    path.write_bytes(onnx_graph.build(net, weights, 1))
    return str(path)


def test_onnx(model, tmp_path, monkeypatch) -> None:
    file = onnx_file(model, tmp_path / "m.onnx", monkeypatch)
    found = check(model, file, missing=("predictions",))
    assert found.other == "m.onnx (ONNX Runtime)"


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
