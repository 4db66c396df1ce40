"""Predictions as tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

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
