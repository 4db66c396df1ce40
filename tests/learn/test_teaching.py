"""Teaching on real pictures, and what becomes of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import npmnv2
from npmnv2 import ArgumentError, ImageError, WeightsError
from npmnv2.learn.teaching import TaughtClassifier, teach
from npmnv2.weights.native import stated_digest

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def taught(digits) -> TaughtClassifier:
    """By the classifier in the package, from 24 digits of each class; 16 are set aside."""
    learned = {label: images[:24] for label, images in digits.items()}
    return teach(learned, test={label: images[24:] for label, images in digits.items()})


def scores_of(model, images) -> np.ndarray:
    """Scores in the order of the classes."""
    return np.array([[c.score for c in sorted(p, key=lambda c: c.index)] for p in model.predict(images, top_k=99)])


def test_digits_are_learned(taught) -> None:
    report = taught.report
    assert report.labels == ("0", "4", "7")
    assert report.accuracy > 0.9
    assert report.test.accuracy > 0.9
    assert report.interval[0] < report.accuracy <= report.interval[1]
    assert report.folds == 5
    assert 0.05 < report.temperature < 20


def test_the_report_speaks_of_the_model(taught, digits) -> None:
    """The scores of photos set aside are those that the model gives them."""
    images = [image for of_class in digits.values() for image in of_class[24:]]
    assert np.allclose(scores_of(taught.model, images), taught.report.test.scores, atol=1e-5)


def test_the_file_is_a_classifier_like_any_other(taught, digits, tmp_path) -> None:
    taught.save(tmp_path / "mine.h5")
    model = npmnv2.load(tmp_path / "mine.h5")
    images = digits["4"][:3]
    assert model.labels == ("0", "4", "7")
    assert model.processor == taught.model.processor
    assert np.array_equal(scores_of(model, images), scores_of(taught.model, images))
    assert model.source["taught"]["accuracy"] == round(taught.report.accuracy, 4)
    assert "/" not in str(model.source["taught"]["backbone"]["file"])


def test_the_same_file_in_every_run(taught, digits, tmp_path) -> None:
    again = teach({label: images[:24] for label, images in digits.items()}, batch_size=5, n_threads=1)
    for name, one in (("a.h5", taught), ("b.h5", again)):
        one.save(tmp_path / name)
    assert stated_digest(tmp_path / "a.h5") == stated_digest(tmp_path / "b.h5")


def test_keras_opens_the_file(taught, digits, tmp_path) -> None:
    keras = pytest.importorskip("keras")
    taught.save(tmp_path / "mine.h5")
    network = keras.models.load_model(tmp_path / "mine.h5", compile=False)
    x = taught.model.prepare(digits["7"][:4])
    assert np.allclose(network.predict(x, verbose=0), scores_of(taught.model, digits["7"][:4]), atol=1e-4)


@pytest.mark.slow
def test_transformers_opens_the_directory(digits, tmp_path) -> None:
    """With transformers' own way of preparing photos, from the photo to the scores."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    taught = teach({label: images[:8] for label, images in digits.items()}, transform="hf")
    taught.save(tmp_path / "mine")
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "mine").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "mine", backend="pil")
    photos = [image.convert("RGB") for image in digits["0"][:4]]
    with torch.no_grad():
        scores = model(**processor(photos, return_tensors="pt")).logits.softmax(-1).numpy()
    assert list(model.config.id2label.values()) == ["0", "4", "7"]
    assert np.allclose(scores, scores_of(taught.model, photos), atol=1e-4)


