"""A small model and a folder of photos for the commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.weights.native import write_h5

CONFIG = MobileNetV2Config(depth_multiplier=0.35, image_size=64, id2label={0: "cat", 1: "dog"})


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "m.h5"
    weights = unit_gain_weights(MobileNetV2ForImageClassification.build(CONFIG))
    write_h5(MobileNetV2ForImageClassification(CONFIG, weights).to_checkpoint(), path)
    return str(path)


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """Compile the kernels before any test, so that no test sees the message about it by chance."""
    MobileNetV2ForImageClassification(CONFIG, seed=0).predict(np.zeros((64, 64, 3), np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.JPG", "c.bmp"):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no photo")
    return tmp_path
