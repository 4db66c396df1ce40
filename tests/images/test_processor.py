"""The image processor against transformers, TensorFlow, Keras and Pillow."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from npmnv2.images.processor import PRESETS, MobileNetV2FeatureExtractor, MobileNetV2ImageProcessor, load_image

SIDES = st.integers(1, 70)
SEEDS = st.integers(0, 2**32 - 1)


def photo(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.fixture(scope="module")
def reference():
    """The class of transformers that works with Pillow."""
    module = pytest.importorskip("transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2")
    return module.MobileNetV2ImageProcessorPil


def assert_same_bits(comp, ref):
    comp, ref = np.asarray(comp), np.asarray(ref)
    assert comp.shape == ref.shape
    assert comp.dtype == ref.dtype
    npt.assert_array_equal(comp, ref)


# -- parity with transformers ------------------------------------------------------------------------------------------

sizes = st.one_of(
    st.builds(lambda edge: {"shortest_edge": edge}, SIDES),
    st.builds(lambda h, w: {"height": h, "width": w}, SIDES, SIDES),
    st.builds(lambda h, w: {"max_height": h, "max_width": w}, st.integers(70, 90), st.integers(70, 90)),
)
options = st.fixed_dictionaries(
    {
        "do_resize": st.booleans(),
        "size": sizes,
        "resample": st.sampled_from(list(Image.Resampling)),
        "do_center_crop": st.booleans(),
        "crop_size": st.builds(lambda h, w: {"height": h, "width": w}, SIDES, SIDES),
        "do_rescale": st.booleans(),
        "rescale_factor": st.sampled_from([1 / 255, 1 / 127.5, 0.1]),
        "do_normalize": st.booleans(),
        "image_mean": st.sampled_from([0.5, [0.5, 0.5, 0.5], [0.485, 0.456, 0.406]]),
        "image_std": st.sampled_from([0.5, [0.5, 0.5, 0.5], [0.229, 0.224, 0.225]]),
    }
)


@settings(max_examples=120, deadline=None)
@given(st.integers(5, 70), st.integers(5, 70), SEEDS, options, st.sampled_from(["first", "last", "explicit"]))
def test_bit_equal_to_transformers(reference, height, width, seed, arguments, layout):
    image = photo(height, width, seed=seed)
    call = {"return_tensors": "np"}
    if layout == "first":
        image = image.transpose(2, 0, 1)
    if layout == "explicit":
        call["input_data_format"] = "channels_last"
    ref = reference(**arguments)(image, **call).pixel_values
    comp = MobileNetV2ImageProcessor(**arguments)(image, **call).pixel_values
    assert_same_bits(comp, ref)


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 70), st.integers(5, 70), SEEDS, options)
def test_overrides_of_a_call_bit_equal_to_transformers(reference, height, width, seed, arguments):
    image = photo(height, width, seed=seed)
    ref = reference()(image, return_tensors="np", **arguments).pixel_values
    comp = MobileNetV2ImageProcessor()(image, return_tensors="np", **arguments).pixel_values
    assert_same_bits(comp, ref)


@pytest.mark.parametrize("size", [(480, 640), (640, 481), (100, 300), (225, 224), (33, 500)])
def test_defaults_bit_equal_to_transformers(reference, size):
    image = Image.fromarray(photo(*size))
    assert_same_bits(
        MobileNetV2ImageProcessor()(image, return_tensors="np").pixel_values,
        reference()(image, return_tensors="np").pixel_values,
    )


def test_lists_and_batches_bit_equal_to_transformers(reference):
    images = [photo(50, 60), photo(300, 240, seed=1)]
    comp = MobileNetV2ImageProcessor()(images)
    ref = reference()(images)
    assert len(comp.pixel_values) == 2
    for a, b in zip(comp.pixel_values, ref.pixel_values):
        assert_same_bits(a, b)
    batch = np.stack([photo(40, 30, seed=seed) for seed in range(3)])
    assert_same_bits(
        MobileNetV2ImageProcessor()(batch, return_tensors="np").pixel_values,
        reference()(batch, return_tensors="np").pixel_values,
    )


def test_one_channel_bit_equal_to_transformers(reference):
    gray = photo(60, 45, 1)
    arguments = {"do_convert_rgb": False, "image_mean": 0.5, "image_std": 0.25}
    ref = reference(**arguments)(gray, return_tensors="np").pixel_values
    assert ref.shape == (1, 1, 224, 224)
    assert_same_bits(MobileNetV2ImageProcessor(**arguments)(gray, return_tensors="np").pixel_values, ref)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_whole_numbers_of_other_types_bit_equal_to_transformers(reference, dtype):
    image = photo(60, 45).astype(dtype)
    for resize in (True, False):
        assert_same_bits(
            MobileNetV2ImageProcessor(do_resize=resize)(image, return_tensors="np").pixel_values,
            reference(do_resize=resize)(image, return_tensors="np").pixel_values,
        )


@pytest.mark.parametrize("resize", [True, False])
def test_unit_range_bit_equal_to_transformers(reference, resize):
    image = np.random.default_rng(0).random((60, 45, 3), dtype=np.float32)
    arguments = {"do_rescale": False, "do_resize": resize}
    assert_same_bits(
        MobileNetV2ImageProcessor(**arguments)(image, return_tensors="np").pixel_values,
        reference(**arguments)(image, return_tensors="np").pixel_values,
    )


def _with_transparent_color():
    image = Image.fromarray(photo(40, 50)).quantize(16)
    image.info["transparency"] = 3
    return image


@pytest.mark.parametrize(
    "image",
    [
        *(Image.fromarray(photo(40, 50, 4), "RGBA").convert(mode) for mode in ("RGBA", "LA", "RGB", "L", "CMYK", "1")),
        Image.fromarray(photo(40, 50)).quantize(16),
        _with_transparent_color(),
    ],
    ids=lambda image: image.mode,
)
def test_conversion_to_rgb_bit_equal_to_transformers(reference, image):
    ref = reference(do_convert_rgb=True)(image, return_tensors="np").pixel_values
    assert_same_bits(MobileNetV2ImageProcessor()(image, return_tensors="np").pixel_values, ref)


@pytest.mark.parametrize("channels", [1, 4])
def test_conversion_of_arrays_bit_equal_to_transformers(reference, channels):
    image = photo(40, 50, channels)
    ref = reference(do_convert_rgb=True)(image, return_tensors="np").pixel_values
    assert_same_bits(MobileNetV2ImageProcessor()(image, return_tensors="np").pixel_values, ref)


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 70), st.integers(5, 70), SEEDS, options, st.booleans())
def test_segmentation_maps_bit_equal_to_transformers(reference, height, width, seed, arguments, reduce_labels):
    image = photo(height, width, seed=seed)
    labels = photo(height, width, 1, seed=seed + 1)[..., 0] % 22
    labels[labels == 21] = 255
    arguments["do_reduce_labels"] = reduce_labels
    ref = reference(**arguments)(image, labels.copy(), return_tensors="np")
    comp = MobileNetV2ImageProcessor(**arguments)(image, labels, return_tensors="np")
    assert_same_bits(comp.pixel_values, ref.pixel_values)
    assert_same_bits(comp.labels, ref.labels)


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("target_sizes", [None, [(60, 41), (3, 5)], np.array([[33, 33], [65, 80]])])
def test_post_processing_equal_to_transformers(reference, target_sizes, scores):
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(3).normal(size=(2, 21, 9, 11)).astype(np.float32)
    sizes = target_sizes if target_sizes is None else [tuple(map(int, size)) for size in target_sizes]
    ref = reference().post_process_semantic_segmentation(SimpleNamespace(logits=torch.tensor(logits)), sizes, scores)
    comp = MobileNetV2ImageProcessor().post_process_semantic_segmentation(
        SimpleNamespace(logits=logits), target_sizes, scores
    )
    assert len(comp) == 2
    for a, b in zip(comp, ref):
        if scores:
            assert a.segmentation_scores.shape == tuple(b.segmentation_scores.shape)
            npt.assert_allclose(a.segmentation_scores, b.segmentation_scores.numpy(), atol=4e-6)
            a, b = a.segmentation, b.segmentation
        # With random logits no two classes are as close as the rounding.
        assert_same_bits(a, b.numpy())


def test_config_file_is_the_one_of_transformers(reference, tmp_path):
    comp = MobileNetV2ImageProcessor(size={"height": 30, "width": 40}, resample=3, do_reduce_labels=True)
    ref = reference(size={"height": 30, "width": 40}, resample=3, do_reduce_labels=True)
    assert json.loads(comp.to_json_string()) == json.loads(ref.to_json_string())
    ref.save_pretrained(tmp_path / "theirs")
    assert MobileNetV2ImageProcessor.from_pretrained(tmp_path / "theirs") == comp
    comp.save_pretrained(tmp_path / "ours")
    assert reference.from_pretrained(tmp_path / "ours").to_dict() == ref.to_dict()


# -- presets -----------------------------------------------------------------------------------------------------------


def slim_evaluation(tf, image, size):
    """TF-slim's preprocessing for evaluation, in TensorFlow."""
    x = tf.image.convert_image_dtype(tf.constant(image), tf.float32)
    x = tf.image.central_crop(x, central_fraction=0.875)
    x = tf.compat.v1.image.resize_bilinear(x[None], size, align_corners=False)[0]
    return ((x - 0.5) * 2.0).numpy()


