"""The classifier: logits with pooling windows, `predict`, and photos that cannot be used."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from networks import SMALL
from PIL import Image

from npmnv2 import (
    ImageError,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    MobileNetV2ImageProcessor,
    MobileNetV2Model,
    load,
)
from npmnv2.weights.native import write_h5


def test_fixed_window_equals_global_pooling_at_its_size(model) -> None:
    x = np.random.default_rng(2).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    fixed = MobileNetV2ForImageClassification(
        model.config.replace(pooling_window=2), model.weights, backend=model.backend.name
    )
    np.testing.assert_allclose(
        fixed(x, data_format="channels_last").logits, model(x, data_format="channels_last").logits, rtol=1e-5, atol=1e-5
    )
    larger = np.random.default_rng(3).uniform(-1, 1, (1, 128, 96, 3)).astype(np.float32)
    logits = fixed(larger, data_format="channels_last").logits
    assert logits.shape == (1, 3, 2, 3)
    with pytest.raises(ValueError, match=r"pooling_window \(=2\) must not be larger than the feature map"):
        fixed(x[:, :32, :32], data_format="channels_last")


def test_a_classifier_without_classes_takes_a_file_of_features(tmp_path: Path, pixels) -> None:
    body = MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=0), seed=0)
    write_h5(body.to_checkpoint(), tmp_path / "body.h5")
    model = MobileNetV2ForImageClassification.from_pretrained(tmp_path / "body.h5")
    np.testing.assert_array_equal(model(pixels).logits, body(pixels).pooler_output)


def test_predict_one_list_and_iterator(model, photos) -> None:
    one = model.predict(photos[0])
    assert [c.index for c in one] == list(np.argsort(-one.logits, kind="stable"))
    assert one.top.label in ("cat", "dog", "owl")
    assert one.source == photos[0]
    assert sum(c.score for c in one) == pytest.approx(1, abs=1e-6)
    many = model.predict(photos, top_k=2, batch_size=2)
    assert [p.source for p in many] == photos
    assert all(len(p) == 2 for p in many)
    # NumPy's matrix product may round differently for another batch size; Numba's may not.
    np.testing.assert_allclose(many[0].logits, one.logits, rtol=1e-4, atol=1e-4)
    stream = model.predict(iter(photos), batch_size=3)
    assert iter(stream) is stream
    # The labels are compared where rounding cannot turn them: the logits of two classes lie further apart than that.
    margins = [np.diff(np.sort(p.logits)[-2:])[0] for p in many]
    assert min(margins) > 1e-3
    assert [p.top.label for p in stream] == [p.top.label for p in many]


def test_an_endless_iterator_is_read_no_further_than_a_batch(model, photos) -> None:
    taken = []

    def endless():
        for path in itertools.cycle(photos):
            taken.append(path)
            yield path

    stream = model.predict(endless(), batch_size=2)
    assert not taken
    next(stream)
    assert len(taken) == 2


def test_predict_takes_arrays_and_pillow(model, photos) -> None:
    image = Image.open(photos[0])
    array = np.asarray(image)
    reference = model.predict(photos[0]).logits
    np.testing.assert_array_equal(model.predict(image).logits, reference)
    np.testing.assert_array_equal(model.predict(array).logits, reference)
    np.testing.assert_allclose(model.predict(np.stack([array, array]))[1].logits, reference, rtol=1e-4, atol=1e-4)


def test_predict_refuses_nonsense(model, photos, tmp_path) -> None:
    for options, message in [({"top_k": 0}, "top_k"), ({"top_k": True}, "top_k"), ({"batch_size": 0}, "batch_size")]:
        with pytest.raises(ValueError, match=message):
            model.predict(photos[0], **options)
    with pytest.raises(TypeError, match="images must be an image"):
        model.predict(3)
    with pytest.raises(FileNotFoundError, match="absent"):
        model.predict(str(tmp_path / "absent.jpg"))
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty\.jpg"):
        model.predict(tmp_path / "empty.jpg")


def test_real_photos(shared_data: Path, backend, tmp_path: Path) -> None:
    """Real weights name what is on real photos."""
    from npmnv2.weights_tools import convert

    source = shared_data / "weights/classification/mobilenet_v2_1.0_224_slim_variables.npz"
    convert(source, tmp_path / "m.h5")
    real = load(tmp_path / "m.h5", backend=backend)
    expected = {"cat.bmp": 286, "parrot.jpg": 89, "grace_hopper.bmp": 653, "sunflower.bmp": 986}
    found = {name: real.predict(shared_data / "photos" / name).top.index for name in expected}
    assert found == expected
    cat = real.predict(shared_data / "photos" / "cat.bmp").top
    assert (cat.wnid, cat.label) == ("n02124075", "Egyptian cat")


def test_images_of_different_sizes_without_a_resize(backend) -> None:
    raw = MobileNetV2ForImageClassification(
        SMALL, seed=0, backend=backend, processor=MobileNetV2ImageProcessor.preset("keras", 64)
    )
    raw.processor = MobileNetV2ImageProcessor(do_resize=False, do_center_crop=False)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, 40, 3), np.uint8) for h in (40, 40, 50)]
    results = raw.predict(images)
    for image, result in zip(images, results):
        np.testing.assert_allclose(raw.predict(image).logits, result.logits, rtol=1e-4, atol=1e-5)


def test_predict_ranks_the_mean_over_a_fixed_window(model) -> None:
    fixed = MobileNetV2ForImageClassification(
        model.config.replace(pooling_window=2), model.weights, backend=model.backend.name
    )
    x = np.random.default_rng(0).uniform(-1, 1, (96, 128, 3)).astype(np.float32)
    logits = fixed(x[None], data_format="channels_last").logits[0]
    assert logits.shape == (2, 3, 3)
    comp = fixed.predict(x, transform="raw")
    np.testing.assert_allclose(comp.logits, logits.mean(axis=(0, 1)), rtol=1e-5, atol=1e-6)


# --- photos that cannot be used --------------------------------------------------------------------------------------


@pytest.fixture
def mixed(photos, tmp_path: Path) -> list[object]:
    """Good and bad photos in turn."""
    (tmp_path / "empty.jpg").write_bytes(b"")
    bad = [tmp_path / "empty.jpg", tmp_path / "absent.jpg", np.zeros((9, 64, 3), np.uint8)]
    return [photos[0], bad[0], photos[1], photos[2], bad[1], bad[2], photos[3]]


GOOD = [0, 2, 3, 6]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
def test_skipped_photos_spare_the_others(model, mixed, batch_size, caplog) -> None:
    with caplog.at_level(logging.WARNING, "npmnv2"):
        results = model.predict(mixed, errors="skip", batch_size=batch_size)
    assert [result.source for result in results] == [mixed[i] for i in GOOD]
    assert ["empty.jpg" in caplog.text, "absent.jpg" in caplog.text, "at least 32 × 32" in caplog.text] == [True] * 3
    stream = model.predict(iter(mixed), errors="skip", batch_size=batch_size)
    assert [result.source for result in stream] == [mixed[i] for i in GOOD]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_returned_exceptions_stand_where_the_results_would(model, mixed, batch_size) -> None:
    results = model.predict(iter(mixed), errors="return", batch_size=batch_size)
    kinds = [type(result) if isinstance(result, Exception) else result.source for result in results]
    assert kinds == [
        mixed[0], ImageError, mixed[2], mixed[3], FileNotFoundError, ImageError, mixed[6],
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_results_before_a_bad_photo_are_not_lost(model, mixed, batch_size) -> None:
    stream = model.predict(iter(mixed[2:]), batch_size=batch_size)
    assert [next(stream).source, next(stream).source] == [mixed[2], mixed[3]]
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        next(stream)


def test_errors_is_for_several_photos(model, photos) -> None:
    with pytest.raises(ValueError, match=r"errors \(='skip'\) is for several images; put the one into a list"):
        model.predict(photos[0], errors="skip")
    with pytest.raises(ValueError, match=r"errors \(='ignore'\) must be one of raise, skip, return"):
        model.predict(photos, errors="ignore")


def test_a_bug_is_not_an_error_of_a_photo(model, photos, monkeypatch) -> None:
    monkeypatch.setattr(type(model.processor), "to_array", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.predict(photos, errors="skip")


# --- arrays of other libraries ---------------------------------------------------------------------------------------


class Tensor:
    """Some library's tensor, which NumPy knows by one of the two protocols only."""

    def __init__(self, values: np.ndarray, protocol: str) -> None:
        self._values = values
        self.shape, self.ndim = values.shape, values.ndim
        for name in {"array": ("__array__",), "dlpack": ("__dlpack__", "__dlpack_device__")}[protocol]:
            setattr(type(self), name, lambda self, *a, _name=name, **o: getattr(self._values, _name)(*a, **o))

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self):
        return (type(self)(values, "array") for values in self._values)


