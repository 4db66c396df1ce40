"""Boxes against plain loops: the code of SSD, clipping, overlap."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import box_arrays, seeds

from npmnv2.kernels import box_areas, clip_boxes, decode_boxes, decode_boxes_tflite, encode_boxes, overlaps


@pytest.mark.parametrize("decode", [decode_boxes, decode_boxes_tflite])
@given(seeds, st.integers(0, 9))
def test_codes_become_boxes(decode, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    codes, anchors = rng.normal(0, 3, (count, 4)).astype(np.float32), rng.uniform(0.1, 1, (count, 4)).astype(np.float32)
    boxes = decode(codes, anchors)
    assert boxes.dtype == np.float32
    ref = np.array([naive.decode_box(code, anchor) for code, anchor in zip(codes, anchors)]).reshape(-1, 4)
    np.testing.assert_allclose(boxes, ref, rtol=0, atol=1e-5)


@given(seeds)
def test_codes_of_boxes_are_decoded_to_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner, anchors = rng.uniform(-0.2, 1, (2, 5, 2)), rng.uniform(0.1, 1, (5, 4))
    boxes = np.concatenate([corner[0], corner[0] + rng.uniform(0.01, 1, (5, 2))], axis=1)
    np.testing.assert_allclose(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, rtol=0, atol=1e-12)


def test_a_batch_is_decoded_as_its_images() -> None:
    rng = np.random.default_rng(0)
    codes, anchors = rng.normal(size=(2, 7, 4)).astype(np.float32), rng.uniform(0.1, 1, (7, 4)).astype(np.float32)
    np.testing.assert_array_equal(decode_boxes(codes, anchors)[1], decode_boxes(codes[1], anchors))


def test_an_anchor_is_the_box_of_the_code_zero() -> None:
    anchors = np.array([[0.5, 0.5, 0.2, 0.4]], np.float32)
    np.testing.assert_allclose(decode_boxes(np.zeros((1, 4), np.float32), anchors), [[0.4, 0.3, 0.6, 0.7]], atol=1e-7)


def test_boxes_are_cut_to_the_input() -> None:
    boxes = np.array([[-0.5, 0.25, 0.5, 1.5], [1.25, 0, 2, 1], [0, 0, 1, 1]], np.float32)
    clipped = clip_boxes(boxes)
    np.testing.assert_array_equal(clipped, [[0, 0.25, 0.5, 1], [1, 0, 1, 1], [0, 0, 1, 1]])
    np.testing.assert_array_equal(box_areas(clipped), [0.375, 0, 1])
    assert boxes[0, 0] == -0.5, "arguments must not change"


@given(box_arrays(), box_arrays())
def test_overlaps_agree_with_plain_loops(first: np.ndarray, second: np.ndarray) -> None:
    ref = np.array([[naive.overlap(a, b) for b in second] for a in first], np.float32).reshape(len(first), len(second))
    np.testing.assert_array_equal(overlaps(first, second), ref)