@settings(max_examples=40, deadline=None)
@given(st.integers(32, 150), st.integers(32, 150), st.tuples(SIDES, SIDES), SEEDS)
def test_slim_preset_bit_equal_to_tensorflow(height, width, size, seed):
    tf = pytest.importorskip("tensorflow")
    image = photo(height, width, seed=seed)
    comp = MobileNetV2ImageProcessor.preset("slim", size).to_array(image)
    assert_same_bits(comp[0], slim_evaluation(tf, image, size))


@pytest.mark.parametrize("size", [(600, 451), (2001, 1500)])
def test_slim_preset_of_a_photo_bit_equal_to_tensorflow(size):
    tf = pytest.importorskip("tensorflow")
    image = photo(*size)
    comp = MobileNetV2ImageProcessor.preset("slim", 224).to_array(image)
    assert_same_bits(comp[0], slim_evaluation(tf, image, (224, 224)))


@pytest.mark.parametrize(("variant", "align_corners"), [("tf1", False), ("tf1_align_corners", True)])
def test_tensorflow_resize_without_scaling(variant, align_corners):
    tf = pytest.importorskip("tensorflow")
    image = photo(120, 91)
    settings_ = {"resample": variant, "size": (300, 77), "do_center_crop": False, "do_rescale": False}
    comp = MobileNetV2ImageProcessor(**settings_, do_normalize=False).to_array(image)
    ref = tf.compat.v1.image.resize_bilinear(image[None].astype(np.float32), (300, 77), align_corners=align_corners)
    npt.assert_allclose(comp, ref.numpy(), atol=255 * 2**-23)


