"""The registry of readers: formats by content, and one error for what is none of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from weight_files import (
    assert_same_weights,
    folded,
    frozen_graph,
    random_checkpoint,
    save_torchvision,
    slim_variables,
    tflite_model,
    write_bundle,
)

from npmnv2 import MobileNetV2ForImageClassification, WeightsError, load
from npmnv2.weights.readers import FORMATS, checkpoint_prefix, detect_format, read_checkpoint
from npmnv2.weights_tools import write_keras, write_native, write_npz, write_transformers


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint()


def _file(format_: str, checkpoint, folder: Path) -> Path:
    """A file of each format that is one file."""
    path = folder / "file"
    if format_ in ("hdf5", "keras", "npz"):
        {"hdf5": write_native, "keras": write_keras, "npz": write_npz}[format_](checkpoint, path)
    elif format_ == "transformers":
        write_transformers(checkpoint, folder / "made")
        shutil.move(folder / "made" / "model.safetensors", path)
    elif format_ == "torchvision":
        save_torchvision(path, checkpoint)
    else:
        path.write_bytes(tflite_model(folded(checkpoint)) if format_ == "tflite" else frozen_graph(checkpoint))
    return path


@pytest.mark.parametrize("format_", ["hdf5", "keras", "npz", "transformers", "torchvision", "tflite", "graph-def"])
@pytest.mark.parametrize("name", ["weights", "weights.npz", "weights.h5", "weights.pb", "weights.txt"])
def test_content_decides_and_not_the_name(tmp_path: Path, checkpoint, format_: str, name: str) -> None:
    path = tmp_path / name
    _file(format_, checkpoint, tmp_path).rename(path)
    assert detect_format(path) == {"keras": "hdf5"}.get(format_, format_)
    expected = folded(checkpoint) if format_ == "tflite" else checkpoint
    assert_same_weights(read_checkpoint(path).weights, expected.weights)


def test_every_format_has_a_reader() -> None:
    for format_ in FORMATS:
        assert callable(import_module(format_.module).read), format_.name


# --- ways in --------------------------------------------------------------------------------------------------------


def _read_by_all(path: Path) -> None:
    for read in (read_checkpoint, load, MobileNetV2ForImageClassification.from_pretrained):
        assert read(path).config.classes == 3


def test_a_folder_with_nothing_but_model_h5(tmp_path: Path, checkpoint) -> None:
    write_native(checkpoint, tmp_path / "model.h5")
    assert detect_format(tmp_path) == "hdf5"
    _read_by_all(tmp_path)


def test_the_prefix_of_a_tensorflow_checkpoint(tmp_path: Path, checkpoint) -> None:
    for prefix in ("model.ckpt", "variables", "model.ckpt-30000"):
        _read_by_all(write_bundle(tmp_path / prefix, slim_variables(checkpoint)))


def test_an_archive_by_another_name(tmp_path: Path, checkpoint) -> None:
    write_npz(checkpoint, tmp_path / "weights.backup")
    _read_by_all(tmp_path / "weights.backup")


def test_an_edited_configuration_comes_before_the_files_own(tmp_path: Path, checkpoint) -> None:
    model = MobileNetV2ForImageClassification.from_checkpoint(checkpoint, backend="numpy")
    model.save_pretrained(tmp_path)
    assert read_checkpoint(tmp_path).config.output_stride == 32
    checkpoint.config.replace(output_stride=16).save_pretrained(tmp_path)
    assert read_checkpoint(tmp_path).config.output_stride == 16
    checkpoint.config.replace(depth_multiplier=1.0).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="does not match the network"):
        read_checkpoint(tmp_path)


def test_the_native_file_of_a_folder_comes_first(tmp_path: Path, checkpoint) -> None:
    write_transformers(random_checkpoint(seed=1), tmp_path)
    write_native(checkpoint, tmp_path / "model.h5")
    assert_same_weights(read_checkpoint(tmp_path).weights, checkpoint.weights)


# --- what is none ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\n\n\n",
        b"\nhello, world",
        b"PK\x03\x04",
        b"PK\x03\x04" + bytes(30),
        b"{}",
        bytes(100),
        b"\x08\x01",
    ],
    ids=repr,
)
def test_what_is_none_of_the_formats(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.pb").write_bytes(content)
    with pytest.raises(WeightsError, match=r"notes\.pb is none of the formats that are read: .*graph-def"):
        read_checkpoint(tmp_path / "notes.pb")


def test_nothing_there(tmp_path: Path) -> None:
    for name in ("nothing.h5", "nothing"):
        with pytest.raises(FileNotFoundError, match="must be an existing file or directory"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(WeightsError, match="none of the formats"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl"])
def test_pickles_are_not_opened(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(WeightsError, match="A pickle can run code when it is opened"):
        read_checkpoint(tmp_path / f"model{suffix}")


def test_several_checkpoints_in_a_folder(tmp_path: Path, checkpoint) -> None:
    for step in (1, 2):
        write_bundle(tmp_path / f"model.ckpt-{step}", slim_variables(checkpoint))
    with pytest.raises(WeightsError, match=r"several checkpoints \(model\.ckpt-1, model\.ckpt-2\); name one"):
        read_checkpoint(tmp_path)
    assert checkpoint_prefix(tmp_path / "model.ckpt-2") == tmp_path / "model.ckpt-2"
    assert checkpoint_prefix(tmp_path / "model.ckpt") is None


def test_a_format_costs_nothing_until_it_is_met(tmp_path: Path, checkpoint) -> None:
    import subprocess
    import sys

    write_native(checkpoint, tmp_path / "model.h5")
    program = f"""
import sys
from npmnv2.weights.readers import read_checkpoint
read_checkpoint({str(tmp_path / "model.h5")!r})
assert not [name for name in sys.modules if name.startswith("npmnv2.weights_tools")]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_weights_that_are_not_finite_are_refused_at_load(tmp_path: Path, checkpoint) -> None:
    weights = {**checkpoint.weights, "predictions/bias": np.full(3, np.nan, np.float32)}
    damaged = replace(checkpoint, weights=weights)
    for write, name in ((write_native, "m.h5"), (write_npz, "m.npz")):
        write(damaged, tmp_path / name)
        with pytest.raises(WeightsError, match="1 not finite: predictions/bias"):
            load(tmp_path / name)
