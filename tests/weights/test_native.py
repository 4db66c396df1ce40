"""The native file, Keras's layouts, strict loading and folding."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npmnv2 import MobileNetV2Config, WeightsError
from npmnv2.network.architecture import backbone, classifier
from npmnv2.weights.checkpoint import Checkpoint, check_weights, fold_batch_norms, initialize
from npmnv2.weights.infer import infer_config
from npmnv2.weights.native import read_h5, write_h5


def lively(plan, config, seed=0):
    """Random weights whose batch norms are not neutral, so that no part of them can be forgotten unnoticed."""
    rng = np.random.default_rng(seed)
    weights = initialize(plan, config, rng)
    for name, array in weights.items():
        if not name.endswith("/kernel"):
            spread = (
                rng.uniform(0.5, 1.5, array.shape)
                if "variance" in name or "gamma" in name
                else rng.normal(size=array.shape)
            )
            weights[name] = spread.astype(np.float32)
    return weights


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=3, id2label={0: "a", 1: "ß", 2: "c"})
    preprocessing, source = {"preset": "slim", "size": 96}, {"format": "test", "ema": True}
    return Checkpoint(
        lively(classifier(config), config), "classification", config, ("a", "ß", "c"), preprocessing, source
    )


def _same(a, b) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_native_file_keeps_everything(tmp_path: Path, checkpoint: Checkpoint) -> None:
    write_h5(checkpoint, tmp_path / "m.h5")
    again = read_h5(tmp_path / "m.h5")
    assert sorted(again.weights) == sorted(checkpoint.weights)
    assert all(np.array_equal(again.weights[k], v) for k, v in checkpoint.weights.items())
    assert again.config == checkpoint.config
    assert (again.task, again.labels, again.preprocessing) == (
        "classification",
        ("a", "ß", "c"),
        checkpoint.preprocessing,
    )
    assert again.source["ema"] is True
    assert len(again.source["sha256"]) == 64


@settings(max_examples=8)
@given(
    multiplier=st.sampled_from([0.1, 0.35, 0.5]),
    divisor=st.sampled_from([1, 8]),
    expansion=st.booleans(),
    classes=st.integers(1, 4),
)
def test_round_trip_of_random_configurations(tmp_path_factory, multiplier, divisor, expansion, classes) -> None:
    config = MobileNetV2Config(
        depth_multiplier=multiplier, depth_divisible_by=divisor, min_depth=divisor, first_layer_is_expansion=expansion,
        num_labels=classes, finegrained_output=False,
    )  # fmt: skip
    weights = initialize(classifier(config), config, 1)
    path = tmp_path_factory.mktemp("h5") / "m.h5"
    write_h5(Checkpoint(weights, "classification", config), path)
    again = read_h5(path)
    assert again.config == config
    assert all(np.array_equal(again.weights[k], v) for k, v in weights.items())


# --- Keras's four layouts ---------------------------------------------------------------------------------------------


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
    assert _same(read_h5(tmp_path / "k.h5").weights, checkpoint.weights)


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


# --- strictness -------------------------------------------------------------------------------------------------------


def test_all_problems_are_reported_together(checkpoint: Checkpoint) -> None:
    weights = dict(checkpoint.weights)
    del weights["block_3_expand/kernel"]
    weights["block_99/kernel"] = np.zeros(1, np.float32)
    weights["Conv1/kernel"] = weights["Conv1/kernel"][:, :, :2]
    with pytest.raises(WeightsError) as error:
        check_weights(classifier(checkpoint.config), weights, "file.h5")
    message = str(error.value)
    assert "1 missing: block_3_expand/kernel" in message
    assert "1 unexpected: block_99/kernel" in message
    assert "1 misshapen: Conv1/kernel is (3, 3, 2, 16), must be (3, 3, 3, 16)" in message
    assert message.startswith("file.h5")


def test_a_missing_layer_and_a_wrong_shape_in_a_file(tmp_path: Path, checkpoint: Checkpoint) -> None:
    weights = {k: v for k, v in checkpoint.weights.items() if not k.startswith("block_5_project")}
    with h5py.File(tmp_path / "k.h5", "w") as file:
        _write(file, weights, "keras 3")
    with pytest.raises(WeightsError, match=r"k\.h5 .*5 missing: block_5_project/kernel"):
        read_h5(tmp_path / "k.h5")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable HDF5 file"),
        (b"PK\x03\x04 this is a zip", "not a readable HDF5 file"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "not a readable HDF5 file"),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.h5").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_h5(tmp_path / "m.h5")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path: Path, checkpoint: Checkpoint, share: float) -> None:
    write_h5(checkpoint, tmp_path / "m.h5")
    content = (tmp_path / "m.h5").read_bytes()
    (tmp_path / "m.h5").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=r"m\.h5 is not a readable HDF5 file"):
        read_h5(tmp_path / "m.h5")


def test_other_hdf5_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["resnet/conv1/kernel"] = np.zeros((3, 3, 3, 4), "f4")
    with pytest.raises(WeightsError, match="holds no MobileNetV2"):
        read_h5(tmp_path / "m.h5")
    with pytest.raises(FileNotFoundError, match="absent"):
        read_h5(tmp_path / "absent.h5")


def test_files_that_point_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("Conv1/Conv1/kernel", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(WeightsError, match="points to another file"):
        read_h5(tmp_path / "m.h5")


def test_absurd_sizes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("Conv1/Conv1/kernel", (1 << 20, 1 << 20), "f4")
    with pytest.raises(WeightsError, match="must have 4398046511104 bytes, got 0"):
        read_h5(tmp_path / "m.h5")


@pytest.mark.parametrize(
    "attribute",
    ["{", "[]", '{"format": 99}', '{"format": 1, "task": "x"}', '{"format": 1}', '{"format": 1, "labels": 3}'],
)
def test_damaged_attribute(tmp_path: Path, checkpoint: Checkpoint, attribute: str) -> None:
    write_h5(checkpoint, tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["npmnv2"] = attribute
    with pytest.raises(WeightsError, match=r"m\.h5"):
        read_h5(tmp_path / "m.h5")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, checkpoint: Checkpoint, monkeypatch) -> None:
    (tmp_path / "m.h5").write_bytes(b"precious")
    broken = Checkpoint({**checkpoint.weights, "x/kernel": object()}, "classification", checkpoint.config)
    with pytest.raises(TypeError):
        write_h5(broken, tmp_path / "m.h5")
    assert (tmp_path / "m.h5").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["m.h5"]


def test_a_target_that_cannot_be_written(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(OSError, match="absent"):
        write_h5(checkpoint, tmp_path / "absent" / "m.h5")


# --- folding and inference of the configuration -----------------------------------------------------------------------


def test_folding_equals_convolution_and_batch_norm() -> None:
    """On a block: convolve, normalize and clip one after the other in float64, without folding anything."""
    config = MobileNetV2Config(depth_multiplier=0.35, hidden_act="linear", layer_norm_eps=0.01)
    plan = backbone(config)
    weights = lively(plan, config)
    folded = fold_batch_norms(plan, weights, np.float64)
    x = np.random.default_rng(1).normal(size=(5, 16))
    kernel = weights["expanded_conv_project/kernel"][0, 0].astype(np.float64)
    gamma, beta, mean, variance = (
        weights[f"expanded_conv_project_BN/{v}"].astype(np.float64)
        for v in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    reference = gamma * (x @ kernel - mean) / np.sqrt(variance + 0.01) + beta
    comp = x @ folded["expanded_conv_project/kernel"] + folded["expanded_conv_project/bias"]
    np.testing.assert_allclose(comp, reference, rtol=1e-12)


def test_folded_layouts() -> None:
    config = MobileNetV2Config(depth_multiplier=0.35, num_labels=3)
    folded = fold_batch_norms(classifier(config), lively(classifier(config), config))
    assert folded["Conv1/kernel"].shape == (3, 3, 3, 16)
    assert folded["block_1_expand/kernel"].shape == (8, 48)
    assert folded["block_1_depthwise/kernel"].shape == (3, 3, 48)
    assert folded["predictions/kernel"].shape == (1280, 3)
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in folded.values())


def test_weights_that_come_folded_load_too(checkpoint: Checkpoint) -> None:
    plan = classifier(checkpoint.config)
    folded = fold_batch_norms(plan, checkpoint.weights, np.float64)
    expected = plan.parameter_shapes()
    files = {name: folded[name].reshape(expected[name]) if name.endswith("kernel") else folded[name] for name in folded}
    check_weights(plan, files)
    again = fold_batch_norms(plan, files, np.float64)
    assert all(np.array_equal(again[name], folded[name]) for name in folded)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"depth_multiplier": 1.4},
        {"depth_multiplier": 0.27},
        {"finegrained_output": False},
        {"depth_divisible_by": 1, "min_depth": 1},
        {"first_layer_is_expansion": False},
    ],
)
def test_the_configuration_follows_from_the_shapes(change: dict) -> None:
    config = MobileNetV2Config(**{"depth_multiplier": 0.5, "num_labels": 4, **change})
    found = infer_config(initialize(classifier(config), config, 0))
    assert classifier(found).parameter_shapes() == classifier(config).parameter_shapes()
    assert found.num_labels == 4