def test_keras_preset_bit_equal_to_keras():
    keras = pytest.importorskip("keras")
    image = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)  # holds every value
    ref = keras.applications.mobilenet_v2.preprocess_input(image.astype(np.float32))
    comp = MobileNetV2ImageProcessor.preset("keras", do_resize=False).to_array(image)
    assert_same_bits(comp[0], ref)


def test_keras_preset_resizes_to_the_size():
    image = photo(50, 70)
    resized = np.asarray(Image.fromarray(image).resize((96, 64), Image.Resampling.BILINEAR))
    comp = MobileNetV2ImageProcessor.preset("keras", (64, 96)).to_array(image)
    assert_same_bits(comp[0], resized.astype(np.float32) / np.float32(127.5) - np.float32(1))


def test_raw_preset_passes_pixels_through():
    x = np.random.default_rng(0).normal(size=(2, 40, 50, 3)).astype(np.float32)
    assert_same_bits(MobileNetV2ImageProcessor.preset("raw").to_array(x), x)
    assert_same_bits(
        MobileNetV2ImageProcessor.preset("raw")(x, return_tensors="np").pixel_values, x.transpose(0, 3, 1, 2)
    )


@pytest.mark.parametrize("size", [(480, 640), (640, 427), (100, 100), (37, 2000)])
def test_deeplab_preset_fits_and_pads(size):
    image = photo(*size)
    processor = MobileNetV2ImageProcessor.preset("deeplab", 257)
    comp = processor.to_array(image)[0]
    height, width = (int(side * 257 / max(size)) for side in size)
    ref = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    assert comp.shape == (257, 257, 3)
    npt.assert_allclose(comp[:height, :width], ref.astype(np.float32) * (2 / 255) - 1, atol=1.2e-7)
    assert not comp[height:].any()
    assert not comp[:, width:].any()
    assert processor.placement(size).content == (slice(0, height), slice(0, width))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_files(name, tmp_path):
    processor = MobileNetV2ImageProcessor.preset(name, (96, 128))
    processor.save_pretrained(tmp_path)
    assert MobileNetV2ImageProcessor.from_pretrained(tmp_path) == processor
    described = json.loads(json.dumps(processor.to_preprocessing()))
    assert described == {"preset": name, "size": [96, 128]}
    assert MobileNetV2ImageProcessor.from_preprocessing(described, 224) == processor


