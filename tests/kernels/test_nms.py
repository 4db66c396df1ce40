"""Non-maximum suppression against plain loops and TensorFlow's operators: the same boxes in the same order."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import box_arrays, score_arrays

from npmnv2.kernels import non_max_suppression, padded

thresholds = st.sampled_from([0.0, 0.25, 0.5, 0.6, 1.0])
LOWEST = float(np.finfo(np.float32).min)


@st.composite
def arguments(draw):
    boxes = draw(box_arrays())
    return boxes, draw(score_arrays(len(boxes))), draw(st.integers(0, 12)), draw(thresholds)


@given(arguments(), thresholds)
def test_selects_as_plain_loops_do(drawn, least: float) -> None:
    boxes, scores, count, iou = drawn
    selected = non_max_suppression(boxes, scores, count, iou, least)
    reference = naive.non_max_suppression(boxes, scores, count, np.float32(iou), least)
    assert selected.indices.tolist() == reference
    np.testing.assert_array_equal(selected.scores, scores[reference])


@settings(max_examples=60)
@given(arguments(), thresholds, st.sampled_from([0.0, 0.0, 0.1, 0.5, 2.0]))
def test_selects_as_tensorflow_does(drawn, least: float, sigma: float) -> None:
    tf = pytest.importorskip("tensorflow")
    boxes, scores, count, iou = drawn
    if sigma == 0:
        v2 = tf.raw_ops.NonMaxSuppressionV2(boxes=boxes, scores=scores, max_output_size=count, iou_threshold=iou)
        assert non_max_suppression(boxes, scores, count, iou).indices.tolist() == v2.numpy().tolist()
        operators: dict = {"boxes": boxes, "scores": scores, "max_output_size": count, "iou_threshold": iou}
        ours = non_max_suppression(boxes, scores, count, iou, least)
        v3 = tf.raw_ops.NonMaxSuppressionV3(**operators, score_threshold=least)
        assert ours.indices.tolist() == v3.numpy().tolist()
        v4 = tf.raw_ops.NonMaxSuppressionV4(**operators, score_threshold=least, pad_to_max_output_size=True)
        assert padded(ours, count).indices.tolist() == v4.selected_indices.numpy().tolist()
        assert len(ours.indices) == v4.valid_outputs
    v5 = tf.raw_ops.NonMaxSuppressionV5(
        boxes=boxes,
        scores=scores,
        max_output_size=count,
        iou_threshold=iou,
        score_threshold=least,
        soft_nms_sigma=sigma,
        pad_to_max_output_size=True,
    )
    ours = non_max_suppression(boxes, scores, count, iou, least, sigma)
    full = padded(ours, count)
    assert full.indices.tolist() == v5.selected_indices.numpy().tolist()
    # Both exponentials are right up to half a unit in the last place, and a bit; a score is a product of some.
    np.testing.assert_allclose(full.scores, v5.selected_scores.numpy(), rtol=1e-6)
    assert len(ours.indices) == v5.valid_outputs


def test_of_equal_scores_the_first_box_wins() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 1.01], [0, 0, 1, 0.99]], np.float32)
    assert non_max_suppression(boxes, np.full(3, 0.5, np.float32), 3).indices.tolist() == [0]


def test_an_overlap_of_exactly_the_threshold_suppresses_nothing() -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert non_max_suppression(boxes, scores, 2, 0.5).indices.tolist() == [0, 1]
    assert non_max_suppression(boxes, scores, 2, 0.49).indices.tolist() == [0]


@pytest.mark.parametrize("worst", [np.nan, -np.inf, LOWEST])
def test_scores_that_are_no_candidates(worst: float) -> None:
    boxes = np.array([[0, 0, 1, 1], [2, 2, 3, 3]], np.float32)
    assert non_max_suppression(boxes, np.array([worst, LOWEST / 2], np.float32), 2).indices.tolist() == [1]


def test_boxes_without_area_suppress_nothing() -> None:
    boxes = np.zeros((4, 4), np.float32)
    assert non_max_suppression(boxes, np.full(4, 0.5, np.float32), 9, 0.0).indices.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("scores", ["equal", "rising"])
def test_five_thousand_boxes_at_one_place_are_one(scores: str) -> None:
    """Of all that are alike the best remains, in the time of a suppression and not of its square."""
    boxes = np.tile(np.array([0.1, 0.1, 0.9, 0.9], np.float32), (5000, 1))
    values = np.full(5000, 0.5, np.float32) if scores == "equal" else np.linspace(0.1, 0.9, 5000, dtype=np.float32)
    assert non_max_suppression(boxes, values, 100).indices.tolist() == [0 if scores == "equal" else 4999]


def test_many_boxes_are_suppressed_in_blocks_as_in_one() -> None:
    """More candidates than are sorted and compared at once."""
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    center, half = rng.uniform(0, 1, (4000, 2)), rng.uniform(0.02, 0.2, (4000, 2))
    boxes = np.concatenate([center - half, center + half], axis=1).astype(np.float32)
    scores = rng.choice(np.linspace(0, 1, 900, dtype=np.float32), 4000)
    for count in (100, 4000):
        reference = tf.raw_ops.NonMaxSuppressionV3(
            boxes=boxes, scores=scores, max_output_size=count, iou_threshold=0.3, score_threshold=0.05
        )
        assert non_max_suppression(boxes, scores, count, 0.3, 0.05).indices.tolist() == reference.numpy().tolist()


def test_arguments_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(size=(20, 4)).astype(np.float32), rng.uniform(size=20).astype(np.float32)
    copies = boxes.copy(), scores.copy()
    non_max_suppression(boxes, scores, 10)
    np.testing.assert_array_equal(boxes, copies[0])
    np.testing.assert_array_equal(scores, copies[1])
