"""Predictions as tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from npmnv2 import Prediction

LABELS = ("background", "cat, tom", "crane", "crane")
PREDICTION = Prediction.from_logits(
    np.array([0.0, 3.0, 1.0, 1.0], np.float32), LABELS, 3, "a.jpg", (None, "n02", "n03", "n04")
)


def test_ranked_with_ties_by_index() -> None:
    assert [(c.index, c.wnid, c.label) for c in PREDICTION] == [
        (1, "n02", "cat, tom"),
        (2, "n03", "crane"),
        (3, "n04", "crane"),
    ]
    assert PREDICTION.top.score == pytest.approx(np.exp(3) / (1 + np.exp(3) + 2 * np.e))
    assert PREDICTION[1:] == PREDICTION.candidates[1:]


def test_prints_as_a_table() -> None:
    assert str(PREDICTION).splitlines() == [
        "a.jpg",
        "   75.7%     1  n02        cat, tom",
        "   10.2%     2  n03        crane",
        "   10.2%     3  n04        crane",
    ]
    assert "n0" not in str(Prediction.from_logits(np.zeros(4), LABELS))


def test_json_and_csv() -> None:
    loaded = json.loads(PREDICTION.to_json())
    assert loaded["source"] == "a.jpg"
    assert loaded["candidates"][0]["label"] == "cat, tom"
    rows = list(csv.DictReader(io.StringIO(PREDICTION.to_csv())))
    assert (rows[0]["source"], rows[0]["rank"], rows[0]["label"]) == ("a.jpg", "1", "cat, tom")
    assert float(rows[0]["score"]) == pytest.approx(PREDICTION.top.score, abs=1e-6)
    assert len(PREDICTION.to_csv(header=False).splitlines()) == 3


def test_top_k_beyond_the_classes_gives_all() -> None:
    assert len(Prediction.from_logits(np.zeros(4), LABELS, 99)) == 4


def test_a_score_that_rounds_to_nothing_is_seen() -> None:
    prediction = Prediction.from_logits(np.array([10.0, 0.0], np.float32), ("a", "b"))
    assert str(prediction).splitlines() == ["  100.0%     0  a", "   <0.1%     1  b"]


def test_repr_is_short() -> None:
    assert repr(PREDICTION) == "<Prediction a.jpg: 75.7% cat, tom, 10.2% crane, … 1 more>"
    assert repr(Prediction.from_logits(np.zeros(2), ("x", "y"))) == "<Prediction: 50.0% x, 50.0% y>"


def test_html_shows_the_photo_and_escapes(tmp_path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "<b>.png")
    page = Prediction.from_logits(np.zeros(1), ("<script>",), 1, str(tmp_path / "<b>.png"))._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "data:image/jpeg;base64," in page
    assert "<img" not in PREDICTION._repr_html_()


def test_plain_values() -> None:
    first = PREDICTION.to_dict()["candidates"][0]
    assert first == {"index": 1, "wnid": "n02", "label": "cat, tom", "score": PREDICTION.top.score}