def test_other_settings_survive_as_settings():
    processor = MobileNetV2ImageProcessor.preset("slim", central_fraction=0.5, image_mean=[0.1, 0.2, 0.3])
    described = json.loads(json.dumps(processor.to_preprocessing()))
    assert "preset" not in described
    assert MobileNetV2ImageProcessor.from_preprocessing(described, 96) == processor


def test_preprocessing_of_a_weight_file():
    from_preprocessing = MobileNetV2ImageProcessor.from_preprocessing
    assert from_preprocessing({}, 160) == MobileNetV2ImageProcessor.preset("hf", 160)
    assert from_preprocessing({}) == MobileNetV2ImageProcessor()
    expected = MobileNetV2ImageProcessor.preset("slim", 96, central_fraction=1.0)
    assert from_preprocessing({"preset": "slim", "central_fraction": 1.0}, 96) == expected


# -- where the photo ends up -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(120, 160), (161, 120), (300, 301)])
@pytest.mark.parametrize("name", ["hf", "slim", "keras", "deeplab"])
def test_placement_finds_points_of_the_photo(name, size):
    """A ramp along an axis tells at every input pixel which row (or column) of the photo it shows."""
    processor = MobileNetV2ImageProcessor.preset(name, 96, do_rescale=False, do_normalize=False)
    placement = processor.placement(size)
    rows, columns = placement.content
    tf_edge = name == "slim"  # TensorFlow 1 looks at the upper left corner of a pixel, not at its middle
    for axis in (0, 1):
        ramp = np.broadcast_to(np.expand_dims(np.arange(size[axis], dtype=np.float32), 1 - axis), size) * np.float32(
            255 / size[axis]
        )
        image = np.repeat(np.rint(ramp).astype(np.uint8)[:, :, None], 3, axis=2)
        line = processor.to_array(image)[0][rows, columns, 0].mean(1 - axis)
        seen = line * size[axis] / 255
        first = (rows, columns)[axis].start
        at = np.arange(len(line)) + first + (0 if tf_edge else 0.5)
        shown = (at - placement.offset[axis]) / placement.scale[axis] - (0 if tf_edge else 0.5)
        inner = slice(2, -2)  # smoothing is one-sided at the photo's edges
        npt.assert_allclose(seen[inner], shown[inner], atol=1.5 * size[axis] / 255 + 0.1)


@settings(max_examples=60, deadline=None)
@given(st.integers(32, 90), st.integers(32, 90), st.sampled_from(sorted(PRESETS)), st.integers(32, 80))
def test_placement_has_the_size_of_the_input(height, width, name, size):
    processor = MobileNetV2ImageProcessor.preset(name, size)
    placement = processor.placement((height, width))
    assert placement.size == processor.to_array(photo(height, width)).shape[1:3]
    rows, columns = placement.content
    assert 0 <= rows.start < rows.stop <= placement.size[0]
    assert 0 <= columns.start < columns.stop <= placement.size[1]


