"""A small model and a folder of photos of which some are near duplicates."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.lab.random_weights import unit_gain_weights

CONFIG = MobileNetV2Config(depth_multiplier=0.35, image_size=64, id2label={0: "cat", 1: "dog"})


@pytest.fixture(scope="session")
def model() -> MobileNetV2ForImageClassification:
    weights = unit_gain_weights(MobileNetV2ForImageClassification.build(CONFIG))
    return MobileNetV2ForImageClassification(CONFIG, weights)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """Soft spots of color."""
    spots = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos, the first also smaller, and byte for byte in a folder inside."""
    place = tmp_path / "photos"
    (place / "in").mkdir(parents=True)
    picture(1, (192, 160)).save(place / "one.png")
    picture(1).save(place / "one small.png")
    picture(2).save(place / "two.bmp")
    shutil.copy(place / "one.png", place / "in" / "copy.png")
    (place / "notes.txt").write_text("no photo")
    return place
