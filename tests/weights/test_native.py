"""The native file, and files that are none."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npmnv2 import MobileNetV2Config, WeightsError
from npmnv2.network.architecture import classifier
from npmnv2.weights.checkpoint import Checkpoint, initialize
from npmnv2.weights.native import read_h5, write_h5


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


# --- strictness -------------------------------------------------------------------------------------------------------


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
    broken = Checkpoint({**checkpoint.weights, "x/kernel": np.array(object())}, "classification", checkpoint.config)
    with pytest.raises(TypeError):
        write_h5(broken, tmp_path / "m.h5")
    assert (tmp_path / "m.h5").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["m.h5"]


def test_a_target_that_cannot_be_written(tmp_path: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(OSError, match="absent"):
        write_h5(checkpoint, tmp_path / "absent" / "m.h5")
