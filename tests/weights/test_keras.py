"""Keras's four HDF5 layouts, written by h5py."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from npmnv2 import WeightsError
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.native import read_h5


def _same_arrays(a, b) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def _write(file: h5py.File, weights, layout: str) -> None:
    numbers: dict[str, int] = {}
    for name, array in weights.items():
        layer, variable = name.split("/")
        if layout == "keras 3 weights":
            norm = "beta" in "".join(n for n in weights if n.startswith(layer + "/"))
            kind = "batch_normalization" if norm else "depthwise_conv2d" if "depthwise" in layer else "conv2d"
            kind = "dense" if layer == "predictions" else kind
            if layer not in numbers:
                count = sum(1 for known in numbers if known.startswith(f"{kind}:"))
                numbers[layer] = count
                numbers[f"{kind}:{layer}"] = count
            group = file.require_group(f"layers/{kind}_{numbers[layer]}/vars")
            group.attrs["name"] = layer
            order = ["gamma", "beta", "moving_mean", "moving_variance"] if norm else ["kernel", "bias"]
            group[str(order.index(variable))] = array
            continue
        if layout.startswith("keras 2"):
            variable = ("depthwise_kernel" if layer.endswith("depthwise") else variable) + ":0"
        nested = layout.endswith("nested")
        inside = layer if nested and layer != "predictions" else f"{layer}/{layer}"
        base = "model_weights/" + ("mobilenetv2_0.35_96/" if nested and layer != "predictions" else "")
        file[f"{base}{inside}/{variable}"] = array
        file.require_group("model_weights/top_level_model_weights")
        file.require_group("optimizer_weights/adam")


@pytest.mark.parametrize("layout", ["keras 2", "keras 2 nested", "keras 3", "keras 3 nested", "keras 3 weights"])
def test_keras_layouts_are_read_by_name(tmp_path: Path, checkpoint: Checkpoint, layout: str) -> None:
    with h5py.File(tmp_path / "k.h5", "w") as file:
        _write(file, checkpoint.weights, layout)
        if not layout.endswith("weights"):
            file["optimizer_weights/adam/Conv1_kernel_momentum/kernel"] = np.zeros(3, "f4")
    read = read_h5(tmp_path / "k.h5")
    assert all(np.array_equal(read.weights[k], v) for k, v in checkpoint.weights.items())
    assert (read.task, read.config.depth_multiplier, read.config.num_labels) == ("classification", 0.35, 3)


@pytest.mark.parametrize("name", ["Logits", "dense_7", "breed"])
def test_the_classifier_may_have_any_name(tmp_path: Path, checkpoint: Checkpoint, name: str) -> None:
    renamed = {k.replace("predictions/", f"{name}/"): v for k, v in checkpoint.weights.items()}
    with h5py.File(tmp_path / "k.h5", "w") as file:
        for key, array in renamed.items():
            file[f"{key.split('/')[0]}/{key}"] = array
    assert _same_arrays(read_h5(tmp_path / "k.h5").weights, checkpoint.weights)


def test_no_top_is_a_model_of_features(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with h5py.File(tmp_path / "k.h5", "w") as file:
        _write(file, {k: v for k, v in checkpoint.weights.items() if not k.startswith("predictions")}, "keras 3")
    assert read_h5(tmp_path / "k.h5").task == "features"


def test_real_keras_file(dog_breeds: Path) -> None:
    read = read_h5(dog_breeds)
    assert (read.task, read.config.num_labels, read.config.image_size) == ("classification", 19, 160)
    assert read.config.depth_multiplier == 1.0
    assert len(read.weights) == 262
    assert read.weights["block_13_depthwise/kernel"].shape == (3, 3, 576, 1)


# --- what a file says beside its weights ------------------------------------------------------------------------------


def _described(path: Path, checkpoint: Checkpoint, *layers: dict, extra=()) -> Path:
    """A Keras file whose description of the model has these layers' settings."""
    with h5py.File(path, "w") as file:
        _write(file, checkpoint.weights, "keras 3")
        file.attrs["model_config"] = json.dumps({"config": {"layers": [{"config": layer} for layer in layers]}})
        for name, value in extra:
            file[name] = value
    return path


def test_epsilon_of_the_batch_norms(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = _described(tmp_path / "k.h5", checkpoint, {"epsilon": 1e-5}, {"epsilon": 1e-5}, {"units": 3})
    assert read_h5(path).config.layer_norm_eps == 1e-5


@pytest.mark.parametrize("key", ["batch_shape", "batch_input_shape"])
@pytest.mark.parametrize(("side", "size"), [(96, 96), (32, 32), (31, 224), (None, 224)])
def test_size_of_the_input(tmp_path: Path, checkpoint: Checkpoint, key: str, side: int | None, size: int) -> None:
    """Sizes that are open, or too small for the network, leave the default."""
    path = _described(tmp_path / "k.h5", checkpoint, {key: [None, side, side, 3]})
    found = read_h5(path)
    assert (found.config.image_size, found.preprocessing["size"]) == (size, size)


def test_two_dense_layers_are_no_classifier(tmp_path: Path, checkpoint: Checkpoint) -> None:
    dense = ("model_weights/hidden/hidden/kernel", np.zeros((1280, 8), "f4"))
    path = _described(tmp_path / "k.h5", checkpoint, extra=[dense])
    with pytest.raises(WeightsError, match="must end in one dense layer, got 2: hidden/kernel, predictions/kernel"):
        read_h5(path)


@pytest.mark.parametrize("group", ["optimizer_weights/adam/Conv1", "optimizer/vars/Conv1"])
def test_optimizers_are_passed_over(tmp_path: Path, checkpoint: Checkpoint, group: str) -> None:
    path = _described(tmp_path / "k.h5", checkpoint, extra=[(f"{group}/kernel", np.zeros(3, "f4"))])
    assert _same_arrays(read_h5(path).weights, checkpoint.weights)


def test_keras_names_the_array_of_integers(tmp_path: Path, checkpoint: Checkpoint) -> None:
    path = _described(tmp_path / "k.h5", checkpoint, extra=[("model_weights/Conv2/kernel", np.zeros(3, "i4"))])
    with pytest.raises(WeightsError, match="Conv2/kernel must hold floating-point numbers"):
        read_h5(path)


def test_a_missing_layer_and_a_wrong_shape_in_a_file(tmp_path: Path, checkpoint: Checkpoint) -> None:
    weights = {k: v for k, v in checkpoint.weights.items() if not k.startswith("block_5_project")}
    with h5py.File(tmp_path / "k.h5", "w") as file:
        _write(file, weights, "keras 3")
    with pytest.raises(WeightsError, match=r"k\.h5 .*5 missing: block_5_project/kernel"):
        read_h5(tmp_path / "k.h5")
