"""Photos of two and three classes, and a small network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.lab.random_weights import unit_gain_weights

CONFIG = MobileNetV2Config(depth_multiplier=0.35, image_size=64, id2label={0: "cat", 1: "dog"})


@pytest.fixture(scope="session")
def network() -> MobileNetV2ForImageClassification:
    weights = unit_gain_weights(MobileNetV2ForImageClassification.build(CONFIG))
    return MobileNetV2ForImageClassification(CONFIG, weights)


@pytest.fixture(scope="session")
def digits() -> dict[str, list[Image.Image]]:
    """40 handwritten digits of each of three classes, which scikit-learn ships as 8×8 pixels, enlarged."""
    found = pytest.importorskip("sklearn.datasets").load_digits()
    return {
        str(digit): [
            Image.fromarray((pixels * 255 / 16).astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
            for pixels in found.images[found.target == digit][:40]
        ]
        for digit in (0, 4, 7)
    }


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, list[Image.Image]]) -> Path:
    """Eight digits of each class as files."""
    root = tmp_path_factory.mktemp("photos")
    for label, images in digits.items():
        (root / label).mkdir()
        for number, image in enumerate(images[:8]):
            image.save(root / label / f"{number}.png")
    return root