def test_a_small_photo_is_padded_all_around():
    processor = MobileNetV2ImageProcessor(do_resize=False)
    assert processor.placement((51, 224)).content == (slice(87, 138), slice(0, 224))
    ones = processor.to_array(np.full((51, 224, 3), 255, np.uint8))[0, :, 0, 0]
    npt.assert_array_equal(np.flatnonzero(ones == 1), np.arange(87, 138))


# -- calls -------------------------------------------------------------------------------------------------------------


def test_layouts_agree():
    image = photo(300, 260)
    processor = MobileNetV2ImageProcessor()
    array = processor.to_array(image)
    assert array.flags.c_contiguous
    assert array.shape == (1, 224, 224, 3)
    last = processor(image, return_tensors="np", data_format="channels_last").pixel_values
    assert_same_bits(array, last)
    assert_same_bits(array.transpose(0, 3, 1, 2), processor(image, return_tensors="np")["pixel_values"])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(PRESETS)), st.sampled_from([np.uint8, np.float32]), st.booleans())
def test_never_changes_the_callers_arrays(name, dtype, resize):
    image = photo(40, 50).astype(dtype)
    labels = photo(40, 50, 1)[..., 0]
    before, labels_before = image.copy(), labels.copy()
    overrides = {} if name == "raw" else {"do_resize": resize, "pad_size": {"height": 80, "width": 80}}
    processor = MobileNetV2ImageProcessor.preset(name, 40, do_reduce_labels=True, **overrides)
    results = processor(image, labels), processor.to_array(image), load_image(image)
    for array in (results[0].pixel_values[0], results[0].labels[0], results[1]):
        array += 1
    npt.assert_array_equal(image, before)
    npt.assert_array_equal(labels, labels_before)


@pytest.mark.parametrize(("framework", "module"), [("pt", "torch"), ("tf", "tensorflow"), ("jax", "jax")])
def test_tensors_of_other_frameworks(framework, module):
    package = pytest.importorskip(module)
    tensor = MobileNetV2ImageProcessor()(photo(40, 50), return_tensors=framework).pixel_values
    assert tuple(tensor.shape) == (1, 3, 224, 224)
    assert package.__name__ in type(tensor).__module__
    npt.assert_array_equal(np.asarray(tensor), MobileNetV2ImageProcessor()(photo(40, 50)).pixel_values)


def test_missing_framework_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ImportError, match=r"return_tensors='pt' needs torch"):
        MobileNetV2ImageProcessor()(photo(40, 50), return_tensors="pt")


def test_features_have_attributes_and_keys():
    features = MobileNetV2ImageProcessor()(photo(40, 50))
    assert features.pixel_values is features["pixel_values"]
    assert dict(**features).keys() == {"pixel_values"}
    with pytest.raises(AttributeError, match="pixel_values"):
        _ = features.labels


def test_old_name_warns():
    with pytest.warns(FutureWarning, match="MobileNetV2ImageProcessor"):
        processor = MobileNetV2FeatureExtractor(do_resize=False)
    assert isinstance(processor, MobileNetV2ImageProcessor)
    assert processor.do_resize is False
    assert processor.to_dict()["image_processor_type"] == "MobileNetV2ImageProcessor"


def test_integers_and_pairs_for_sizes():
    processor = MobileNetV2ImageProcessor(size=300, crop_size=[96, 128])
    assert processor.size == {"shortest_edge": 300}
    assert processor.crop_size == {"height": 96, "width": 128}
    assert MobileNetV2ImageProcessor(size=None, do_resize=None) == MobileNetV2ImageProcessor()


@pytest.mark.parametrize("size", [(40, 60), (1, 500), (333, 300)])
def test_ssd_prepares_as_its_graph_does(size: tuple[int, int]) -> None:
    """Bit-equal: resized in float32, then scaled."""
    tf = pytest.importorskip("tensorflow")
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    resized = tf.compat.v1.image.resize_bilinear(photo[None].astype(np.float32), (300, 300), align_corners=False)
    reference = 0.007843138 * resized - 1.0
    comp = MobileNetV2ImageProcessor.preset("ssd").to_array([photo], min_side=1)
    npt.assert_array_equal(comp, reference.numpy())