def tensor(values: np.ndarray, library: str) -> object:
    if library == "torch":
        return pytest.importorskip("torch").from_numpy(values.copy())
    if library == "tensorflow":
        return pytest.importorskip("tensorflow").constant(values)
    return type("Tensor", (Tensor,), {})(values, library)


LIBRARIES = ["array", "dlpack", "torch", pytest.param("tensorflow", marks=pytest.mark.slow)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_tensors_are_photos(model, photos, library) -> None:
    array = np.asarray(Image.open(photos[0]))
    reference = model.predict(array)
    np.testing.assert_array_equal(model.predict(tensor(array, library)).logits, reference.logits)
    np.testing.assert_array_equal(model.features(tensor(array, library)), model.features(array))


@pytest.mark.parametrize("library", LIBRARIES)
def test_channels_first_is_refused_with_what_to_do(model, library) -> None:
    """It once gave one prediction for each channel."""
    with pytest.raises(ImageError, match=r"got \(3, 64, 80\); channels come last: np\.moveaxis\(image, 0, -1\)"):
        model.predict(tensor(np.zeros((3, 64, 80), np.uint8), library))


def test_batches_of_tensors_are_lists(model, photos) -> None:
    array = np.asarray(Image.open(photos[0]))
    results = model.predict(tensor(np.stack([array, array]), "torch"))
    assert len(results) == 2
    np.testing.assert_allclose(results[1].logits, model.predict(array).logits, rtol=1e-4, atol=1e-4)


def test_tensors_that_do_not_become_arrays(model) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"Tensor must be convertible to a NumPy array.*detach\(\)\.cpu\(\)"):
        model.predict(torch.zeros((64, 64, 3), requires_grad=True))
    with pytest.raises(TypeError, match=r"detach\(\)\.cpu\(\)"):
        model(torch.zeros((1, 3, 64, 64), requires_grad=True))
    with pytest.raises(TypeError, match=r"float\(\)\.numpy\(\)"):
        model(torch.zeros((1, 3, 64, 64), dtype=torch.bfloat16))


