"""The safetensors container, beside the package of that name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npmnv2.weights_tools.tensors import read_tensors, write_tensors
from weight_files import assert_same_weights, random_checkpoint

from npmnv2 import WeightsError
from npmnv2.models.features import MobileNetV2Model
from npmnv2.weights_tools import inspect, read, transformers, write_transformers

safetensors = pytest.importorskip("safetensors.numpy")
load_file, save_file = safetensors.load_file, safetensors.save_file


def test_unknown_tensors_and_other_types_are_reported(tmp_path: Path) -> None:
    write_transformers(random_checkpoint(), tmp_path)
    tensors = transformers.read_tensors(tmp_path / "model.safetensors")
    write_tensors(tmp_path / "model.safetensors", {**tensors, "classifier.extra": np.zeros(1, np.float32)})
    with pytest.raises(WeightsError, match=r"1 unexpected: classifier\.extra"):
        read(tmp_path)
    save_file({**tensors, "classifier.bias": np.zeros(3, np.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"'classifier\.bias' has type 'I8'"):
        read(tmp_path)
    assert inspect(tmp_path)["readable"] is False


def test_half_precision_is_widened(tmp_path: Path) -> None:
    checkpoint = random_checkpoint("features")
    write_transformers(checkpoint, tmp_path)
    tensors = transformers.read_tensors(tmp_path / "model.safetensors")
    halves = {name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in tensors.items()}
    write_tensors(tmp_path / "model.safetensors", halves)
    expected = {name: value.astype(np.float16).astype(np.float32) for name, value in checkpoint.weights.items()}
    assert_same_weights(read(tmp_path).weights, expected)
    assert MobileNetV2Model.from_checkpoint(read(tmp_path), backend="numpy")


def test_the_package_of_that_name_reads_and_writes_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "a.weight": rng.normal(size=(2, 3, 1, 1)).astype(np.float32),
        "ß": rng.normal(size=(0, 3)).astype(np.float16),
        "double": rng.normal(size=()),
        "bn.num_batches_tracked": np.array(7, np.int64),
    }
    write_tensors(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs")
    for found in (load_file(tmp_path / "ours"), read_tensors(tmp_path / "theirs"), read_tensors(tmp_path / "ours")):
        assert set(found) == set(tensors)
        for name, value in tensors.items():
            assert found[name].dtype == value.dtype
            assert found[name].shape == value.shape
            assert np.array_equal(found[name], value)


def test_brain_floats_are_widened(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    values = torch.linspace(-3, 3, 24).reshape(2, 3, 4).to(torch.bfloat16)
    save({"x": values}, tmp_path / "file")
    (found,) = read_tensors(tmp_path / "file").values()
    assert found.dtype == np.float32
    assert np.array_equal(found, values.to(torch.float32).numpy())
