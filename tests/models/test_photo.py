"""Photos on their way through `predict`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from npmnv2 import MobileNetV2ImageProcessor
from npmnv2.models.photo import Photo, as_rgb


def test_a_photo_knows_its_file_its_size_and_its_place(tmp_path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (60, 40)).save(path)
    photo = Photo.load(path, MobileNetV2ImageProcessor.preset("ssd", 100))
    assert (photo.size, photo.source, photo.name) == ((40, 60), str(path), str(path))
    assert photo.placement is not None
    assert photo.placement.scale == (100 / 40, 100 / 60)
    assert photo.network_input(MobileNetV2ImageProcessor.preset("ssd", 100)).shape == (1, 100, 100, 3)
    assert Photo.load(np.zeros((1, 50, 3), np.uint8), MobileNetV2ImageProcessor.preset("ssd")).source is None


@pytest.mark.parametrize(
    "pixels", [np.full((2, 3, 1), 0.5), np.full((2, 3, 3), 127.6), np.full((2, 3, 3), 128, np.uint8)]
)
def test_all_kinds_of_pixels_become_rgb(pixels: np.ndarray) -> None:
    rgb = as_rgb(pixels)
    assert (rgb.shape, rgb.dtype) == ((2, 3, 3), np.uint8)
    assert (rgb == 128).all()