@pytest.mark.parametrize("name", ["mine.tflite", "mine.onnx", "mine.npz"])
def test_the_other_formats(taught, tmp_path, name) -> None:
    taught.save(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 8_000_000


def test_a_network_that_keras_lacks_is_saved_natively(digits, network, tmp_path) -> None:
    odd = type(network)(network.config.replace(pooling_window=2), network.weights)
    teach({label: images[:4] for label, images in digits.items()}, model=odd).save(tmp_path / "mine.h5")
    assert npmnv2.load(tmp_path / "mine.h5").labels == ("0", "4", "7")


def test_any_classifier_or_backbone_by_file(network, digits, tmp_path) -> None:
    network.save_pretrained(tmp_path / "net")
    photos = {label: images[:4] for label, images in digits.items()}
    by_file, by_model = (teach(photos, model=one) for one in (tmp_path / "net", network))
    assert np.array_equal(by_file.report.validation.scores, by_model.report.validation.scores)
    assert by_file.report.backbone == "net"
    features = np.stack(network.features(photos["0"]))
    assert np.allclose(np.stack(by_model.model.features(photos["0"])), features, rtol=1e-3, atol=1e-4)


def test_models_for_other_tasks_are_refused(digits) -> None:
    config = npmnv2.MobileNetV2Config(depth_multiplier=0.35, image_size=64)
    segmenter = npmnv2.MobileNetV2ForSemanticSegmentation(config, seed=0)
    with pytest.raises(WeightsError, match="classification or features model, got segmentation"):
        teach(digits, model=segmenter)


# --- photos -----------------------------------------------------------------------------------------------------------


def test_a_folder_with_a_bad_photo(folder, network) -> None:
    bad = folder / "4" / "broken.jpg"
    bad.write_bytes(b"no photo")
    try:
        with pytest.raises(ImageError, match=r"broken\.jpg"):
            teach(folder, model=network)
        report = teach(folder, model=network, errors="skip").report
    finally:
        bad.unlink()
    assert len(report.validation.truth) == 24
    assert len(report.skipped) == 1
    assert "broken.jpg" in report.skipped[0]
    assert any("fewer than 20 photos" in note and "4 (8)" in note for note in report.notes)


def test_a_class_of_which_too_few_photos_are_usable(network, digits, tmp_path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    photos = {"0": digits["0"][:4], "4": [digits["4"][0], tmp_path / "bad.png"]}
    with pytest.raises(ArgumentError, match=r"too few are of 4 \(1\)"):
        teach(photos, model=network, errors="skip")


def test_near_duplicates_across_classes_are_reported(shared_data: Path) -> None:
    photos = [
        Image.open(shared_data / "photos" / name).convert("RGB") for name in ("cat.bmp", "parrot.jpg", "sunflower.bmp")
    ]
    photos += [
        Image.open(shared_data / "photos" / name).convert("RGB") for name in ("grace_hopper.bmp", "cats_and_dogs.jpg")
    ]
    cat = photos[0]
    close = cat.crop((4, 4, cat.width - 4, cat.height - 4))
    report = teach({"a": photos[:3], "b": [*photos[3:], close]}).report
    (pair,) = report.look_alikes
    assert (pair.first, pair.second) == ("a[0]", "b[2]")
    assert pair.similarity > 0.9
    assert report.validation.independent == 5
    assert "a[0] (a) and b[2] (b)" in str(report)


def test_a_class_of_near_duplicates_only(network, digits) -> None:
    one = digits["4"][0]
    report = teach({"0": digits["0"][:6], "4": [one, one, one]}, model=network).report
    assert "all photos of 4 are near duplicates: its figures are too good" in report.notes
    assert report.folds == 3
    # Copies are in different folds, for want of others, but count once.
    assert report.validation.independent == 7


def test_photos_that_are_all_the_same(network, digits) -> None:
    one = digits["4"][0]
    report = teach({"a": [one] * 3, "b": [one] * 3}, model=network).report
    assert (report.accuracy, report.validation.independent) == (0.5, 1)
    assert {(pair.first_label, pair.second_label) for pair in report.look_alikes} == {("a", "b")}


def test_names_that_differ_by_case_are_noted(network, digits) -> None:
    report = teach({"Cat": digits["0"][:3], "cat": digits["4"][:3], "dog": digits["7"][:3]}, model=network).report
    assert "names of different classes that differ by case only: Cat, cat" in report.notes


def test_test_photos_that_were_learned_are_reported(network, digits) -> None:
    photos = {label: images[:4] for label, images in digits.items()}
    report = teach(photos, test={"4": [photos["4"][0]]}, model=network).report
    assert any("near duplicates of photos learned from, which is too easy: 1" in note for note in report.notes)
    assert report.test.to_dict()["photos"] == 1


def test_test_classes_must_be_known(network, digits) -> None:
    with pytest.raises(ArgumentError, match=r"test must have the classes of photos \(0, 4, 7\), got 9"):
        teach(digits, test={"9": digits["0"]}, model=network)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "at least 2"),
        ({"errors": "return"}, "'raise' or"),
        ({"seed": -1}, "seed .=-1. must be an integer from 0"),
        ({"seed": 1.5}, "seed .=1.5. must be an integer"),
    ],
)
def test_impossible_options(options, message, digits) -> None:
    with pytest.raises(ArgumentError, match=message):
        teach(digits, **options)


def test_two_classes(network, digits) -> None:
    taught = teach({label: digits[label][:6] for label in ("0", "7")}, model=network)
    assert taught.model.predict(digits["0"][0]).top.label == "0"
    assert taught.model.predict(digits["7"][0]).top.label == "7"