def test_pixel_values_of_pytorch(model, pixels) -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(model(torch.from_numpy(pixels)).logits, model(pixels).logits)


def test_a_column_of_paths_is_a_list(model, photos) -> None:
    for column in (np.array(photos), np.array(photos, object)):
        assert [result.source for result in model.predict(column)] == photos


# --- how photos are prepared -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hf", "slim", "keras", "deeplab"])
def test_transform_is_a_preset_of_the_models_size(model, photos, name) -> None:
    processor = MobileNetV2ImageProcessor.preset(name, 64)
    reference = model.run(processor.to_array([photos[0]]), ["predictions"])["predictions"][0]
    np.testing.assert_array_equal(model.predict(photos[0], transform=name).logits, reference)
    np.testing.assert_array_equal(model.predict(photos[0], transform=processor).logits, reference)
    np.testing.assert_array_equal(
        model.features(photos[0], transform=name), model.features(photos[0], transform=processor)
    )


@pytest.mark.parametrize("own", ["hf", "keras", "deeplab"])
def test_a_preset_has_the_size_of_the_models_own_processor(model, photos, own) -> None:
    processor = MobileNetV2ImageProcessor.preset(own, (96, 80))
    other = type(model)(model.config, model.weights, backend=model.backend.name, processor=processor)
    reference = other.predict(photos[0], transform=MobileNetV2ImageProcessor.preset("slim", (96, 80)))
    np.testing.assert_array_equal(other.predict(photos[0], transform="slim").logits, reference.logits)


def test_raw_pixels_are_taken_as_they_are(model) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (64, 64, 3)).astype(np.float32)
    reference = model.run(x[None], ["predictions"])["predictions"][0]
    np.testing.assert_array_equal(model.predict(x, transform="raw").logits, reference)


def test_unknown_transforms(model, photos) -> None:
    with pytest.raises(ValueError, match=r"transform \(='torch'\) must be an image processor or one of hf, slim"):
        model.predict(iter(photos), transform="torch")
    with pytest.raises(ValueError, match="transform"):
        model.features(photos, transform=3)


@pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": 2.0}, {"top_k": "5"}, {"batch_size": -1}])
def test_options_are_checked_before_the_first_photo(model, options) -> None:
    """Not when an iterator is read, and not once for every photo."""
    with pytest.raises(ValueError, match=rf"{next(iter(options))} \(=.*must be an integer of at least 1"):
        model.predict(iter(["absent.jpg"]), **options)


def test_numbers_of_numpy_count_as_well(model, photos) -> None:
    assert len(model.predict(photos[0], np.int64(2))) == 2
