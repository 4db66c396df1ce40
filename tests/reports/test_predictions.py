"""Predictions as pages: classes, masks and boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npmnv2 import Detections
from npmnv2.labels import segmentation_labels
from npmnv2.reports.predictions import PredictionsReport
from npmnv2.results.prediction import Candidate, Prediction
from npmnv2.results.segmentation import Segmentation

HOSTILE = '<script>document.title="taken"</script>"'
PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def prediction(label: str, score: float, source: str | None) -> Prediction:
    return Prediction((Candidate(1, None, label, score), Candidate(2, None, "other", 0.1)), source)


def segmentation(classes: list[int]) -> Segmentation:
    label_map = np.resize(np.array(classes, np.int32), (60, 80))
    return Segmentation(label_map, segmentation_labels("voc"), PHOTO, "street.jpg")


def detections(count: int) -> Detections:
    boxes = np.array([[5, 5, 40, 50]], np.float32)[:count]
    return Detections(
        boxes, np.array([1])[:count], ("person",)[:count], np.array([0.9])[:count], (60, 80), "a.jpg", image=PHOTO
    )


def test_photos_and_table_in_a_browser(chromium, tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.fromarray(PHOTO).save(photo)
    report = PredictionsReport(HOSTILE)
    for label, score in (("cat", 0.5), (HOSTILE, 0.9), ("cat", 0.7)):
        report.add(prediction(label, score, HOSTILE), str(photo))
    report.write(tmp_path / "page.html")
    chromium.look(390)
    chromium.open(tmp_path / "page.html")
    assert chromium.complaints() == []
    assert chromium.evaluate("document.documentElement.scrollWidth") == 390
    assert chromium.evaluate("document.title") == f"3 photos seen by {HOSTILE}"
    assert chromium.evaluate("document.images.length") == 3
    assert chromium.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    assert "2 different classes come first, cat most often (2 times)" in chromium.evaluate("document.body.innerText")
    chromium.click("th:nth-child(3) button")
    scores = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[2].textContent)"
    assert chromium.evaluate(scores) == ["50.0%", "70.0%", "90.0%"]


def test_masks_have_swatches_and_the_background_is_not_news(chromium, tmp_path: Path) -> None:
    report = PredictionsReport("deeplab")
    report.add(segmentation([0, 0, 0, 15, 15, 8]))
    report.write(tmp_path / "page.html")
    chromium.open(tmp_path / "page.html")
    assert chromium.evaluate("document.querySelectorAll('.swatch').length") == 2
    assert chromium.evaluate("document.querySelectorAll('table').length") == 0
    text = chromium.evaluate("document.body.innerText")
    assert "person: 33.3%" in text
    assert "background" not in text
    colors = "getComputedStyle(document.querySelector('.swatch')).backgroundColor"
    assert chromium.evaluate(colors).startswith("rgb(")


@pytest.mark.parametrize(("count", "words"), [(1, "person: 90.0%"), (0, "nothing found")])
def test_boxes(count, words) -> None:
    report = PredictionsReport("ssd")
    report.add(detections(count))
    assert words in report.page()
    assert "data:image/jpeg" in report.page()


def test_photos_without_a_file_and_none_at_all() -> None:
    report = PredictionsReport("m")
    assert "no photo could be used" in report.page()
    report.add(prediction("cat", 0.5, None), b"bytes")
    assert "1 photo seen by m" in report.page()
    assert "<img" not in report.page()
    report.add(prediction("cat", 0.5, "gone.jpg"))
    assert "cat comes first on all of them" in report.page()
    assert "only background" not in report.page()


def test_a_photo_of_nothing_but_background() -> None:
    report = PredictionsReport("deeplab")
    report.add(segmentation([0]))
    assert "background: 100.0%" in report.page()
