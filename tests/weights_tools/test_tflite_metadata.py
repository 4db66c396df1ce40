"""Metadata of TFLite files: TensorFlow's own schema, the label file, and npmnv2's entry."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from graph_networks import checkpoint_of
from npmnv2.weights_tools.flatbuffer import Buffer, Table
from npmnv2.weights_tools.tflite import Model, labels_of
from npmnv2.weights_tools.tflite_metadata import archive, stated
from npmnv2.weights_tools.tflite_writer import tflite_bytes, write
from quantized_networks import quantized_checkpoint

from npmnv2 import WeightsError
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.weights.bounds import Budget
from npmnv2.weights_tools import read


def standard(data: bytes, folder: Path) -> Table:
    """The table of TensorFlow's metadata in a file."""
    (folder / "model.tflite").write_bytes(data)
    model = Model.open(folder / "model.tflite")
    numbers = {entry.text(0): entry.scalar(1, "uint32", 0) for entry in model.root.tables(6)}
    found = bytes(model.buffer(numbers["TFLITE_METADATA"]))
    assert found[4:8] == b"M001"
    return Buffer(found, Budget(Path("metadata"), len(found))).root()


@pytest.mark.parametrize("preset", ["hf", "slim", "keras", "deeplab", "raw"])
def test_normalization_is_what_tensorflow_would_compute(tmp_path: Path, preset) -> None:
    checkpoint = replace(checkpoint_of(), preprocessing={"preset": preset, "size": 96})
    subgraph = standard(tflite_bytes(checkpoint), tmp_path).tables(3)[0]
    (first,) = subgraph.tables(2)
    options = first.tables(4)[0].table(1)
    assert (first.text(0), first.table(3).scalar(0, "uint8", 0)) == ("image", 2)
    mean, deviation = (np.asarray(options.array(slot, "<f4")) for slot in (0, 1))
    photo = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    nothing_else = {"do_resize": False, "do_center_crop": False, "pad_size": None, "central_fraction": None}
    processor = MobileNetV2ImageProcessor.preset(preset, 96, **nothing_else)
    expected = processor(photo.astype(np.float32) if preset == "raw" else photo, return_tensors="np").pixel_values[0]
    np.testing.assert_allclose((photo - mean) / deviation, expected.transpose(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize(("channels", "colors"), [(3, 1), (1, 2), (4, 0)])
def test_the_color_space_is_that_of_the_channels(tmp_path: Path, channels, colors) -> None:
    data = tflite_bytes(checkpoint_of(num_channels=channels))
    content = standard(data, tmp_path).tables(3)[0].tables(2)[0].table(3)
    assert content.table(1).scalar(0, "int8", 9) == colors


def test_outputs_name_the_label_file(tmp_path: Path) -> None:
    data = tflite_bytes(checkpoint_of())
    (output,) = standard(data, tmp_path).tables(3)[0].tables(3)
    (labels,) = output.tables(6)
    assert (output.text(0), labels.text(0), labels.scalar(2, "int8", 0)) == ("predictions", "labels.txt", 2)
    assert labels_of(data, 3) == ('say "ja"', "Säge blatt", "猫")
    assert zipfile.ZipFile(BytesIO(data)).testzip() is None


def test_features_have_no_labels(tmp_path: Path) -> None:
    checkpoint = checkpoint_of("features")
    assert archive(checkpoint) == b""
    (output,) = standard(tflite_bytes(checkpoint), tmp_path).tables(3)[0].tables(3)
    assert output.tables(6) == []


def test_the_same_network_gives_the_same_bytes() -> None:
    assert tflite_bytes(checkpoint_of()) == tflite_bytes(checkpoint_of())


def test_quantized_files_keep_labels_and_preprocessing(tmp_path: Path) -> None:
    checkpoint = replace(quantized_checkpoint("int8"), preprocessing={"preset": "keras", "size": 64})
    checkpoint = replace(checkpoint, labels=tuple(f"class {i}" for i in range(checkpoint.config.classes)))
    write(checkpoint, tmp_path / "model.tflite")
    found = read(tmp_path / "model.tflite")
    # The mean and the deviation are those of the file's integers.
    assert (found.labels, found.preprocessing["preset"]) == (checkpoint.labels, "keras")


def test_other_files_state_nothing(shared_data: Path) -> None:
    for path in sorted((shared_data / "weights").rglob("*.tflite")):
        assert stated(Model.open(path)) == {}


def test_a_damaged_entry_is_an_error(tmp_path: Path) -> None:
    data = tflite_bytes(checkpoint_of()).replace(b'{"config": ', b'{"confug": ')
    (tmp_path / "model.tflite").write_bytes(data)
    with pytest.raises(WeightsError, match=r"model.tflite.*metadata 'npmnv2'"):
        read(tmp_path / "model.tflite")
