"""Class activation maps: the map's mean is the logit less the bias, and every pixel is where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from quantized_networks import quantized_checkpoint
from weight_files import random_checkpoint

from npmnv2 import MobileNetV2ForImageClassification, MobileNetV2ImageProcessor
from npmnv2.errors import ArgumentError
from npmnv2.kernels import resize_bilinear
from npmnv2.models.heat_map import class_index

PHOTO = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)
FIELDS = [{}, {"pooling_window": 2}, {"pooling_window": 2, "pooling_stride": 2, "image_size": 160}]


def network(**fields) -> MobileNetV2ForImageClassification:
    checkpoint = random_checkpoint(labels=("cat", "dog", "dog"), **{"image_size": 128, **fields})
    checkpoint.weights["predictions/bias"] = np.array([0.5, -0.25, 2], np.float32)
    return MobileNetV2ForImageClassification.from_checkpoint(checkpoint, backend="numpy")


@pytest.mark.parametrize("fields", FIELDS, ids=str)
@pytest.mark.parametrize("label", [None, "cat", 2])
def test_the_mean_of_the_map_is_the_logit_less_the_bias(fields, label) -> None:
    model = network(**fields)
    found = model.explain(PHOTO, label)
    logits = model.predict(PHOTO).logits
    assert found.index == {None: logits.argmax(), "cat": 0, 2: 2}[label]
    assert (found.logit, found.bias) == (logits[found.index], [0.5, -0.25, 2][found.index])
    kernel = model.weights["predictions/kernel"][:, found.index]
    largest = np.abs(kernel).sum() * 6
    bound = 4 * np.finfo(np.float32).eps * (len(kernel) + 2) * largest
    assert abs(found.contributions.mean() - (found.logit - found.bias)) <= bound
    assert np.ptp(found.contributions) > 100 * bound


def test_a_quantized_network_rounds_the_mean_and_the_logit() -> None:
    model = MobileNetV2ForImageClassification.from_checkpoint(quantized_checkpoint("int8", size=128))
    found = model.explain(PHOTO)
    values, kernel = model.quantization.values, model.folded_weights()["predictions/kernel"][:, found.index]
    slack = values["predictions"].scale[0] / 2 + values["global_average_pooling2d"].scale[0] / 2 * np.abs(kernel).sum()
    assert abs(found.contributions.mean() - (found.logit - found.bias)) <= 1.01 * slack


@pytest.mark.parametrize("transform", ["hf", "slim", "keras", "raw", "deeplab"])
def test_heat_lies_where_the_network_looked(transform) -> None:
    model = network()
    photo = PHOTO.astype(np.float32) / 255 if transform == "raw" else PHOTO
    found = model.explain(photo, 0, transform=transform)
    assert found.heat.shape == (90, 140)
    outside = np.ones((90, 140), bool)
    outside[found.seen] = False
    assert (found.heat[outside] == 0).all()
    assert outside.any() == (transform in ("hf", "slim"))
    inside = found.heat[found.seen]
    assert found.contributions.min() <= inside.min() < inside.max() <= found.contributions.max()


def test_a_stretched_map_lies_as_a_resize_puts_it() -> None:
    found = network().explain(PHOTO, 0, transform="keras")
    expected = resize_bilinear(found.contributions[None, ..., None], (90, 140), "half_pixel")[0, ..., 0]
    np.testing.assert_allclose(found.heat, expected, rtol=1e-5, atol=1e-6)


def test_a_cropped_map_lies_where_the_crop_was() -> None:
    model = network()
    processor = MobileNetV2ImageProcessor(do_resize=False, crop_size={"height": 64, "width": 96})
    whole = model.explain(PHOTO, 0, transform=processor)
    assert whole.seen == (slice(13, 77), slice(22, 118))
    part = model.explain(PHOTO[whole.seen], 0, transform=processor)
    np.testing.assert_array_equal(whole.contributions, part.contributions)
    np.testing.assert_allclose(whole.heat[whole.seen], part.heat, rtol=1e-5, atol=1e-6)


def test_classes_by_name_and_number() -> None:
    labels = ("cat", "dog", "dog", "owl")
    assert [class_index(labels, label) for label in ("cat", "owl", 2, np.int64(1))] == [0, 3, 2, 1]
    for wrong, words in (("dog", "1, 2"), ("cta", "cat"), (4, "4 classes"), (-1, "number"), (True, "True")):
        with pytest.raises(ArgumentError, match=words):
            class_index(labels, wrong)


def test_a_network_without_classes_is_refused() -> None:
    model = MobileNetV2ForImageClassification.from_checkpoint(random_checkpoint("features"), backend="numpy")
    with pytest.raises(ArgumentError, match="num_labels"):
        model.explain(PHOTO)
