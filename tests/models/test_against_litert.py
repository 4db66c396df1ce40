"""Real quantized networks on real photos and on noise: LiteRT's outputs to the last bit, in both arithmetics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tflite_ops import ARITHMETICS, interpreter

import npmnv2

FILES = [
    "classification/mobilenet_v2_1.0_224_quant.tflite",
    "classification/tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "segmentation/deeplabv3_mnv2_pascal_quant.tflite",
    "detection/mobile_object_localizer_v1_1_default_1.tflite",
]
PHOTOS = [
    "bird_segmentation.bmp",
    "cat.bmp",
    "cats_and_dogs.jpg",
    "coco_000000039769.png",
    "dog_segmentation.bmp",
    "grace_hopper.bmp",
    "parrot.jpg",
    "segmentation_input_rotation0.jpg",
    "sunflower.bmp",
]
# LiteRT's plain kernels, the reference, are slow; of the segmentation network, more than a second for each image.
HEAVY, HEAVY_IMAGES = (FILES[2], "reference"), 3
NOISE = {"xnnpack": 200, "reference": 25}

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: Path(file).stem)
every_arithmetic = pytest.mark.parametrize("arithmetic", ARITHMETICS)


class Pair:
    """A file in LiteRT and here."""

    def __init__(self, path: Path, arithmetic: str, backend: str = "auto") -> None:
        self.theirs = interpreter(path, arithmetic)
        self.ours = npmnv2.load(path, arithmetic=arithmetic, backend=backend)
        self.shape = self.ours.quantization.interface.shape[1:]

    def resize(self, batch: int) -> None:
        """Make LiteRT take this many images."""
        self.theirs.resize_tensor_input(self.theirs.get_input_details()[0]["index"], (batch, *self.shape))
        self.theirs.allocate_tensors()

    def compare(self, x: np.ndarray) -> None:
        """Both results of one input, to the last bit."""
        self.theirs.set_tensor(self.theirs.get_input_details()[0]["index"], x)
        self.theirs.invoke()
        expected = [self.theirs.get_tensor(detail["index"]) for detail in self.theirs.get_output_details()]
        result = self.ours.invoke(x)
        for ours, theirs in zip(result if isinstance(result, tuple) else (result,), expected, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def photo(path: Path, shape) -> np.ndarray:
    height, width, _ = shape
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))[None]


def noise(seed: int, shape) -> np.ndarray:
    """Every third image has large patches, as photos do."""
    rng = np.random.default_rng(seed)
    patch = 16 if seed % 3 == 0 else 1
    small = rng.integers(0, 256, (1, -(-shape[0] // patch), -(-shape[1] // patch), shape[2]), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(patch, 1).repeat(patch, 2)[:, : shape[0], : shape[1]])


@pytest.mark.parametrize("backend", ["auto", "numpy"])
@every_arithmetic
@every_file
def test_a_photo_and_noise(shared_data, file, arithmetic, backend) -> None:
    if (file, arithmetic) == HEAVY:
        pytest.skip("a second and more for each image: among the slow ones")
    pair = Pair(shared_data / "weights" / file, arithmetic, backend)
    pair.compare(photo(shared_data / "photos" / "cats_and_dogs.jpg", pair.shape))
    pair.compare(noise(1, pair.shape))


@every_arithmetic
def test_photos_for_a_detector(shared_data, arithmetic) -> None:
    """Boxes, classes, scores and count, from the operator that chooses them."""
    pair = Pair(shared_data / "weights" / FILES[3], arithmetic)
    for name in PHOTOS:
        pair.compare(photo(shared_data / "photos" / name, pair.shape))


@pytest.mark.slow
@every_arithmetic
@every_file
def test_all_photos(shared_data, file, arithmetic) -> None:
    pair = Pair(shared_data / "weights" / file, arithmetic)
    for name in PHOTOS[: HEAVY_IMAGES if (file, arithmetic) == HEAVY else None]:
        pair.compare(photo(shared_data / "photos" / name, pair.shape))


@pytest.mark.slow
@every_arithmetic
@every_file
def test_much_noise(shared_data, file, arithmetic) -> None:
    pair = Pair(shared_data / "weights" / file, arithmetic)
    for seed in range(HEAVY_IMAGES if (file, arithmetic) == HEAVY else NOISE[arithmetic]):
        pair.compare(noise(seed, pair.shape))
    for value in (0, 255) if (file, arithmetic) == HEAVY else (0, 127, 128, 255):
        pair.compare(np.full((1, *pair.shape), value, np.uint8))


@pytest.mark.slow
@every_arithmetic
def test_batches(shared_data, arithmetic) -> None:
    """LiteRT resizes the segmentation network only: the classifiers' RESHAPE is to one row."""
    pair = Pair(shared_data / "weights" / FILES[2], arithmetic)
    pair.resize(3)
    pair.compare(np.concatenate([noise(seed, pair.shape) for seed in range(3)]))


@every_arithmetic
@pytest.mark.parametrize("file", FILES[:2], ids=lambda file: Path(file).stem)
def test_a_batch_is_its_images_one_by_one(shared_data, file, arithmetic) -> None:
    pair = Pair(shared_data / "weights" / file, arithmetic)
    images = [noise(seed, pair.shape) for seed in range(3)]
    single = np.concatenate([pair.ours.invoke(image) for image in images])
    np.testing.assert_array_equal(pair.ours.invoke(np.concatenate(images)), single)
