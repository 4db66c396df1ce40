"""What bfloat16 costs real networks on real photos, beside their float32.

Both have the same bits on every processor, so the figures below are those of any machine. Bounds leave a third more
error than was measured, for other, equally good ways to round.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import require_bfloat16_engine

from npmnv2 import (
    MobileNetV2ForImageClassification,
    MobileNetV2ForObjectDetection,
    MobileNetV2ForSemanticSegmentation,
)
from npmnv2.kernels import overlaps
from npmnv2.lab.comparison import decibels
from npmnv2.weights_tools import read

require_bfloat16_engine()
PHOTOS = (
    "bird_segmentation.bmp", "cat.bmp", "cats_and_dogs.jpg", "coco_000000039769.png", "dog_segmentation.bmp",
    "grace_hopper.bmp", "parrot.jpg", "segmentation_input_rotation0.jpg", "sunflower.bmp",
)  # fmt: skip


@pytest.fixture
def photos(shared_data: Path) -> list[str]:
    return [str(shared_data / "photos" / name) for name in PHOTOS]


def both(kind: Any, path: Path) -> tuple[Any, Any]:
    """A network in float32 and in bfloat16."""
    checkpoint = read(path)
    single, half = (kind.from_checkpoint(checkpoint, precision=precision) for precision in ("float32", "bf16"))
    return single, half


def snr(exact: np.ndarray, found: np.ndarray) -> float:
    """Signal-to-noise ratio in dB."""
    return decibels(float(np.square(exact).sum()), float(np.square(exact - found).sum()))


def test_a_classifier_names_the_same_class(shared_data: Path, photos: list[str]) -> None:
    """The best class differs on one photo of nine, of cats and dogs, where two classes are 3 % apart."""
    path = shared_data / "weights" / "classification" / "mobilenet_v2_1.0_224_slim_variables.npz"
    single, half = both(MobileNetV2ForImageClassification, path)
    same = []
    for photo in photos:
        x = single.prepare([photo])
        exact, found = (model.run(x, ["predictions"])["predictions"][0] for model in (single, half))
        assert snr(exact, found) > 22.7, photo  # 25.2 … 31.4
        assert found.argmax() in exact.argsort()[-2:], photo
        same.append(exact.argmax() == found.argmax())
    assert sum(same) >= 8


@pytest.mark.parametrize(
    ("file", "count", "differing"),
    [
        ("deeplabv3.tflite", 9, 0.04),  # 0.0009 … 0.030, on average 0.008
        ("deeplabv3_mnv2_pascal_trainval_tfjs", 4, 0.0062),  # 0.0006 … 0.0046, on average 0.0025
    ],
)
def test_deeplab_gives_nearly_all_pixels_the_same_class(
    shared_data: Path, photos: list[str], file: str, count: int, differing: float
) -> None:
    single, half = both(MobileNetV2ForSemanticSegmentation, shared_data / "weights" / "segmentation" / file)
    for photo in photos[:count]:
        exact, found = (model.predict(photo).label_map for model in (single, half))
        assert 0 < np.mean(exact != found) < differing, photo


def test_ssdlite_finds_the_same_boxes(shared_data: Path, photos: list[str]) -> None:
    path = shared_data / "weights" / "detection" / "coco_ssdlite_mobilenet_v2_tfjs"
    single, half = both(MobileNetV2ForObjectDetection, path)
    boxes = 0
    for photo in photos:
        exact, found = (model.predict(photo) for model in (single, half))
        np.testing.assert_array_equal(found.ids, exact.ids, photo)
        np.testing.assert_allclose(found.scores, exact.scores, atol=0.06, err_msg=photo)  # at most 0.045
        assert (np.diag(overlaps(exact.boxes, found.boxes)) > 0.978).all(), photo  # at least 0.984
        boxes += len(exact)
    assert boxes == 13
