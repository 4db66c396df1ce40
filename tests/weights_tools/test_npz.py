"""NumPy archives."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from weight_files import (
    assert_same_weights,
    random_checkpoint,
    slim_variables,
)

from npmnv2 import WeightsError
from npmnv2.weights_tools import (
    npz,
    read,
)


def test_npz_with_plain_slim_variables(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    np.savez_compressed(tmp_path / "model.npz", **slim_variables(checkpoint))
    assert_same_weights(read(tmp_path / "model.npz").weights, checkpoint.weights)
    np.savez(tmp_path / "keras.npz", **{f"{name}:0": np.asfortranarray(v) for name, v in checkpoint.weights.items()})
    found = read(tmp_path / "keras.npz")
    assert_same_weights(found.weights, checkpoint.weights)
    assert found.preprocessing["preset"] == "keras"


def test_npz_never_unpickles(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    variables = slim_variables(random_checkpoint())
    variables["MobilenetV2/Conv/weights"] = np.array([Trap()], object)
    np.savez(tmp_path / "model.npz", **variables)
    with pytest.raises(WeightsError, match="pickle"):
        read(tmp_path / "model.npz")
    assert not (tmp_path / "sprung").exists()


def test_npz_that_lies_about_its_size(tmp_path: Path, monkeypatch) -> None:
    for side, message in ((1 << 20, "impossible shape"), (1 << 12, "expected 67108864")):
        with zipfile.ZipFile(tmp_path / "model.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            header = str({"descr": "<f4", "fortran_order": False, "shape": (side, side)}).encode().ljust(117) + b"\n"
            archive.writestr("MobilenetV2/Conv/weights.npy", b"\x93NUMPY\x01\0\x76\0" + header + b"\0" * 64)
        with pytest.raises(WeightsError, match=message):
            read(tmp_path / "model.npz")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.npy", bytes(1 << 20))
    monkeypatch.setattr(npz, "MAX_FILE_BYTES", 2 << 20)
    with pytest.raises(WeightsError, match="holds more than"):
        read(tmp_path / "bomb.npz")
