"""What cannot be asked of the image processor is refused with a message that says why."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from npmnv2.errors import ImageError
from npmnv2.images.processor import MobileNetV2ImageProcessor


def noise(height=64, width=48, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("array", [np.full((40, 40, 3), 1.5), np.full((40, 40, 3), 255.0), np.full((40, 40, 3), -0.5)])
def test_unit_range_is_expected_without_rescaling(array):
    with pytest.raises(ImageError, match=r"must lie in 0…1 with these settings"):
        MobileNetV2ImageProcessor(do_rescale=False).to_array(array)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_unit_range_is_accepted_without_rescaling(value):
    array = MobileNetV2ImageProcessor(do_rescale=False, do_resize=False).to_array(np.full((40, 40, 3), value))
    assert array.dtype == np.float32


def test_a_black_float_image_is_accepted():
    assert (MobileNetV2ImageProcessor().to_array(np.zeros((40, 40, 3))) == -1).all()


def test_no_range_is_expected_where_nothing_is_scaled():
    x = np.full((40, 40, 3), -1.5)
    assert (MobileNetV2ImageProcessor.preset("raw").to_array(x) == np.float32(-1.5)).all()


@pytest.mark.parametrize("shape", [(3, 40, 3), (1, 40, 4)])
def test_channels_that_could_be_either_axis(shape):
    array = np.zeros(shape, np.uint8)
    with pytest.raises(ImageError, match="unclear; pass input_data_format"):
        MobileNetV2ImageProcessor()(array)
    for layout in ("channels_first", "channels_last"):
        assert MobileNetV2ImageProcessor()(array, input_data_format=layout).pixel_values[0].shape == (3, 224, 224)


def test_images_of_different_sizes_make_no_batch():
    processor = MobileNetV2ImageProcessor.preset("raw")
    with pytest.raises(ImageError, match=r"one size after preprocessing.*\(40, 40, 3\), \(40, 41, 3\)"):
        processor.to_array([noise(40, 40), noise(40, 41)])
    with pytest.raises(ImageError, match="one size"):
        processor([noise(40, 40), noise(40, 41)], return_tensors="np")
    with pytest.raises(ImageError, match="one size"):
        processor.to_array([])


def test_mean_of_another_number_of_channels():
    with pytest.raises(ImageError, match="one entry per channel, got an image of 1 channels"):
        MobileNetV2ImageProcessor(do_convert_rgb=False)(noise(40, 40, 1))


def test_pad_size_below_the_image():
    processor = MobileNetV2ImageProcessor.preset("raw", pad_size=(50, 50))
    with pytest.raises(ImageError, match=r"pad_size \(=50 × 50\) must be at least .* got 51 × 40"):
        processor.to_array(noise(51, 40))
    with pytest.raises(ImageError, match="pad_size"):
        processor.placement((51, 40))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((40, 40, 3), int), r"integer array of shape \(height, width\)"),
        (np.zeros((40, 40)), "got float64"),
        (np.full((40, 40), 256), r"labels must lie in 0…255, got 256…256"),
        (np.full((40, 40), -1), "labels must lie in"),
    ],
)
def test_bad_segmentation_maps(labels, message):
    with pytest.raises(ImageError, match=message):
        MobileNetV2ImageProcessor()(noise(), [labels])


def test_target_sizes_of_another_number():
    outputs = SimpleNamespace(logits=np.zeros((2, 3, 4, 4), np.float32))
    with pytest.raises(
        ValueError, match=r"target_sizes must have one \(height, width\) for each of the 2 images, got 3"
    ):
        MobileNetV2ImageProcessor().post_process_semantic_segmentation(outputs, [(9, 9)] * 3)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5,), (5, 5, 5), (1.5, 2), ("5", 5), 5, "ab"])
def test_target_sizes_that_are_none(size):
    outputs = SimpleNamespace(logits=np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"target_sizes must be pairs \(height, width\) of integers above 0, got"):
        MobileNetV2ImageProcessor().post_process_semantic_segmentation(outputs, [size])


@pytest.mark.parametrize("outputs", [None, SimpleNamespace(logits=None)])
def test_outputs_without_logits(outputs):
    with pytest.raises(ValueError, match="outputs must have logits, got"):
        MobileNetV2ImageProcessor().post_process_semantic_segmentation(outputs)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 0}, ValueError, "positive integers"),
        ({"size": {"shortest_edge": True}}, ValueError, "positive integers"),
        ({"size": 8193}, ValueError, r"size \(=.*\) must make an input of at most 67,108,864 pixels"),
        ({"pad_size": 200_000}, ValueError, r"pad_size \(=.*\) must make an input of at most"),
        ({"crop_size": (1, 67_108_865)}, ValueError, "crop_size .* must make an input of at most"),
        ({"size": {"max_height": 10**400, "max_width": 1}}, ValueError, "must make an input of at most"),
        ({"size": {"shortest_edge": 2.5}}, ValueError, "positive integers"),
        ({"size": {"width": 5}}, ValueError, r"size \(=\{'width': 5\}\) must be an integer"),
        ({"size": "large"}, ValueError, "must be an integer, a"),
        ({"crop_size": {"shortest_edge": 5}}, ValueError, r"crop_size .* \['height', 'width'\]"),
        ({"resample": 17}, ValueError, r"2 \(bilinear\).*half_pixel"),
        ({"resample": "bilinear"}, ValueError, "tf1"),
        ({"do_resize": "yes"}, TypeError, r"do_resize \(='yes'\) must be True or False"),
        ({"rescale_factor": float("nan")}, ValueError, "finite number"),
        ({"rescale_factor": "1/255"}, ValueError, "finite number"),
        ({"image_mean": [0.5, None, 0.5]}, ValueError, "finite number"),
        ({"image_std": [0.5, 0.0, 0.5]}, ValueError, "must not be 0"),
        ({"central_fraction": 0.0}, ValueError, "above 0 and at most 1"),
        ({"central_fraction": 1.5}, ValueError, "above 0 and at most 1"),
    ],
)
def test_bad_settings(arguments, error, message):
    with pytest.raises(error, match=message):
        MobileNetV2ImageProcessor(**arguments)
    with pytest.raises(error, match=message):
        MobileNetV2ImageProcessor()(noise(), **arguments)


def test_unknown_keys_are_named_together():
    with pytest.raises(ValueError, match=r"\['do_flip', 'sise'\]; known are"):
        MobileNetV2ImageProcessor.from_dict({"sise": 3, "do_flip": True, "do_resize": False})
    with pytest.raises(ValueError, match="do_flip"):
        MobileNetV2ImageProcessor()(noise(), do_flip=True)


def test_bookkeeping_of_transformers_is_accepted():
    config = {"image_processor_type": "MobileNetV2ImageProcessorFast", "do_pad": None, "device": None}
    assert MobileNetV2ImageProcessor.from_dict(config) == MobileNetV2ImageProcessor()


def test_the_largest_input():
    for size in (8192, (8192, 8192), (1, 67_108_864)):
        assert MobileNetV2ImageProcessor(size=size, crop_size=8192)


def test_presets_that_are_no_names():
    with pytest.raises(ValueError, match=r"preset \(=\[\]\) must be one of hf"):
        MobileNetV2ImageProcessor.from_preprocessing({"preset": []})


def test_unknown_preset():
    with pytest.raises(ValueError, match=r"preset \(='torch'\) must be one of hf, slim, keras, raw, deeplab"):
        MobileNetV2ImageProcessor.preset("torch")
    with pytest.raises(ValueError, match="positive integers"):
        MobileNetV2ImageProcessor.preset("hf", 0)


@pytest.mark.parametrize("argument", ["data_format", "input_data_format"])
def test_unknown_layout(argument):
    with pytest.raises(ValueError, match=rf"{argument} \(='NHWC'\) must be 'channels_first' or 'channels_last'"):
        MobileNetV2ImageProcessor()(noise(), **{argument: "NHWC"})


def test_unknown_tensors():
    with pytest.raises(ValueError, match=r"return_tensors \(='mx'\) must be None or one of np, pt, tf, jax"):
        MobileNetV2ImageProcessor()(noise(), return_tensors="mx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object, got list"),
        ("[" * 200_000, "is not JSON"),
        (" " * (1 << 20) + "{}", "must have at most 1048576 bytes"),
        ('{"pad_size": {"height": 200000, "width": 200000}}', "must make an input of at most"),
    ],
    ids=["cut off", "list", "nested", "large", "padding"],
)
def test_bad_config_files(tmp_path, text, message):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        MobileNetV2ImageProcessor.from_pretrained(tmp_path)


def test_missing_config_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a directory with a preprocessor_config\.json"):
        MobileNetV2ImageProcessor.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"google/mobilenet_v2_1\.0_224"):
        MobileNetV2ImageProcessor.from_pretrained("google/mobilenet_v2_1.0_224")


def test_the_hf_preset_of_an_input_that_is_not_square():
    processor = MobileNetV2ImageProcessor.preset("hf", (64, 96))
    assert (processor.size, processor.crop_size) == ({"shortest_edge": 128}, {"height": 64, "width": 96})


def test_reprs_are_short():
    assert (
        repr(MobileNetV2ImageProcessor.preset("slim", (64, 96))) == "MobileNetV2ImageProcessor.preset('slim', (64, 96))"
    )
    own = MobileNetV2ImageProcessor(do_center_crop=False, image_mean=0.25)
    assert repr(own) == "MobileNetV2ImageProcessor(do_center_crop=False, image_mean=0.25)"
    assert eval(repr(own)) == own


def test_features_complete_their_entries():
    features = MobileNetV2ImageProcessor()(noise(), return_tensors="np")
    assert {"pixel_values", "keys"} <= set(dir(features))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (224, 224)),
        ({"crop_size": {"height": 65, "width": 97}}, (65, 97)),
        ({"do_center_crop": False, "size": {"height": 96, "width": 160}}, (96, 160)),
        ({"do_center_crop": False}, (33, 33)),
        ({"pad_size": {"height": 513, "width": 500}}, (513, 500)),
    ],
)
def test_size_of_the_networks_input(settings, expected):
    assert MobileNetV2ImageProcessor(**settings).output_size(33) == expected
