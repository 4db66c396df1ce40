"""Figures of a report, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from npmnv2 import TeachingReport
from npmnv2.results.teaching import Evaluation, LookAlike, imbalance_notes, wilson_interval

# Classes a and b: three photos of a, one of them taken for b; one of b, recognized.
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
EVALUATION = Evaluation(("a", "b"), ("1", "2", "3", "4"), np.array([0, 0, 0, 1]), SCORES, 4)
REPORT = TeachingReport(
    "net",
    EVALUATION,
    2,
    10.0,
    1.5,
    test=EVALUATION,
    look_alikes=(LookAlike("1", "a", "4", "b", 0.97),),
    skipped=("5: no image",),
    notes=("note <b>",),
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # R: prop.test(…, correct = FALSE) gives these.
    [(9, 10, 0.5958, 0.9821), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_wilsons_interval(successes, trials, low, high) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_no_trials_say_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_an_evaluation() -> None:
    assert EVALUATION.accuracy == 0.75
    assert EVALUATION.confusion.tolist() == [[2, 1], [0, 1]]
    assert EVALUATION.recall.tolist() == pytest.approx([2 / 3, 1])
    # Bins: 0.9 right; 0.8 wrong; 0.6 right; 0.7 right.
    assert EVALUATION.calibration_error == pytest.approx((0.1 + 0.8 + 0.4 + 0.3) / 4)
    first = EVALUATION.hardest(2)[0]
    assert first == ("2", "a", 0.2, "b", 0.8)
    assert [photo.name for photo in EVALUATION.hardest()] == ["2", "3", "4", "1"]


def test_near_duplicates_widen_the_interval() -> None:
    fewer = Evaluation(EVALUATION.labels, EVALUATION.names, EVALUATION.truth, SCORES, 2)
    assert fewer.interval[0] < EVALUATION.interval[0]
    assert fewer.interval[1] > EVALUATION.interval[1]


def test_a_class_without_photos() -> None:
    found = Evaluation(("a", "b"), ("1",), np.array([0]), SCORES[:1], 1)
    assert np.isnan(found.recall[1])


def test_text() -> None:
    text = str(REPORT)
    assert text.startswith("accuracy 75.0% (95 % interval 30.1% to 95.4%, 4 photos) on photos not seen, by 2-fold")
    assert "accuracy 75.0% (95 % interval 30.1% to 95.4%, 4 photos) on the test photos" in text
    assert "a           3       66.7%  b (1)" in text
    assert "2: a 20.0%, taken for b (80.0%)" in text
    assert "1 (a) and 4 (b), similarity 0.97" in text
    assert "note <b>" in text
    assert repr(REPORT) == "<TeachingReport: 2 classes, accuracy 75.0% (95 % interval 30.1% to 95.4%, 4 photos)>"


def test_json_and_html() -> None:
    data = json.loads(REPORT.to_json())
    assert data["validation"]["confusion"] == [[2, 1], [0, 1]]
    assert data["test"]["photos"] == 4
    assert data["look_alikes"][0]["second_label"] == "b"
    assert ">66.7%</td>" in REPORT._repr_html_()


@pytest.mark.parametrize("classes", [2, 30])
def test_a_plot_has_room_for_every_cell_and_name(classes: int) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    labels, truth = tuple(f"a long name {number}" for number in range(classes)), np.arange(classes)
    found = Evaluation(labels, labels, truth, np.eye(classes), classes)
    axes = TeachingReport("net", found, 2, 1.0, 1.0).plot()
    axes.figure.draw_without_rendering()
    side = axes.get_window_extent().height / classes
    assert all(text.get_window_extent().height < side for text in axes.texts)
    names = [label.get_window_extent() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    assert min(min(box.x0, box.y0) for box in names) >= 0
    pyplot.close("all")


def test_the_matrix_as_a_plot() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    axes = REPORT.plot(pyplot.figure().subplots())
    assert [text.get_text() for text in axes.texts] == ["2", "1", "1"]
    assert axes.get_title() == "75.0% of 4 photos"
    pyplot.close("all")


def test_notes_about_numbers() -> None:
    assert imbalance_notes(["a", "b"], [20, 100], 20, 5.0) == []
    few, unequal = imbalance_notes(["a", "b"], [19, 100], 20, 5.0)
    assert "a (19)" in few
    assert unequal.startswith("b has 100 photos, a 19")
