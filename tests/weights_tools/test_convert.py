"""Round trips through every format that is written, and conversion."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weight_files import (
    assert_same_weights,
    folded,
    random_checkpoint,
)

from npmnv2 import MobileNetV2ForImageClassification, WeightsError, load
from npmnv2.errors import ArgumentError
from npmnv2.lab.numerics import sum_bound
from npmnv2.network.architecture import POOL
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights_tools import (
    WRITERS,
    convert,
    detect_format,
    inspect,
    read,
    with_classes,
    with_labels,
    write_native,
    write_npz,
)

TARGETS = {"native": "model.h5", "keras": "model.h5", "transformers": "directory", "npz": "model.npz"}


@st.composite
def checkpoints(draw, tasks=("classification", "segmentation", "features")):
    """Random networks with random weights, tiny ones."""
    task = draw(st.sampled_from(tasks))
    divisor = draw(st.sampled_from([8, 1, 3]))
    classes = draw(st.integers(1, 4))
    labels = draw(st.none() | st.lists(st.text(max_size=5), min_size=classes, max_size=classes).map(tuple))
    # A file of names that are all the default ones says the same as a file without names.
    if labels is not None and set(labels) <= {f"LABEL_{i}" for i in range(4)}:
        labels = None
    return random_checkpoint(
        task,
        seed=draw(st.integers(0, 2**32 - 1)),
        labels=labels if task != "features" else None,
        depth_multiplier=draw(st.sampled_from([0.01, 0.05, 0.11, 0.2])),
        depth_divisible_by=divisor,
        min_depth=draw(st.sampled_from([divisor, 2 * divisor])),
        expand_ratio=draw(st.sampled_from([1, 2, 1.5])),
        first_layer_is_expansion=draw(st.booleans()),
        layer_norm_eps=draw(st.sampled_from([1e-3, 1e-5])),
        tf_padding=draw(st.booleans()),
        num_channels=draw(st.integers(1, 4)),
        num_labels=classes if task != "features" else 0,
        output_stride=draw(st.sampled_from([8, 16, 32])),
        image_size=draw(st.sampled_from([32, 97, 224])),
    )


@pytest.mark.parametrize("to", TARGETS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_round_trips_lose_nothing(tmp_path_factory, to, data) -> None:
    tasks = ("classification", "features") if to == "keras" else ("classification", "segmentation", "features")
    checkpoint = data.draw(checkpoints(tasks))
    path = tmp_path_factory.mktemp("round_trip") / TARGETS[to]
    WRITERS[to](checkpoint, path)
    found = read(path)
    assert_same_weights(found.weights, checkpoint.weights)
    assert list(found.weights) == list(checkpoint.weights)
    assert (found.task, found.labels) == (checkpoint.task, checkpoint.labels)
    assert found.config.replace(extra={}) == checkpoint.config
    if to != "transformers":
        # transformers' files have no place for the source.
        assert found.source["ema"] is False
        assert found.preprocessing == checkpoint.preprocessing


@settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
@given(checkpoints(("classification",)))
def test_a_chain_of_formats_loses_nothing(tmp_path_factory, checkpoint) -> None:
    folder = tmp_path_factory.mktemp("chain")
    write_npz(checkpoint, folder / "0.npz")
    for source, target, to in (
        ("0.npz", "1", "transformers"),
        ("1", "2.h5", "keras"),
        ("2.h5", "3.h5", "native"),
        ("3.h5", "4.npz", "npz"),
    ):
        convert(folder / source, folder / target, to=to)
    assert_same_weights(read(folder / "4.npz").weights, checkpoint.weights)
    assert read(folder / "4.npz").config.replace(extra={}) == checkpoint.config


@pytest.mark.parametrize("to", ["native", "npz"])
@pytest.mark.parametrize("task", ["classification", "segmentation", "features"])
def test_folded_weights_stay_folded(tmp_path: Path, to, task) -> None:
    checkpoint = folded(random_checkpoint(task))
    WRITERS[to](checkpoint, tmp_path / TARGETS[to])
    assert_same_weights(read(tmp_path / TARGETS[to]).weights, checkpoint.weights)
    assert inspect(tmp_path / TARGETS[to])["batch_norm"] == "folded"


def imagenet(classes) -> Checkpoint:
    labels = tuple(f"class {i}" for i in range(classes))
    return random_checkpoint(labels=labels, num_labels=classes)


def test_1001_classes_become_1000() -> None:
    original = imagenet(1001)
    found = with_classes(original, 1000)
    assert (found.config.classes, len(found.labels), found.labels[0]) == (1000, 1000, "class 1")
    assert np.array_equal(found.weights["predictions/kernel"], original.weights["predictions/kernel"][:, 1:])
    assert np.array_equal(found.weights["predictions/bias"], original.weights["predictions/bias"][1:])
    assert original.config.classes == len(original.weights["predictions/bias"]) == 1001


def test_1000_classes_become_1001_and_back() -> None:
    original = imagenet(1000)
    found = with_classes(original, 1001)
    assert (found.config.classes, found.labels[0], found.labels[1]) == (1001, "background", "class 0")
    image = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    model = MobileNetV2ForImageClassification.from_checkpoint(original, backend="numpy")
    before = model(image).logits
    after = MobileNetV2ForImageClassification.from_checkpoint(found, backend="numpy")(image).logits
    # NumPy's matrix product may add in another order when there is one column more.
    features = np.abs(model.run(image.transpose(0, 2, 3, 1), [POOL])[POOL])
    kernel, bias = (np.abs(original.weights[f"predictions/{name}"]) for name in ("kernel", "bias"))
    assert (np.abs(after[:, 1:] - before) <= sum_bound(features @ kernel + bias, len(kernel))).all()
    assert np.array_equal(found.weights["predictions/kernel"][:, 1:], original.weights["predictions/kernel"])
    probabilities = np.exp(after - after.max())
    assert probabilities[0, 0] == 0
    assert_same_weights(with_classes(found, 1000).weights, original.weights)
    assert with_classes(found, 1000).labels == original.labels


def test_other_numbers_of_classes_are_left_alone() -> None:
    checkpoint = random_checkpoint()
    assert with_classes(checkpoint, None) is with_classes(checkpoint, 3) is checkpoint
    with pytest.raises(ValueError, match=r"num_classes \(=1000\) must turn 1001"):
        with_classes(checkpoint, 1000)
    with pytest.raises(ValueError, match=r"num_classes \(=1001\) must"):
        with_classes(random_checkpoint("features"), 1001)


def test_labels_are_replaced(tmp_path: Path) -> None:
    write_npz(random_checkpoint(), tmp_path / "a.npz")
    convert(tmp_path / "a.npz", tmp_path / "b.h5", labels=["cat", "dog", "bird"])
    assert read(tmp_path / "b.h5").labels == ("cat", "dog", "bird")
    assert load(tmp_path / "b.h5", backend="numpy").config.id2label == {0: "cat", 1: "dog", 2: "bird"}
    with pytest.raises(ValueError, match="labels must name each of the model's 3 classes, got 2 names"):
        convert(tmp_path / "a.npz", tmp_path / "c.h5", labels=["cat", "dog"])
    assert not (tmp_path / "c.h5").exists()
    with pytest.raises(ValueError, match="0 classes"):
        with_labels(random_checkpoint("features"), ["cat"])


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("x.h5", "hdf5"),
        ("x.hdf5", "hdf5"),
        ("x.npz", "npz"),
        ("mobilenet_v2_1.0_224", "transformers"),
        ("x", "transformers"),
    ],
)
def test_the_target_says_the_format(tmp_path: Path, name, format_) -> None:
    write_npz(random_checkpoint(), tmp_path / "source.npz")
    convert(tmp_path / "source.npz", tmp_path / name)
    assert detect_format(tmp_path / name) == format_


def test_unknown_targets(tmp_path: Path) -> None:
    write_npz(random_checkpoint(), tmp_path / "source.npz")
    with pytest.raises(ValueError, match=r"must end in \.h5"):
        convert(tmp_path / "source.npz", tmp_path / "x.pb")
    with pytest.raises(ValueError, match=r"to \(='caffe'\) must be one of native"):
        convert(tmp_path / "source.npz", tmp_path / "x", to="caffe")


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("moment", ["before writing", "while writing", "at the end"])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, to, moment, monkeypatch) -> None:
    path = tmp_path / TARGETS[to]
    WRITERS[to](random_checkpoint(seed=1), path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    broken = random_checkpoint(seed=2)
    if moment == "before writing":
        broken.config = broken.config.replace(hidden_act=np.tanh)
    elif moment == "while writing":
        broken.weights["predictions/bias"] = _Unreadable()
    else:
        monkeypatch.setattr(os, "replace", _fail)
    with pytest.raises((ValueError, OSError)):
        WRITERS[to](broken, path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert_same_weights(read(path).weights, random_checkpoint(seed=1).weights)


def _fail(*_args) -> None:
    raise OSError("no space left on device")


class _Unreadable:
    """Looks like a bias until somebody wants its numbers."""

    shape, ndim, dtype, size = (3,), 1, np.dtype(np.float32), 3

    def __array__(self, *_args, **_options):
        raise ValueError("these numbers are gone")


def test_what_save_pretrained_writes_is_a_format_too(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(labels=("a", "b", "c"))
    MobileNetV2ForImageClassification.from_checkpoint(checkpoint, backend="numpy").save_pretrained(tmp_path / "model")
    assert detect_format(tmp_path / "model") == "hdf5"
    convert(tmp_path / "model", tmp_path / "model.npz")
    assert_same_weights(read(tmp_path / "model.npz").weights, checkpoint.weights)
    assert inspect(tmp_path / "model")["labels"] == ["a", "b", "c"]
    (tmp_path / "model" / "config.json").write_text('{"depth_multiplier": -1}')
    with pytest.raises(WeightsError, match=r"config\.json: .*depth_multiplier"):
        read(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "to", "words"),
    [
        ("out.h5", "transformers", "must be a directory for the format transformers,"),
        ("out.npz", "keras", "must end in .h5 or .hdf5 for the format keras,"),
        ("out.npz", "native", "must end in .h5 or .hdf5 for the format native,"),
        ("out.h5", "npz", "must end in .npz for the format npz,"),
        ("out.tflite", "native", "must end in .h5 or .hdf5"),
        ("out.pb", None, "must end in .h5, .hdf5, .npz"),
        ("out.onnx", "tflite", "must end in .tflite for the format tflite"),
    ],
)
def test_a_name_that_says_something_else_is_refused(tmp_path: Path, name, to, words) -> None:
    write_native(random_checkpoint(), tmp_path / "source.h5")
    with pytest.raises(ArgumentError, match=words):
        convert(tmp_path / "source.h5", tmp_path / name, to=to)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("name", "to"), [("v2_0.05", "transformers"), ("weights", "native"), ("a.bak", "npz")])
def test_other_names_are_the_callers_business(tmp_path: Path, name, to) -> None:
    write_native(random_checkpoint(), tmp_path / "source.h5")
    convert(tmp_path / "source.h5", tmp_path / name, to=to)
    assert_same_weights(read(tmp_path / name).weights, random_checkpoint().weights)


def test_labels_of_a_detector() -> None:
    """With or without the background, as label files have them."""
    checkpoint = random_checkpoint("detection", num_labels=3)
    for labels in (("cat", "dog"), ("background", "cat", "dog")):
        found = with_labels(checkpoint, labels)
        assert found.labels == ("background", "cat", "dog")
        assert found.config.id2label == {0: "background", 1: "cat", 2: "dog"}
    with pytest.raises(ValueError, match="must name each of the model's 3 classes, got 1 names"):
        with_labels(checkpoint, ("cat",))
